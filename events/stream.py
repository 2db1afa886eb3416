"""News goes up through here, and only through here: one row in the caller's transaction, read after the commit."""

from typing import Any
from uuid import UUID

import orjson

from accounts import circumstances
from events.catalogue import KINDS
from lib.db import SERVICE, Statement, opening, send
from lib.ids import uuid7

INTO = "insert into events_event (id, brand_id, type, subject_kind, subject_id, owner_id, data, created_at) values"
ROW = "(%(id)s, %(brand)s, %(name)s, %(kind)s, %(subject)s, %(owner)s, %(data)s, now())"
PUBLISH = f"{INTO} {ROW}"
TOLD = """
select id from events_event where brand_id = %(brand)s and subject_id = %(subject)s and type = %(name)s limit 1
"""


def publish_once(
    brand_id: UUID,
    name: str,
    *,
    subject: tuple[str, UUID],
    owner_id: UUID | None = None,
    data: dict[str, Any] | None = None,
) -> bool:
    """publish() as the service, in a transaction of its own, unless this was told of the subject before; False = it was."""
    with opening(SERVICE, (TOLD, {"brand": brand_id, "subject": subject[1], "name": name}), key=subject[1]) as (told,):
        if told:
            return False
        publish(brand_id, name, subject=subject, owner_id=owner_id, data=data)
        return True


def publish(
    brand_id: UUID,
    name: str,
    *,
    subject: tuple[str, UUID],
    owner_id: UUID | None = None,
    data: dict[str, Any] | None = None,
) -> None:
    """Record that something happened to `subject` (kind, id). Never content: readers may be strangers' servers.

    name  a type of the catalogue, and `data` as it says there
    """
    send(publishing(brand_id, name, subject=subject, owner_id=owner_id, data=data))


def publishing(
    brand_id: UUID,
    name: str,
    *,
    subject: tuple[str, UUID],
    owner_id: UUID | None = None,
    data: dict[str, Any] | None = None,
) -> Statement:
    """publish() as a statement, for a caller who sends others along. What is known of the request stands in `data` too."""
    kind, subject_id = subject
    if "device" in KINDS[name].optional:
        data = circumstances.known() | (data or {})
    names = {
        "id": uuid7(),
        "brand": brand_id,
        "name": name,
        "kind": kind,
        "subject": subject_id,
        "owner": owner_id,
        "data": orjson.dumps(data or {}).decode(),
    }
    return PUBLISH, names
