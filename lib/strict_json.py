"""JSON of strangers: an object, read once. Refused is what two parsers could read in two ways, and what no row can hold."""

import json
import re
from typing import Any

import orjson

from lib.errors import Invalid

DEEPEST = 32
MOST_PARTS = 50_000  # looked at one by one on the way in
MOST_VALUES = 400_000  # so that reading them costs less than a tenth of a second; one embeddings request has 300,000
MOST_QUOTES = 500_000  # so that finding the texts of a hostile body costs a tenth of a second, not a whole one
NUL = rb"\u0000"  # the only way to write it: no parser takes the byte itself
TEXTS = re.compile(rb'"(?:[^"\\]++|\\.?)*+"?', re.DOTALL)  # an unclosed one too: linear whatever comes


class Unstorable(Invalid):
    """A text of the body holds a NUL character, and PostgreSQL keeps it neither in text nor in jsonb."""

    code = "invalid_value"


def read(body: bytes) -> dict[str, Any]:
    """Parse a body. Raises Invalid also for what other parsers let pass: NaN, equal names, absurd depth, NUL."""
    if _is_crowded(body) and (  # a text may have more: somebody's code
        body.count(b'"') > MOST_QUOTES or _is_crowded(TEXTS.sub(b"", body))
    ):
        raise Invalid(f"The body has more than {MOST_PARTS:,} objects and lists, or {MOST_VALUES:,} values.")
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
    if NUL in body:
        _refuse_nul(asked)
    return asked


def _is_crowded(body: bytes) -> bool:
    return body.count(b"[") + body.count(b"{") > MOST_PARTS or body.count(b",") > MOST_VALUES


def _refuse_twice(pairs: list[tuple[str, Any]]) -> None:
    if len({name for name, _ in pairs}) < len(pairs):
        raise Invalid("An object of the body has the same name twice.")


def _refuse_nul(asked: dict[str, Any]) -> None:
    """By the name of its place. Here and nowhere else: whatever is said may come to stand in a row, sooner or later."""
    left: list[tuple[str, Any]] = [("", asked)]
    while left:
        where, outer = left.pop()
        for name, inner in outer.items() if isinstance(outer, dict) else enumerate(outer):
            if isinstance(name, str) and "\0" in name:
                raise Unstorable(f"A name in {where or 'the body'} holds a NUL character.", param=where)
            if not isinstance(inner, dict | list) and not (isinstance(inner, str) and "\0" in inner):
                continue
            at = (f"{where}[{name}]" if isinstance(name, int) else f"{where}.{name}" if where else name)[:80]
            if isinstance(inner, str):
                raise Unstorable(f"{at} holds a NUL character.", param=at)
            left.append((at, inner))


def _depth(value: Any) -> int:
    """How deep objects and lists stand in each other."""
    deepest, level = 0, [value]
    while level and deepest <= DEEPEST:
        deepest += 1
        level = [
            inner
            for outer in level
            for inner in (outer.values() if isinstance(outer, dict) else outer)
            if type(inner) in (dict, list)  # as orjson makes them
        ]
    return deepest
