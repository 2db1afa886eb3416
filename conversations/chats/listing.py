"""Lists of chats: the sidebar's and the history's, page by page. A page begins where the one before ended, at a row and
not at a number, so that what comes in meanwhile is neither shown twice nor passed over. Runs in the reader's scope.
"""

import base64
import binascii
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

import orjson
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.db.models.functions import Lower
from django.utils.translation import gettext as _

from conversations.chats import retention
from conversations.models import OPEN_STATES, Conversation, Turn
from lib import clock
from lib.db import Principal
from lib.errors import Invalid

IN_SIDEBAR = 60
MOST_IN_SIDEBAR = 500
MOST_PINNED = 100
ON_PAGE = 50

RUNNING = Exists(Turn.objects.filter(conversation_id=OuterRef("pk"), status__in=OPEN_STATES))
FIELDS = ("id", "title", "last_message_at", "pinned_at", "is_running")


def owned(principal: Principal) -> QuerySet[Conversation]:
    return Conversation.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)


# The sidebar


def sidebar(
    principal: Principal, zone: str, *, after: str = "", rows: int = IN_SIDEBAR, now: datetime | None = None
) -> dict[str, Any]:
    """Chats for `_chats.html`: pinned, then by day in the brand's zone; running ones are marked. One query.

    after   where the page before ended, as its `more` said; pinned ones are on the first page only
    rows    how many, so that a list that was made longer stays so
    """
    mine = owned(principal).filter(retention.listed(principal), deleted_at=None, archived_at=None)
    mine = mine.annotate(is_running=RUNNING)
    rows = max(IN_SIDEBAR, min(rows, MOST_IN_SIDEBAR))
    newest = mine.filter(pinned_at=None).order_by("-last_message_at", "-id")
    if after:
        found = list(
            _after(newest, "last_message_at", True, _cursor(after, datetime.fromisoformat)).values(*FIELDS)[: rows + 1]
        )
    else:
        pinned = mine.filter(pinned_at__isnull=False).order_by("-pinned_at").values(*FIELDS)[:MOST_PINNED]
        found = list(pinned.union(newest.values(*FIELDS)[: rows + 1], all=True))
        found.sort(key=lambda row: (row["last_message_at"], row["id"]), reverse=True)
    top = [row for row in found if row["pinned_at"]]
    others = [row for row in found if not row["pinned_at"]]
    more = ""
    if len(others) > rows:
        others = others[:rows]
        more = _as_cursor(others[-1]["last_message_at"].isoformat(), others[-1]["id"])
    groups = [(_("Pinned"), top)] if top else []
    return {"groups": groups + _by_day(others, zone, now or clock.now()), "more": more, "is_continued": bool(after)}


def _by_day(rows: list[dict[str, Any]], zone: str, now: datetime) -> list[tuple[str, list[dict[str, Any]]]]:
    today = now.astimezone(ZoneInfo(zone)).date()
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        day = row["last_message_at"].astimezone(ZoneInfo(zone)).date()
        if day >= today:
            name = _("Today")
        elif day == today - timedelta(days=1):
            name = _("Yesterday")
        else:
            name = _("Last 7 days") if day > today - timedelta(days=7) else _("Older")
        found.setdefault(name, []).append(row)
    return list(found.items())


# The history


@dataclass(frozen=True, slots=True)
class Sort:
    """An order: the column, what makes a value of a cursor's text, and whether it begins with the largest."""

    column: str
    read: Callable[[Any], Any]
    descends: bool = True


def _whole(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 2**63:
        raise ValueError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError
    return value


SORTS = {
    "updated": Sort("last_message_at", datetime.fromisoformat),
    "created": Sort("id", lambda value: UUID(_text(value))),  # ids are uuid7: they sort by the moment they were made
    "title": Sort("folded", _text, descends=False),
    "messages": Sort("message_count", _whole),
    "tokens": Sort("total_tokens_used", _whole),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a list shows. `since` and `until` are moments, the last one exclusive; `model` an api_identifier."""

    show: str = "active"  # active, archived, bin, all (which has no bin)
    sort: str = "updated"
    descends: bool | None = None  # None: as the order usually goes
    model: str = ""
    agent: UUID | None = None
    since: datetime | None = None
    until: datetime | None = None
    after: str = ""
    most: int = ON_PAGE


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Conversation]
    more: str  # where the next page begins; empty: there is none


def page(chats: QuerySet[Conversation], wanted: Wanted) -> Page:
    """One page of these chats. Raises Invalid for a place that no page of ours named. One query."""
    sort = SORTS[wanted.sort]
    descends = sort.descends if wanted.descends is None else wanted.descends
    chats = chats.filter(matching(wanted)).annotate(is_running=RUNNING, folded=Lower("title"))
    sign = "-" if descends else ""
    chats = chats.order_by(f"{sign}{sort.column}", *([f"{sign}id"] if sort.column != "id" else []))
    if wanted.after:
        chats = _after(chats, sort.column, descends, _cursor(wanted.after, sort.read))
    rows = list(chats.defer("system_prompt", "metadata", "usage_metadata", "visitor_metadata")[: wanted.most + 1])
    if len(rows) <= wanted.most:
        return Page(rows, "")
    rows = rows[: wanted.most]
    value = getattr(rows[-1], sort.column)
    return Page(rows, _as_cursor(value.isoformat() if isinstance(value, datetime) else value, rows[-1].pk))


def matching(wanted: Wanted) -> Q:
    found = Q(deleted_at__isnull=wanted.show != "bin")
    if wanted.show in ("active", "archived"):
        found &= Q(archived_at__isnull=wanted.show == "active")
    if wanted.model:
        found &= Q(model=wanted.model)
    if wanted.agent:
        found &= Q(agent_id=wanted.agent)
    if wanted.since:
        found &= Q(last_message_at__gte=wanted.since)
    if wanted.until:
        found &= Q(last_message_at__lt=wanted.until)
    return found


def _after(
    chats: QuerySet[Conversation], column: str, descends: bool, place: tuple[Any, UUID]
) -> QuerySet[Conversation]:
    value, row_id = place
    side = "lt" if descends else "gt"
    if column == "id":
        return chats.filter(**{f"id__{side}": row_id})
    beyond = Q(**{f"{column}__{side}": value}) | Q(**{column: value, f"id__{side}": row_id})
    return chats.filter(beyond, **{f"{column}__{side}e": value})  # the second says the same to an index


def _as_cursor(value: Any, row_id: UUID) -> str:
    return base64.urlsafe_b64encode(orjson.dumps([value, row_id])).decode().rstrip("=")


def _cursor(given: str, read: Callable[[Any], Any]) -> tuple[Any, UUID]:
    try:
        value, row_id = orjson.loads(base64.urlsafe_b64decode(given + "=" * (-len(given) % 4)))
        place = read(value), UUID(row_id)
        if isinstance(place[0], datetime) and place[0].tzinfo is None:
            raise ValueError
    except (ValueError, TypeError, AttributeError, binascii.Error) as error:
        raise Invalid(_("This place in the list is not known. Begin at the first page.")) from error
    return place
