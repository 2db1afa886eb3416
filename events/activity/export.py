"""The audit log as a file, for a spreadsheet or a program: drawn a few hundred lines at a time, however long it is.

Between two parts neither a connection nor a thread is held, and each part proves anew that its reader is an admin.
"""

import csv
import io
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import orjson
from django.http import StreamingHttpResponse

from accounts.models import Brand
from events.activity import lines
from events.activity.lines import Wanted
from events.models import Activity, ActivityLink, ActivityOrigin
from lib import clock, files
from lib.db import SERVICE, Principal, db, scope

AT_ONCE = 500
COLUMNS = [
    "id", "at", "who", "actor_id", "actor_kind", "key_id", "action", "resource_type", "resource_id", "description",
    "changes", "ip_address", "user_agent", "request_id", "number", "digest",
]  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # what a spreadsheet would compute


def file(principal: Principal, brand: Brand, wanted: Wanted, form: str) -> StreamingHttpResponse:
    """`form`: csv or json. The newest line first."""
    draw, kind = (_csv, "text/csv; charset=utf-8") if form == "csv" else (_json, "application/json")
    response = StreamingHttpResponse(draw(_parts(principal, wanted)))
    files.as_attachment(response, files.safe_name(f"{brand.name} activity {clock.now():%Y-%m-%d}", f".{form}"), kind)
    return response


async def _parts(principal: Principal, wanted: Wanted) -> AsyncIterator[list[dict[str, Any]]]:
    while True:
        rows, more = await db(_part, principal, wanted)
        yield rows
        if more is None:
            return
        wanted = replace(wanted, after=more)


def _part(principal: Principal, wanted: Wanted) -> tuple[list[dict[str, Any]], Any]:
    with scope(principal):
        found = lines.page(principal.brand_id, wanted, most=AT_ONCE)
        asked = lines.origins(found.rows)
    known = lines.names(principal.brand_id, found.rows)
    with scope(SERVICE):
        links = ActivityLink.objects.in_bulk([row.pk for row in found.rows])
    return [_told(row, lines.who(row, known), asked.get(row.pk), links.get(row.pk)) for row in found.rows], found.more


def _told(row: Activity, who: str, asked: ActivityOrigin | None, link: ActivityLink | None) -> dict[str, Any]:
    return {
        "id": row.pk,
        "at": row.created_at,
        "who": who,
        "actor_id": row.actor_id,
        "actor_kind": row.actor_kind,
        "key_id": row.key_id,
        "action": row.action,
        "resource_type": row.resource_type,
        "resource_id": row.resource_id,
        "description": row.description,
        "changes": row.changes,
        "ip_address": asked.ip_address if asked else None,
        "user_agent": asked.user_agent if asked else "",
        "request_id": row.request_id,
        "number": link.number if link else None,
        "digest": bytes(link.digest).hex() if link else None,
    }


async def _csv(parts: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    yield "\ufeff".encode() + _table([COLUMNS])  # what makes a spreadsheet read UTF-8
    async for rows in parts:
        yield _table([_cell(row[name]) for name in COLUMNS] for row in rows)


def _table(rows: Any) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _cell(value: Any) -> str:
    """As text that a spreadsheet shows and does not compute (F-22)."""
    if value is None:
        return ""
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    said = orjson.dumps(value).decode() if isinstance(value, dict) else str(value)
    return f"'{said}" if said.startswith(FORMULA) else said


async def _json(parts: AsyncIterator[list[dict[str, Any]]]) -> AsyncIterator[bytes]:
    before = b"["
    async for rows in parts:
        for row in rows:
            yield before + b"\n" + orjson.dumps(row)
            before = b","
    yield (b"[" if before == b"[" else b"") + b"\n]\n"
