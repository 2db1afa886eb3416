"""ETags. The first half names the state that people change, the second the very bytes of one answer.

If-None-Match asks for the bytes, so that a counter that moved is told. If-Match asks for the state alone: a webhook that
delivers something and a key that is used are not changed by that, and whoever read only some fields saw the same state.
"""

import hashlib
import re
from collections.abc import Collection
from typing import Any

import orjson
from rest_framework import serializers

from accounts.rest.fields import ShownOnce

TAG = re.compile(r'(?:W/)?("([^"]*)")')


def tag(shape: serializers.BaseSerializer[Any], found: Any, content: bytes) -> str:
    """The ETag of an answer with these bytes, which tells of what was found in this shape."""
    return f'"{_state(shape, found)}-{_digest(content)}"'


def is_still(header: str, tag: str) -> bool:
    """Whether If-None-Match names this tag."""
    return header.strip() == "*" or any(whole == tag for whole, _ in TAG.findall(header))


def names_state(header: str, shape: serializers.BaseSerializer[Any], found: Any) -> bool:
    """Whether If-Match names the state of what was found."""
    state = _state(shape, found)
    return header.strip() == "*" or any(text.partition("-")[0] == state for _, text in TAG.findall(header))


def _state(shape: serializers.BaseSerializer[Any], found: Any) -> str:
    one: Any = type(shape)()
    moves: Collection[str] = getattr(one, "moves", ())  # fields that change by themselves
    for name, field in list(one.fields.items()):
        if name in moves or isinstance(field, ShownOnce):
            del one.fields[name]
    return _digest(orjson.dumps(one.to_representation(found)))


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:32]
