"""Anthropic's messages: what a Call says in OpenAI's chat shape, as blocks, and their events as pieces."""

import re
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import anthropic
import orjson
from django.conf import settings

from lib.secret import Secret
from providers import clients, framing
from providers.errors import CutOff, Garbled, refusal
from providers.shapes import NAME_CHARS, NOTHING, Call, Limits, Piece, ToolPiece, Usage, Watch, clean, input_of
from providers.vendors import ANTHROPIC_URL

LIGHT = framing.is_light(anthropic.AsyncAnthropic, anthropic.AsyncStream)
FINISH_REASONS = {
    "end_turn": "stop",
    "stop_sequence": "stop",
    "pause_turn": "stop",
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "refusal": "content_filter",
    "tool_use": "tool_calls",
}
FROM_CACHE = ("cache_creation_input_tokens", "cache_read_input_tokens")
PARAMS = {"temperature": "temperature", "top_p": "top_p", "top_k": "top_k", "stop": "stop_sequences"}
TOOL_CHOICES = {"auto": {"type": "auto"}, "none": {"type": "none"}, "required": {"type": "any"}}
NOT_IN_AN_ID = re.compile(r"[^a-zA-Z0-9_-]")  # of a tool call: other vendors' ids hold dots and colons
DATA_URL = re.compile(r"data:([\w/+.-]+);base64,")


async def stream(
    call: Call, *, key: Secret | None, limits: Limits, alive: Callable[[], object] | None = None
) -> AsyncGenerator[Piece, None]:
    base_url = call.base_url or settings.ANTHROPIC_BASE_URL or ANTHROPIC_URL
    client = clients.anthropic_client(base_url, key)
    at_start: Mapping[str, Any] = NOTHING
    at_end: Mapping[str, Any] = NOTHING
    model, stop_reason, stop_sequence, has_ended = "", "", "", False
    tools: dict[Any, _Tool] = {}
    with Watch(limits, alive) as watch:
        request = framing.Request(
            client=client,
            path="/v1/messages",
            body=body_of(call),
            stream_class=anthropic.AsyncStream[object],
            light=LIGHT,
            stock=lambda: _stock(client, call, watch),
            key=key,
            errors=anthropic.AnthropicError,
        )
        async with aclosing(framing.events(request, watch)) as events:
            async for event in events:
                kind = event.get("type")
                try:
                    if kind == "content_block_delta":
                        piece = event["delta"].get("text")
                        if piece:
                            if not watch.has_text:
                                watch.text_came()
                            yield clean(piece)
                        elif (tool := tools.get(event.get("index"))) and (
                            arguments := event["delta"].get("partial_json")
                        ):
                            tool.begun = True
                            yield ToolPiece(tool.number, arguments=clean(arguments))
                        elif not watch.has_text:
                            watch.text_came()  # it thinks: that is no text, and no silence either
                    elif kind == "content_block_start" and event["content_block"]["type"] == "tool_use":
                        block = event["content_block"]
                        tools[event["index"]] = tool = _Tool(len(tools), block.get("input") or {})
                        if not watch.has_text:
                            watch.text_came()
                        yield ToolPiece(tool.number, id=clean(block["id"]), name=clean(block["name"]))
                    elif kind == "content_block_stop" and (tool := tools.get(event.get("index"))) and not tool.begun:
                        yield ToolPiece(tool.number, arguments=orjson.dumps(tool.input).decode())
                    elif kind == "message_start":
                        model = event["message"].get("model") or model
                        at_start = _numbers(event["message"].get("usage"))
                    elif kind == "message_delta":
                        stop_reason = event["delta"].get("stop_reason") or stop_reason
                        stop_sequence = event["delta"].get("stop_sequence") or stop_sequence
                        at_end = _numbers(event.get("usage"))
                except (AttributeError, KeyError, TypeError):
                    raise Garbled from None
                if kind == "message_stop":
                    has_ended = True
                elif kind == "error" or (kind is None and event.get("error")):
                    raise refusal(event, key=key)
    if not has_ended:
        raise CutOff
    yield usage_of(at_start, at_end, model, stop_reason, stop_sequence)


def _stock(client: anthropic.AsyncAnthropic, call: Call, watch: Watch) -> Awaitable[AsyncIterator[Any]]:
    body = body_of(call)
    named = {name: body.pop(name) for name in ("model", "messages", "max_tokens", "stream")}
    return client.messages.create(**named, extra_body=body, timeout=framing.timeout(watch))  # some it has no name for


@dataclass(slots=True)
class _Tool:
    """A tool call that is being streamed. Its input may stand in the first event instead of in pieces."""

    number: int
    input: Mapping[str, Any]
    begun: bool = False


def body_of(call: Call) -> dict[str, Any]:
    system = "\n\n".join(filter(None, (_text(message) for message in call.messages if message["role"] == "system")))
    body: dict[str, Any] = {
        "model": call.model,
        "messages": list(_turns(message for message in call.messages if message["role"] != "system")),
        "max_tokens": call.max_tokens,
        "stream": True,
    }
    if system:
        body["system"] = system
    for name, theirs in PARAMS.items():
        if call.params.get(name) is not None:
            body[theirs] = call.params[name]
    if "temperature" in body:
        body["temperature"] = min(body["temperature"], 1.0)  # OpenAI's scale ends at 2
    if isinstance(body.get("stop_sequences"), str):
        body["stop_sequences"] = [body["stop_sequences"]]
    wanted_format = call.params.get("response_format") or NOTHING
    if wanted_format.get("type") == "json_schema":
        schema = wanted_format["json_schema"].get("schema") or {"type": "object"}
        body["output_config"] = {"format": {"type": "json_schema", "schema": schema}}
    if call.tools:
        body["tools"] = [_tool(tool) for tool in call.tools]
        choice = dict(TOOL_CHOICES.get(call.tool_choice, NOTHING))
        if call.tool_choice.startswith("="):
            choice = {"type": "tool", "name": call.tool_choice[1:]}
        if call.params.get("parallel_tool_calls") is False and choice.get("type") != "none":
            choice = {"type": "auto", **choice, "disable_parallel_tool_use": True}
        if choice:
            body["tool_choice"] = choice
    return body


def _tool(tool: Mapping[str, Any]) -> dict[str, Any]:
    told = {"name": tool["name"], "input_schema": {"type": "object", **(tool.get("parameters") or {})}}
    if tool.get("description"):
        told["description"] = tool["description"]
    if tool.get("strict"):
        told["strict"] = True
    return told


def _turns(messages: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """User and assistant in turn: the results of parallel calls must stand in one message, before any text.

    What is empty is left out, because it says nothing and is refused.
    """
    role, blocks = "", list[dict[str, Any]]()
    for message in messages:
        theirs = "assistant" if message["role"] == "assistant" else "user"
        said = list(_blocks(message))
        if said and theirs != role:
            yield from _turn(role, blocks)
            role, blocks = theirs, []
        blocks += said
    yield from _turn(role, blocks)


def _turn(role: str, blocks: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    if len(blocks) == 1 and blocks[0]["type"] == "text":
        yield {"role": role, "content": blocks[0]["text"]}
    elif blocks:
        yield {"role": role, "content": blocks}


def _blocks(message: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    content = message.get("content")
    said = [_part(part) for part in content] if isinstance(content, list) else [{"type": "text", "text": content or ""}]
    said = [block for block in said if block["type"] != "text" or block["text"]]
    if message["role"] == "tool":
        result: dict[str, Any] = {"type": "tool_result", "tool_use_id": _id(message["tool_call_id"])}
        if said:
            result["content"] = said[0]["text"] if isinstance(content, str) else said
        yield {**result, "is_error": True} if message.get("is_error") else result
        return
    yield from said
    for call in message.get("tool_calls") or ():
        function = call["function"]
        yield {
            "type": "tool_use",
            "id": _id(call["id"]),
            "name": function["name"],
            "input": input_of(function["arguments"]),
        }


def _part(part: Mapping[str, Any]) -> dict[str, Any]:
    if part["type"] != "image_url":
        return {"type": "text", "text": part["text"]}
    url = part["image_url"]["url"]
    if found := DATA_URL.match(url):
        return {
            "type": "image",
            "source": {"type": "base64", "media_type": found[1], "data": url[found.end() :]},
        }
    return {"type": "image", "source": {"type": "url", "url": url}}


def _text(message: Mapping[str, Any]) -> str:
    content = message["content"]
    return content if isinstance(content, str) else "".join(part["text"] for part in content or ())


def _id(call_id: str) -> str:
    return NOT_IN_AN_ID.sub("_", call_id)


def _numbers(usage: object) -> Mapping[str, Any]:
    return usage if isinstance(usage, dict) else {"usage": usage} if usage else NOTHING


def usage_of(
    at_start: Mapping[str, Any], at_end: Mapping[str, Any], model: object, stop_reason: object, stop_sequence: object
) -> Usage:
    """The prompt is what was read and what came from the cache; output tokens count only at the end."""
    raw = {**at_start, **at_end}
    counts = [framing.count(raw.get("input_tokens")), *(framing.count(raw.get(name) or 0) for name in FROM_CACHE)]
    return Usage(
        prompt_tokens=None if None in counts else sum(number or 0 for number in counts),
        completion_tokens=framing.count(at_end.get("output_tokens")),
        model=clean(str(model))[:NAME_CHARS],
        finish_reason=FINISH_REASONS.get(str(stop_reason)) or clean(str(stop_reason))[:NAME_CHARS],
        stop_sequence=clean(str(stop_sequence)),
        raw=raw,
    )
