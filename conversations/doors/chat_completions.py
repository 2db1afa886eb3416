"""POST /v1/chat/completions."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

import orjson
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from conversations.doors import errors, exchange
from conversations.doors.exchange import as_json, door
from conversations.doors.fields import BadField, boolean, integer, json_object
from conversations.forms import UNSTORABLE
from conversations.live import Live
from conversations.turns import Finished, Question
from lib.errors import DomainError
from lib.sse import KEEPALIVE, EventStream

MOST_MESSAGES = 2000
ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}
NUMBERS = {"temperature": (0, 2), "top_p": (0, 1), "frequency_penalty": (-2, 2), "presence_penalty": (-2, 2)}
NO_EFFECT = {
    "user",
    "metadata",
    "store",
    "service_tier",
    "safety_identifier",
    "prompt_cache_key",
    "parallel_tool_calls",
}
# What may be sent, as long as it asks for nothing but the plain case.
PLAIN = {
    "n": (1, None),
    "logprobs": (False, None),
    "top_logprobs": (0, None),
    "logit_bias": ({}, None),
    "tools": ([], None),
    "tool_choice": ("none", "auto", None),
    "functions": ([], None),
    "function_call": ("none", "auto", None),
    "response_format": ({"type": "text"}, None),
    "modalities": (["text"], None),
    "audio": (None,),
    "prediction": (None,),
    "web_search_options": (None,),
    "reasoning_effort": (None,),
    "verbosity": (None,),
}
KNOWN = {
    "model", "messages", "stream", "stream_options", "max_tokens", "max_completion_tokens", "stop", "seed",
    *NUMBERS, *NO_EFFECT, *PLAIN,
}  # fmt: skip


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
    message = {"role": "assistant", "content": finished.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finished.finish_reason or "stop"}
    return as_json({**_head(live, "chat.completion"), "choices": [choice], "usage": _usage(finished)})


async def _chunks(live: Live, with_usage: bool) -> AsyncGenerator[bytes, None]:
    head = orjson.dumps(_head(live, "chat.completion.chunk"))[:-1]
    role = b'"role":"assistant",'
    async with aclosing(exchange.news(live)) as news:
        async for new in news:
            if new is None:
                yield KEEPALIVE
                continue
            yield (
                b'data: %s,"choices":[{"index":0,"delta":{%s"content":%s},"logprobs":null,"finish_reason":null}]}\n\n'
                % (head, role, orjson.dumps(new[0]))
            )
            role = b""
    try:
        finished = exchange.ended(live)
    except DomainError as cut:
        yield b"data: %s\n\n" % orjson.dumps({"error": errors.openai_error(cut)})
        return
    reason = orjson.dumps(finished.finish_reason or "stop")
    yield b'data: %s,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":%s}]}\n\n' % (head, reason)
    if with_usage:
        yield b'data: %s,"choices":[],"usage":%s}\n\n' % (head, orjson.dumps(_usage(finished)))
    yield b"data: [DONE]\n\n"


def _head(live: Live, kind: str) -> dict[str, Any]:
    begun = live.begun
    return {
        "id": f"chatcmpl-{begun.turn_id.hex}",
        "object": kind,
        "created": int(begun.started_at.timestamp()),
        "model": begun.offer.api_identifier,
    }


def _usage(finished: Finished) -> dict[str, int]:
    return {
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": finished.completion_tokens,
        "total_tokens": finished.prompt_tokens + finished.completion_tokens,
    }


def completion(body: bytes) -> Completion:
    """Parse and check a request's body. Raises Invalid, with the field's name as `param`."""
    asked = json_object(body)
    if unknown := sorted(set(asked) - KNOWN):
        raise BadField(str(unknown[0])[:80], f"Unrecognized request argument supplied: {str(unknown[0])[:80]}")
    for name, plain in PLAIN.items():
        if name in asked and asked[name] not in plain:
            raise BadField(name, f"{name} is not supported here yet; leave it out.")
    model = asked.get("model")
    if not isinstance(model, str) or not model or len(model) > 120 or UNSTORABLE.search(model):
        raise BadField("model", "model must name one of GET /v1/models.")
    params: dict[str, Any] = {}
    for name, (low, high) in NUMBERS.items():
        if (value := asked.get(name)) is not None:
            if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
                raise BadField(name, f"{name} must be a number from {low} to {high}.")
            params[name] = value
    if (seed := asked.get("seed")) is not None:
        params["seed"] = integer("seed", seed, -(2**63), 2**63 - 1)
    if (stop := asked.get("stop")) is not None:
        stops = [stop] if isinstance(stop, str) else stop
        if (
            not isinstance(stops, list)
            or not 1 <= len(stops) <= 4
            or not all(isinstance(one, str) and one for one in stops)
        ):
            raise BadField("stop", "stop must be a string or up to 4 strings.")
        params["stop"] = stops
    limits = [
        integer(name, asked[name], 1, 2**31)
        for name in ("max_tokens", "max_completion_tokens")
        if asked.get(name) is not None
    ]
    is_stream = boolean("stream", asked.get("stream"))
    options = asked.get("stream_options") or {}
    if not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise BadField("stream_options", 'stream_options may hold "include_usage".')
    question = Question(
        model=model,
        messages=_messages(asked.get("messages")),
        max_tokens=min(limits) if limits else None,
        params=params,
    )
    return Completion(question, is_stream, is_stream and boolean("stream_options", options.get("include_usage")))


def _messages(given: Any) -> tuple[dict[str, Any], ...]:
    if not isinstance(given, list) or not 1 <= len(given) <= MOST_MESSAGES:
        raise BadField("messages", f"messages must be a list of 1 to {MOST_MESSAGES} messages.")
    return tuple(_message(number, message) for number, message in enumerate(given))


def _message(number: int, message: Any) -> dict[str, str]:
    where = f"messages[{number}]"
    if not isinstance(message, dict):
        raise BadField(where, f"{where} must be an object with role and content.")
    role = message.get("role")
    if role in ("tool", "function") or message.get("tool_calls") or message.get("function_call"):
        raise BadField(where, f"{where}: tool calls are not supported here yet.")
    if not isinstance(role, str) or role not in ROLES:
        raise BadField(f"{where}.role", f"{where}.role must be one of {', '.join(ROLES)}.")
    content = message.get("content")
    if isinstance(content, list):
        content = "".join(_part(f"{where}.content[{index}]", part) for index, part in enumerate(content))
    if not isinstance(content, str):
        raise BadField(f"{where}.content", f"{where}.content must be text.")
    if UNSTORABLE.search(content):
        raise BadField(f"{where}.content", f"{where}.content holds a NUL character or half of a surrogate pair.")
    return {"role": ROLES[role], "content": content}


def _part(where: str, part: Any) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise BadField(
            where, f"{where}: only text can be sent to this model; images, audio and files are not supported."
        )
    text: str = part["text"]
    return text
