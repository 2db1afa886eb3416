"""What every body of a program goes through. Strict: a field we cannot honour is refused, never dropped quietly."""

import json
from typing import Any

import orjson

from lib.errors import Invalid

DEEPEST = 32
MOST_PARTS = 50_000  # looked at one by one on the way in; brackets in the text count too


class BadField(Invalid):
    """A field of the request cannot be used."""

    code = "invalid_value"

    def __init__(self, param: str, detail: str) -> None:
        super().__init__(detail, param=param)


def json_object(body: bytes) -> dict[str, Any]:
    """Parse a body. Raises Invalid also for what other parsers let pass: NaN, equal names, absurd depth."""
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


def integer(name: str, value: Any, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise BadField(name, f"{name} must be a whole number from {low} to {high}.")
    return value


def boolean(name: str, value: Any) -> bool:
    if value not in (True, False, None) or (isinstance(value, int) and not isinstance(value, bool)):
        raise BadField(name, f"{name} must be true or false.")
    return bool(value)
