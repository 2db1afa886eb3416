"""POST /v1/chat/completions: OpenAI's chat, loss-free for text, tools, JSON and pictures."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from conversations.doors import errors, exchange, fields
from conversations.doors.exchange import as_json, door
from conversations.doors.fields import BadField
from conversations.engine.live import Live
from conversations.engine.turns import Finished, Question
from lib import strict_json
from lib.errors import DomainError
from lib.sse import KEEPALIVE, EventStream
from providers.calls import ToolPiece

MOST_MESSAGES = 2000
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
NUMBERS = {"temperature": (0, 2), "top_p": (0, 1), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2)}
CHOICES = {
    "reasoning_effort": ("none", "minimal", "low", "medium", "high", "xhigh"),
    "verbosity": ("low", "medium", "high"),
}
NO_EFFECT = {"user", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention"}
# What may be sent, as long as it asks for nothing but the plain case.
PLAIN: dict[str, tuple[Any, ...]] = {
    "n": (1,),
    "logprobs": (False,),
    "top_logprobs": (0,),
    "logit_bias": ({},),
    "modalities": (["text"],),
    "audio": (),
    "prediction": (),
    "web_search_options": (),
}
KNOWN = {
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "seed", "tools",
    "tool_choice", "parallel_tool_calls", "functions", "function_call", "response_format", "store", "metadata",
    *NUMBERS, *CHOICES, *NO_EFFECT, *PLAIN,
}  # fmt: skip
# What clients send back of an answer beside its text and its calls; it says nothing to a model.
ECHOES = {"refusal", "annotations", "audio", "function_call", "name"}


@dataclass(frozen=True, slots=True)
class Completion:
    question: Question
    is_stream: bool
    with_usage: bool


@door("POST", shape=errors.openai)
async def chat_completions(request: HttpRequest) -> HttpResponseBase:
    wanted, live = await exchange.ask(request, completion)
    if wanted.is_stream:
        return EventStream(_chunks(live, wanted.with_usage))
    finished = await exchange.whole(live)
    message: dict[str, Any] = {"role": "assistant", "content": finished.text, "refusal": None}
    if finished.tool_calls:
        message["content"] = finished.text or None
        message["tool_calls"] = [_call(made) for made in finished.tool_calls]
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": _reason(finished)}
    return as_json({**_head(live, "chat.completion"), "choices": [choice], "usage": _usage(finished)})


async def _chunks(live: Live, with_usage: bool) -> AsyncGenerator[bytes, None]:
    head = orjson.dumps(_head(live, "chat.completion.chunk"))[:-1]
    role = b'"role":"assistant",'
    async with aclosing(exchange.news(live)) as news:
        async for new in news:
            if new is None:
                yield KEEPALIVE
                continue
            said, pieces = new
            delta = b'"content":%s' % orjson.dumps(said) if said else b""
            if pieces:
                delta += (b"," if said else b'"content":null,' if role else b"") + _delta(pieces)
            yield (
                b'data: %s,"choices":[{"index":0,"delta":{%s%s},"logprobs":null,"finish_reason":null}]}\n\n'
                % (head, role, delta)
            )
            role = b""
    try:
        finished = exchange.ended(live)
    except DomainError as cut:
        yield b"data: %s\n\n" % orjson.dumps({"error": errors.openai_error(cut)})
        return
    reason = orjson.dumps(_reason(finished))
    yield b'data: %s,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":%s}]}\n\n' % (head, reason)
    if with_usage:
        yield b'data: %s,"choices":[],"usage":%s}\n\n' % (head, orjson.dumps(_usage(finished)))
    yield b"data: [DONE]\n\n"


def _delta(pieces: Sequence[ToolPiece]) -> bytes:
    """One entry for each call: LangChain would take a second one of the same index for another call."""
    told: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        entry = told.setdefault(piece.index, {"index": piece.index, "function": {"arguments": ""}})
        if piece.id:
            entry |= {"id": piece.id, "type": "function"}
            entry["function"]["name"] = piece.name
        entry["function"]["arguments"] += piece.arguments
    return b'"tool_calls":' + orjson.dumps(list(told.values()))


def _call(made: Mapping[str, str]) -> dict[str, Any]:
    return {"id": made["id"], "type": "function", "function": {"name": made["name"], "arguments": made["arguments"]}}


def _reason(finished: Finished) -> str:
    return finished.finish_reason or ("tool_calls" if finished.tool_calls else "stop")


def _head(live: Live, kind: str) -> dict[str, Any]:
    begun = live.begun
    return {
        "id": f"chatcmpl-{begun.turn_id.hex}",
        "object": kind,
        "created": exchange.made_at(begun.turn_id),
        "model": begun.offer.api_identifier,
    }


def _usage(finished: Finished) -> dict[str, Any]:
    return {
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": finished.completion_tokens,
        "total_tokens": finished.prompt_tokens + finished.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": finished.cached_tokens},
        "completion_tokens_details": {"reasoning_tokens": finished.reasoning_tokens},
    }


def completion(body: bytes) -> Completion:
    """Parse and check a request's body. Raises Invalid, with the field's name as `param`."""
    asked = strict_json.read(body)
    fields.known(asked, KNOWN)
    fields.plain(asked, PLAIN)
    model = fields.model(asked)
    params: dict[str, Any] = fields.numbers(asked, NUMBERS)
    for name, allowed in CHOICES.items():
        if asked.get(name) is not None:
            params[name] = fields.one_of(name, asked[name], allowed)
    if asked.get("seed") is not None:
        params["seed"] = fields.integer("seed", asked["seed"], -(2**63), 2**63 - 1)
    if (stop := asked.get("stop")) is not None:
        stops = fields.listed("stop", [stop] if isinstance(stop, str) else stop, 4, least=1)
        params["stop"] = [fields.text("stop", one) for one in stops]
        if "" in params["stop"]:
            raise BadField("stop", "stop may hold no empty text.")
    if asked.get("response_format") is not None:
        params |= _response_format(asked["response_format"])
    tools = _tools(asked)
    if tools and asked.get("parallel_tool_calls") is not None:
        params["parallel_tool_calls"] = fields.boolean("parallel_tool_calls", asked["parallel_tool_calls"])
    choice = asked.get("tool_choice")
    named = choice.get("function") if isinstance(choice, dict) and choice.get("type") == "function" else None
    limits = [
        fields.integer(name, asked[name], 1, 2**31)
        for name in ("max_tokens", "max_completion_tokens")
        if asked.get(name) is not None
    ]
    is_stream = fields.boolean("stream", asked.get("stream"))
    options = asked.get("stream_options") or {}
    if not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise BadField("stream_options", 'stream_options may hold "include_usage".')
    question = Question(
        model=model,
        messages=_messages(asked.get("messages")),
        max_tokens=min(limits) if limits else None,
        params=params,
        tools=tools,
        tool_choice=fields.tool_choice(choice, tools, named.get("name") if isinstance(named, dict) else None),
        is_stored=fields.boolean("store", asked.get("store")),
        metadata=fields.metadata(asked.get("metadata")),
    )
    return Completion(question, is_stream, is_stream and fields.boolean("stream_options", options.get("include_usage")))


def _response_format(given: Any) -> dict[str, Any]:
    told = fields.mapping("response_format", given)
    kind = fields.one_of("response_format.type", told.get("type"), ("text", "json_object", "json_schema"))
    if kind == "text":
        return {}
    if kind == "json_object":
        return {"response_format": {"type": kind}}
    schema = fields.json_schema("response_format.json_schema", told.get("json_schema"))
    return {"response_format": {"type": kind, "json_schema": schema}}


def _tools(asked: Mapping[str, Any]) -> tuple[dict[str, Any], ...]:
    for name in ("functions", "function_call"):
        if asked.get(name) not in (None, [], "none", "auto"):
            raise BadField(name, f"{name} is the old form and not taken here: send tools and tool_choice.")
    if asked.get("tools") is None:
        return ()
    tools = []
    for number, tool in enumerate(fields.listed("tools", asked["tools"], fields.MOST_TOOLS)):
        where = f"tools[{number}]"
        told = fields.mapping(where, tool)
        fields.one_of(f"{where}.type", told.get("type"), ("function",))
        fields.known(told, ("type", "function"), where)
        tools.append(fields.function(f"{where}.function", told.get("function")))
    return fields.tools_named_once("tools", tools)


def _messages(given: Any) -> tuple[dict[str, Any], ...]:
    messages = fields.listed("messages", given, MOST_MESSAGES, least=1)
    return tuple(_message(f"messages[{number}]", message) for number, message in enumerate(messages))


def _message(where: str, given: Any) -> dict[str, Any]:
    message = fields.mapping(where, given)
    role = ROLES[fields.one_of(f"{where}.role", message.get("role"), ROLES)]
    fields.known(message, {"role", "content", "tool_calls", "tool_call_id", *ECHOES}, where)
    if message.get("function_call") or message.get("audio"):
        raise BadField(where, f"{where}: function_call and audio are not supported here; send tool_calls and text.")
    content = message.get("content")
    if isinstance(content, list):
        content = _parts(f"{where}.content", role, content)
    made: dict[str, Any] = {"role": role, "content": content}
    if role == "assistant" and message.get("tool_calls"):
        made["tool_calls"] = _tool_calls(f"{where}.tool_calls", message["tool_calls"])
    elif message.get("tool_calls"):
        raise BadField(f"{where}.tool_calls", f"{where}: only an assistant makes tool calls.")
    elif role == "assistant" and content is None and isinstance(message.get("refusal"), str):
        made["content"] = content = message["refusal"]
    if content is not None or "tool_calls" not in made:
        made["content"] = content if isinstance(content, list) else fields.text(f"{where}.content", content)
    if role == "tool":
        made["tool_call_id"] = fields.text(f"{where}.tool_call_id", message.get("tool_call_id"), most=200)
    elif message.get("tool_call_id") is not None:
        raise BadField(f"{where}.tool_call_id", f"{where}: only a tool's message has a tool_call_id.")
    if role != "tool" and message.get("name") is not None:
        made["name"] = fields.text(f"{where}.name", message["name"], most=64)
    return made


def _parts(where: str, role: str, given: list[Any]) -> str | list[dict[str, Any]]:
    """Parts as one text, or as a list when there are pictures among them."""
    parts = []
    for number, part in enumerate(given):
        at = f"{where}[{number}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind in ("text", "refusal"):
            parts.append({"type": "text", "text": fields.text(f"{at}.{kind}", part.get(kind))})
        elif kind == "image_url" and role == "user":
            told = part.get("image_url")
            told = told if isinstance(told, dict) else {"url": told}
            parts.append(fields.image(f"{at}.image_url.url", told.get("url"), told.get("detail")))
        else:
            raise BadField(at, f"{at}: only text, and a user's images, can be sent; audio and files are not supported.")
    if any(part["type"] == "image_url" for part in parts):
        return parts
    return "".join(part["text"] for part in parts)


def _tool_calls(where: str, given: Any) -> list[dict[str, Any]]:
    calls = []
    for number, entry in enumerate(fields.listed(where, given, fields.MOST_TOOLS)):
        at = f"{where}[{number}]"
        call = fields.mapping(at, entry)
        fields.one_of(f"{at}.type", call.get("type", "function"), ("function",))
        function = fields.mapping(f"{at}.function", call.get("function"))
        calls.append(
            {
                "id": fields.text(f"{at}.id", call.get("id"), most=200),
                "type": "function",
                "function": {
                    "name": fields.tool_name(f"{at}.function.name", function.get("name")),
                    "arguments": fields.text(f"{at}.function.arguments", function.get("arguments")),
                },
            }
        )
    return calls
