"""How long a chat is kept, and the sweep that deletes what is over.

Nothing of it is stored: a chat is kept for so many days from its last message, by the plan that its owner has now and by
its brand, the shorter of the two. So another message or another plan moves its end, and nothing has to be rewritten.

| whose | kept |
|---|---|
| by days (1 or more) | that long after the last message, and then until the next 02:00 in the brand's zone |
| 0 days | in no list and no search; can be read for 24 hours after the last message |
| a visitor's without an agent | 24 hours after the last message |
| in the bin | 30 days, and then until the next 02:00; no longer than outside of it |

Pinned chats are kept whatever the plan says, but for the bin.
"""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Now
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from accounts.models import Brand
from events import stream
from lib import clock, dates
from lib.db import SERVICE, Principal, opening, scope, send
from quotas.models import Account
from quotas.standing import account_of

BIN_DAYS = 30
READABLE = timedelta(hours=24)  # what is kept for 0 days, and what visitors say
PINNING_DAYS = 30  # the plan must keep chats as long as this, for pinning to be worth its word
AT_HOUR = time(2)
AT_A_TIME = 200  # chats in one transaction
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Keeping:
    """What a person's plan and brand say. None = for as long as the person wants."""

    plan_days: int | None
    brand_days: int | None
    plan_name: str
    zone: str

    @property
    def days(self) -> int | None:
        given = [days for days in (self.plan_days, self.brand_days) if days is not None]
        return min(given, default=None)

    @property
    def is_listed(self) -> bool:
        """Whether there is a history at all: 0 days is none."""
        return self.days != 0

    @property
    def may_pin(self) -> bool:
        return self.plan_days is None or self.plan_days >= PINNING_DAYS


def keeping_for(brand: Brand, owner_id: UUID) -> Keeping:
    """What holds for this person now, in the open scope; one query."""
    return keeping_of(account_of(brand, kind=Account.Kind.USER, owner_id=owner_id), brand)


def keeping_of(account: Account | None, brand: Brand) -> Keeping:
    """The same for who has the account already."""
    days = account.features.get("retention_days") if account else None
    return Keeping(days, brand.retention_days, account.plan_name if account else "", brand.zone)


def _without_history(principal: Principal) -> Q:
    """Whether this person's chats are kept for 0 days; asked once for a query, not once for each row."""
    account = Account.objects.filter(
        brand_id=principal.brand_id,
        owner_id=principal.owner_id,
        kind=Account.Kind.USER,
        features__retention_days=0,
    )
    return Q(Exists(account)) | Q(Exists(Brand.objects.filter(pk=principal.brand_id, retention_days=0)))


def readable(principal: Principal) -> Q:
    """A chat that its owner may still read: what is kept for 0 days goes 24 hours after its last message."""
    is_fresh = Q(last_message_at__gt=Now() - READABLE) | Q(pinned_at__isnull=False)
    if principal.role == "app_visitor":
        return Q(last_message_at__gt=Now() - READABLE)
    return is_fresh | ~_without_history(principal)


def listed(principal: Principal) -> Q:
    """A chat that lists and search may show: none is, where history is kept for 0 days, but for what is pinned."""
    return Q(pinned_at__isnull=False) | ~_without_history(principal)


def listed_to_others(brand_id: UUID) -> Q:
    """A chat that its brand's admins, and where history is shared its members, may see: what is kept for 0 days is nobody's
    history, but for what is pinned."""
    account = Account.objects.filter(
        brand_id=brand_id, owner_id=OuterRef("owner_id"), kind=Account.Kind.USER, features__retention_days=0
    )
    none = Q(Exists(account)) | Q(Exists(Brand.objects.filter(pk=brand_id, retention_days=0)))
    return Q(pinned_at__isnull=False) | ~none


# When


def sweeps_at(zone: str, now: datetime) -> datetime:
    """The last 02:00 in this zone that has come. Where the clocks skip it, it comes with the jump; of two, the first."""
    today = now.astimezone(ZoneInfo(zone)).date()
    at = _at_hour(today, zone)
    return at if at <= now else _at_hour(today - timedelta(days=1), zone)


def _at_hour(day: Any, zone: str) -> datetime:
    return datetime.combine(day, AT_HOUR, ZoneInfo(zone)).astimezone(
        UTC
    )  # fold=0: the first of two; in a gap, the jump


def ends_at(keeping: Keeping, last_message_at: datetime, pinned_at: datetime | None = None) -> datetime | None:
    """When a chat is deleted if nothing more is said in it; None = never."""
    if pinned_at or keeping.days is None:
        return None
    if keeping.days == 0:
        return last_message_at + READABLE
    return _next_sweep(last_message_at + timedelta(days=keeping.days), keeping.zone)


def _next_sweep(over: datetime, zone: str) -> datetime:
    day = over.astimezone(ZoneInfo(zone)).date()
    at = _at_hour(day, zone)
    return at if at >= over else _at_hour(day + timedelta(days=1), zone)


def words(keeping: Keeping, chat: Any) -> str:
    """Until when a chat is kept, as its owner is told: "Kept until 3 December, Basic plan." """
    zone = ZoneInfo(keeping.zone)
    if chat.deleted_at:
        gone_at = _next_sweep(chat.deleted_at + timedelta(days=BIN_DAYS), keeping.zone)
        gone_at = min(gone_at, ends_at(keeping, chat.last_message_at, chat.pinned_at) or gone_at)
        return _("In the bin until %(day)s.") % {"day": _last_day(gone_at, zone)}
    if chat.pinned_at:
        return _("Kept while it is pinned.")
    end = ends_at(keeping, chat.last_message_at)
    if end is None:
        return _("Kept until you delete it.")
    if keeping.days == 0:
        at = end.astimezone(zone)
        moment = {"day": dates.said(at, "j F"), "time": dates.said(at, "H:i"), "zone": at.tzname()}
        return _("Can be read until %(day)s, %(time)s %(zone)s. Chats are not kept longer on your plan.") % moment
    if keeping.plan_name and keeping.days == keeping.plan_days:
        return _("Kept until %(day)s, %(plan)s plan.") % {"day": _last_day(end, zone), "plan": keeping.plan_name}
    return _("Kept until %(day)s.") % {"day": _last_day(end, zone)}


def rule(keeping: Keeping) -> str:
    """The rule behind it, in one sentence for the head of the history."""
    if keeping.days is None:
        return _("Chats are kept until you delete them.")
    if keeping.days == 0:
        return _("Your plan keeps no history: a chat can be read for 24 hours after its last message, by its address.")
    return ngettext(
        "Chats are kept for one day after their last message, pinned ones for as long as you like.",
        "Chats are kept for %(days)s days after their last message, pinned ones for as long as you like.",
        keeping.days,
    ) % {"days": keeping.days}


def _last_day(end: datetime, zone: ZoneInfo) -> str:
    """The last whole day before a sweep in the night."""
    return dates.said(end.astimezone(zone).date() - timedelta(days=1), "j F")


# The sweep. Which chats are over is decided by the statement that deletes them, from the plan as it stands then; a chat
# whose row changes under it (a new message, a pin) is looked at again, as it is by then. While an answer is written,
# its chat stays.

_IDLE = """not exists (select from conversations_turn t
               where t.conversation_id = c.id and t.status in ('pending', 'streaming'))"""
OVER = {
    # Everybody who has a plan here or is a member; the index of newest chats gives the oldest of each.
    "retention": f"""
        select c.id, o.by from (
            select owner_id, case when days = 0 then %(now)s - %(readable)s else %(swept)s - days * %(day)s end as by
            from (select whose.owner_id, least((a.features ->> 'retention_days')::int, %(brand_days)s::int) as days
                  from (select user_id as owner_id from accounts_membership where brand_id = %(brand)s
                        union select owner_id from quotas_account where brand_id = %(brand)s and kind = 'user') whose
                  left join quotas_account a on a.brand_id = %(brand)s and a.kind = 'user' and a.owner_id = whose.owner_id) r
            where days is not null) o
        join conversations_conversation c on c.brand_id = %(brand)s and c.owner_id = o.owner_id
             and c.last_message_at <= o.by and c.pinned_at is null and c.owner_kind = 'user'
        where {_IDLE}""",  # noqa: S608
    "visitors": f"""
        select c.id, v.by from conversations_conversation c,
               lateral (select case when c.agent_id is null then %(now)s - %(readable)s
                                    when %(brand_days)s::int is not null then %(swept)s - %(brand_days)s::int * %(day)s
                               end as by) v
        where c.brand_id = %(brand)s and c.owner_kind = 'visitor' and c.last_message_at <= %(now)s - %(readable)s
              and c.last_message_at <= v.by and c.pinned_at is null and {_IDLE}""",  # noqa: S608
    "bin": f"""
        select c.id, null::timestamptz as by from conversations_conversation c
        where c.brand_id = %(brand)s and c.deleted_at <= %(swept)s - {BIN_DAYS} * %(day)s and {_IDLE}""",  # noqa: S608
}
_STILL = {
    "retention": "c.last_message_at <= over.by and c.pinned_at is null",
    "visitors": "c.last_message_at <= over.by and c.pinned_at is null",
    "bin": f"c.deleted_at <= %(swept)s - {BIN_DAYS} * %(day)s",
}
COUNT = {reason: f"select count(*) as chats from ({over}) over" for reason, over in OVER.items()}  # noqa: S608
DELETE = {
    reason: f"""
        with over as materialized ({over} limit {AT_A_TIME})
        delete from conversations_conversation c using over
        where c.id = over.id and {_STILL[reason]}
        returning c.id, c.owner_id"""  # noqa: S608
    for reason, over in OVER.items()
}


def sweep(now: datetime | None = None, *, dry_run: bool = False) -> dict[str, Counter[str]]:
    """Delete the chats that are over, with all that was said in them; what they cost stays. Source: S1, S2.

    By brand (slug) and reason how many were deleted, or with `dry_run` would be. Safe to run twice, late, beside itself
    and beside answers: a run at any hour does what was due at the last 02:00 of each brand, so one that was missed or
    killed is made up by the next.
    """
    now = now or clock.now()
    with scope(SERVICE):
        rows = list(Brand.objects.order_by("slug").values("pk", "slug", "zone", "retention_days"))
    done: dict[str, Counter[str]] = {}
    for brand in rows:
        try:
            swept = Counter({reason: _sweep(brand, reason, now, dry_run) for reason in OVER})
        except Exception:  # one brand that cannot be swept must not keep the others from it
            log.exception("the chats of %s could not be swept", brand["slug"])
            swept = Counter(failed=1)
        if swept := +swept:
            done[brand["slug"]] = swept
    return done


def _sweep(brand: Mapping[str, Any], reason: str, now: datetime, dry_run: bool) -> int:
    names = {
        "brand": brand["pk"],
        "brand_days": brand["retention_days"],
        "now": now,
        "swept": sweeps_at(brand["zone"], now),
        "readable": READABLE,
        "day": timedelta(days=1),
    }
    if dry_run:
        with opening(SERVICE, (COUNT[reason], names)) as (counted,):
            return int(counted[0].chats)
    swept = 0
    while True:
        with opening(SERVICE, (DELETE[reason], names)) as (gone,):
            _tell(brand["pk"], gone, reason)
        swept += len(gone)
        if len(gone) < AT_A_TIME:
            return swept


def erase_from_bin(principal: Principal) -> int:
    """Delete for good what a person has put into the bin. Returns how many chats; there is no way back."""
    with scope(principal):
        names = {"brand": principal.brand_id, "owner": principal.owner_id}
        gone = send((EMPTY_BIN, names))[0]
        _tell(principal.brand_id, gone, "emptied")
        return len(gone)


EMPTY_BIN = f"""
delete from conversations_conversation c
where c.brand_id = %(brand)s and c.owner_id = %(owner)s and c.deleted_at is not null and {_IDLE}
returning c.id, c.owner_id
"""  # noqa: S608


def _tell(brand_id: UUID, gone: Iterable[Any], reason: str) -> None:
    send(
        *(
            stream.publishing(
                brand_id,
                "conversation.erased",
                subject=("conversation", row.id),
                owner_id=row.owner_id,
                data={"reason": reason},
            )
            for row in gone
        )
    )
