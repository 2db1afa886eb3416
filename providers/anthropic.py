"""Anthropic's messages."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Any

import anthropic
from django.conf import settings

from lib.secret import Secret
from providers import clients, framing
from providers.errors import CutOff, Garbled, refusal
from providers.shapes import NAME_CHARS, NOTHING, Call, Limits, Piece, Usage, Watch, clean

VENDOR_URL = "https://api.anthropic.com"
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


async def stream(call: Call, *, key: Secret | None, limits: Limits) -> AsyncGenerator[Piece, None]:
    base_url = call.base_url or settings.ANTHROPIC_BASE_URL or VENDOR_URL
    client = clients.anthropic_client(base_url, key)
    at_start: Mapping[str, Any] = NOTHING
    at_end: Mapping[str, Any] = NOTHING
    model, stop_reason, has_ended = "", "", False
    with Watch(limits) as watch:
        request = framing.Request(
            client=client,
            path="/v1/messages",
            body=body_of(call),
            stream_class=anthropic.AsyncStream[object],
            light=LIGHT,
            stock=lambda: client.messages.create(**body_of(call), timeout=framing.timeout(watch)),
            key=key,
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
                    elif kind == "message_start":
                        model = event["message"].get("model") or model
                        at_start = _numbers(event["message"].get("usage"))
                    elif kind == "message_delta":
                        stop_reason = event["delta"].get("stop_reason") or stop_reason
                        at_end = _numbers(event.get("usage"))
                except (AttributeError, KeyError, TypeError):
                    raise Garbled from None
                if kind == "message_stop":
                    has_ended = True
                elif kind == "error" or (kind is None and event.get("error")):
                    raise refusal(event, key=key)
    if not has_ended:
        raise CutOff
    yield usage_of(at_start, at_end, model, stop_reason)


def body_of(call: Call) -> dict[str, Any]:
    system = "\n\n".join(message["content"] for message in call.messages if message["role"] == "system")
    body: dict[str, Any] = {
        "model": call.model,
        "messages": [message for message in call.messages if message["role"] != "system"],
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
    return body


def _numbers(usage: object) -> Mapping[str, Any]:
    return usage if isinstance(usage, dict) else {"usage": usage} if usage else NOTHING


def usage_of(at_start: Mapping[str, Any], at_end: Mapping[str, Any], model: object, stop_reason: object) -> Usage:
    """The prompt is what was read and what came from the cache; output tokens count only at the end."""
    raw = {**at_start, **at_end}
    counts = [framing.count(raw.get("input_tokens")), *(framing.count(raw.get(name) or 0) for name in FROM_CACHE)]
    return Usage(
        prompt_tokens=None if None in counts else sum(number or 0 for number in counts),
        completion_tokens=framing.count(at_end.get("output_tokens")),
        model=clean(str(model))[:NAME_CHARS],
        finish_reason=FINISH_REASONS.get(str(stop_reason)) or clean(str(stop_reason))[:NAME_CHARS],
        raw=raw,
    )
