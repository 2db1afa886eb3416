"""What a change did to a row, value by value, as the audit log may keep it: the one place where before and after are told.

What is secret is never written there (A-16), nor what would make somebody known after they were erased: of passwords, keys,
tokens and hashes, of addresses and names, and of what members wrote, the log says that it changed, and not from what to what.
"""

import re
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from django.db import models
from django_cryptography.fields import EncryptedMixin

from lib.logs import blotted

HIDDEN = "[hidden]"
MOST_CHARS = 500  # of one value
SECRET = re.compile(
    r"password|passphrase|secret|headers|(^|_)tokens?($|_)|hash|digest|salt|sealed|credential|(^|_)(otp|totp|pin)($|_)"
)
# What tells who somebody is, and what was said, by the names that all our tables give it.
PERSONAL = re.compile(
    r"(^|_)(e_?mail|phone|full_name|first_name|last_name|company_name|ip|ip_address|user_agent|avatar_url|avatar_key)($|_)"
)
SAID = frozenset(
    # conversations.Message, .Conversation, .PendingMessage, .Share, .Correction; a person's own templates and facts
    ["content", "said", "snapshot", "sent", "partial", "original", "corrected", "comment", "metadata", "body"]
)
ADDRESS = re.compile(r"[^\s@<>\"'(),;:]+@[^\s@<>\"'(),;:]+\.[^\s@<>\"'(),;:]+")

Values = dict[str, Any]
Changes = dict[str, list[Any]]


NUMBERS = (models.IntegerField, models.BooleanField, models.DecimalField, models.FloatField, models.DateField)


def is_hidden(field: "models.Field[Any, Any]") -> bool:
    """Whether the log says of this column that it changed, and not from what to what. A count of tokens is no token."""
    if isinstance(field, NUMBERS):
        return False
    if isinstance(field, EncryptedMixin | models.EmailField | models.GenericIPAddressField | models.BinaryField):
        return True
    return _is_hidden(field.name) or field.name in SAID


def _is_hidden(name: str) -> bool:
    return bool(SECRET.search(name) or PERSONAL.search(name))


def values(row: models.Model) -> Values:
    """The columns of a row and what it is tied to, as they stand in memory; hidden ones by a mark of their value."""
    found: Values = {}
    for field in row._meta.concrete_fields:
        held = row.__dict__.get(field.attname)  # not by getattr: reading a sealed column opens it
        found[field.attname] = _Hidden(held) if is_hidden(field) else plain(held)
    for field in row._meta.many_to_many:
        found[field.name] = sorted(str(one) for one in getattr(row, field.name).all()) if row.pk else []
    return found


def between(before: Mapping[str, Any], after: Mapping[str, Any]) -> Changes:
    """What differs, by column: [before, after]. A column that only one of them has was, or is, not there: null."""
    return {
        name: [_told(before.get(name)), _told(after.get(name))]
        for name in [*after, *(name for name in before if name not in after)]
        if before.get(name) != after.get(name)
    }


def plain(value: Any, *, hide: bool = False) -> Any:
    """As JSON, short, and without what looks like a secret or an address. `hide` = no text at all."""
    match value:
        case None | bool() | int() | float():
            return value
        case datetime() | date():
            return value.isoformat()
        case UUID() | Decimal():
            return str(value)
        case _Hidden():
            return HIDDEN if value else None
        case Mapping():
            return {str(name): plain(one, hide=hide or _is_hidden(str(name))) for name, one in value.items()}
        case list() | tuple() | set() | frozenset():
            return [plain(one, hide=hide) for one in value]
    return HIDDEN if hide and value != "" else text(str(value), most=MOST_CHARS)


def text(said: str, *, most: int) -> str:
    """A sentence for the log: nothing that looks like a secret, nobody's address, no longer than `most`."""
    said = ADDRESS.sub(HIDDEN, blotted(said.replace("\x00", "")))
    return said if len(said) <= most else f"{said[: most - 1]}…"


class _Hidden:
    """A value that is compared and never told."""

    __slots__ = ("__held",)

    def __init__(self, held: Any) -> None:
        self.__held = held

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Hidden) and self.__held == other.__held

    def __hash__(self) -> int:
        return hash(type(self))

    def __repr__(self) -> str:
        return HIDDEN

    def __bool__(self) -> bool:
        return self.__held not in (None, "", b"")


def _told(value: Any) -> Any:
    """A hidden value that is empty was nothing, which may be said."""
    if isinstance(value, _Hidden):
        return HIDDEN if value else None
    return value
