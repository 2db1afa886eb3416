"""What a program may ask for at /v1/chat/completions. Strict: a field we cannot honour is refused, never dropped quietly."""

import json
from dataclasses import dataclass
from typing import Any

import orjson

from conversations.forms import UNSTORABLE
from conversations.turns import Question
from lib.errors import Invalid

MOST_MESSAGES = 2000
DEEPEST = 32
MOST_PARTS = 50_000  # looked at one by one on the way in; brackets in the text count too
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


class BadField(Invalid):
    """A field of the request cannot be used."""

    code = "invalid_value"

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail, param=param)


@dataclass(frozen=True, slots=True)
class Completion:
    question: Question
    is_stream: bool
    with_usage: bool


def completion(body: bytes) -> Completion:
    """Parse and check a request's body. Raises Invalid, with the field's name as `param`."""
    asked = _object(body)
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
        params["seed"] = _integer("seed", seed, -(2**63), 2**63 - 1)
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
        _integer(name, asked[name], 1, 2**31)
        for name in ("max_tokens", "max_completion_tokens")
        if asked.get(name) is not None
    ]
    is_stream = _boolean("stream", asked.get("stream"))
    options = asked.get("stream_options") or {}
    if not isinstance(options, dict) or set(options) - {"include_usage", "include_obfuscation"}:
        raise BadField("stream_options", 'stream_options may hold "include_usage".')
    question = Question(
        model=model,
        messages=_messages(asked.get("messages")),
        max_tokens=min(limits) if limits else None,
        params=params,
    )
    return Completion(question, is_stream, is_stream and _boolean("stream_options", options.get("include_usage")))


def _object(body: bytes) -> dict[str, Any]:
    if body.count(b"[") + body.count(b"{") > MOST_PARTS:
        raise Invalid(f"The body has more than {MOST_PARTS:,} objects and lists.")
    try:
        asked = orjson.loads(body)  # refuses NaN, lone surrogates, bad UTF-8 and absurd depth
    except orjson.JSONDecodeError as error:
        raise Invalid("The body is not valid JSON (UTF-8).") from error
    if not isinstance(asked, dict):
        raise Invalid("The body must be a JSON object.")
    if _depth(asked) > DEEPEST:
        raise Invalid(f"The body is nested deeper than {DEEPEST} levels.")
    try:
        json.loads(body, object_pairs_hook=_refuse_twice, parse_int=str)  # of two equal names orjson keeps the last
    except RecursionError:
        raise Invalid(f"The body is nested deeper than {DEEPEST} levels.") from None
    return asked


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise Invalid("An object of the body has the same name twice.")


def _depth(value: Any) -> int:
    deepest, level = 0, [value]
    while level and deepest <= DEEPEST:
        deepest += 1
        level = [
            inner
            for outer in level
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
    return deepest


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


def _integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadField(name, f"{name} must be a whole number from {low} to {high}.")
    return value


def _boolean(name: str, value: Any) -> bool:
    if value not in (True, False, None) or (isinstance(value, int) and not isinstance(value, bool)):
        raise BadField(name, f"{name} must be true or false.")
    return bool(value)
