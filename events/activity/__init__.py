"""The audit log, and the only one: who did what to which row, with the values before and after. S3's log_activity.

A line is written in the transaction that did the thing, and chained to the one before when that commits
(events.activity.chain).
What is told in it names people by their ids. Where they asked from stands in a row beside it, which goes when its person is
erased. docs/activity.md.
"""

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from uuid import UUID

import orjson

from accounts import circumstances
from events.activity.changes import plain, text
from events.models import Activity
from lib.db import NOBODY, send, serve, who_asks
from lib.ids import uuid7
from lib.logs import request_id

Kind = Activity.ActorKind

LINE = """
insert into events_activity (id, brand_id, created_at, actor_id, actor_kind, key_id, action, resource_type, resource_id,
                             description, changes, request_id, origin)
values (%(id)s, %(brand)s, now(), %(actor)s, %(actor_kind)s, %(key)s, %(action)s, %(resource_type)s, %(resource)s,
        %(description)s, %(changes)s, %(request)s,
        case when %(has_origin)s then lookup.origin_digest(%(salt)s, %(owner)s, %(ip)s, %(user_agent)s) end)
"""
FROM_WHERE = """
insert into events_activityorigin (id, brand_id, owner_id, ip_address, user_agent, salt)
values (%(id)s, %(brand)s, %(owner)s, %(ip)s, %(user_agent)s, %(salt)s)
"""

_is_staff: ContextVar[bool] = ContextVar("is_staff", default=False)


@contextmanager
def by_staff() -> Iterator[None]:
    """What is done in here, staff do, on their own pages."""
    token = _is_staff.set(True)
    try:
        yield
    finally:
        _is_staff.reset(token)


def record(
    brand_id: UUID | None,
    action: str,
    *,
    actor_id: UUID | None,
    resource: tuple[str, UUID | None],
    description: str = "",
    changes: dict[str, Any] | None = None,
    ip_address: str | None = None,
    user_agent: str = "",
    actor_kind: Activity.ActorKind | None = None,
    key_id: UUID | None = None,
) -> None:
    """Write one line: in the open scope, with what else is done there, or alone, as the service, where none is open.

    brand_id     whose log it is; None = the house's own, which staff alone read
    action       what was done to which kind of thing: member.changed, key.created, support.read
    actor_id     who did it; None = nobody who is known, or the system itself
    resource     the kind of thing and its id; None = more than one, or one whose id is no UUID
    description  a sentence or a name; secrets and addresses are blotted out of it
    changes      by name: [before, after], as events.activity.changes makes them, or what else belongs to it. Never what
                 people wrote
    ip_address, user_agent   by default those of the request in which this is called, as is its id
    actor_kind   by default staff on staff's pages, else a key or its member, else the system
    key_id       with which key it was asked for, where that is done as the service; by default that of the open scope
    """
    (came_from, browser), principal = circumstances.came_from(), who_asks()
    key_id = key_id or (principal.key_id if principal else None)
    resource_type, resource_id = resource
    ip, agent = ip_address or came_from, text(user_agent or browser, most=300)
    has_origin = bool(ip or agent)
    names: dict[str, Any] = {
        "id": uuid7(),
        "brand": brand_id,
        "actor": actor_id,
        "actor_kind": (actor_kind or _kind(actor_id, key_id)).value,
        "key": key_id,
        "action": action,
        "resource_type": resource_type,
        "resource": resource_id,
        "description": text(description, most=300),
        "changes": orjson.dumps(plain(changes or {})).decode(),
        "request": request_id.get(),
        "owner": actor_id or NOBODY,
        "has_origin": has_origin,
        "ip": ip,
        "user_agent": agent,
        "salt": secrets.token_bytes(16),
    }
    statements = [(LINE, names), (FROM_WHERE, names)] if has_origin else [(LINE, names)]
    (send if principal else serve)(*statements)


def _kind(actor_id: UUID | None, key_id: UUID | None) -> Activity.ActorKind:
    if _is_staff.get():
        return Kind.STAFF
    if key_id:
        return Kind.KEY
    return Kind.MEMBER if actor_id else Kind.SYSTEM
