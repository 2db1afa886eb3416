"""May this be asked, who would pay, what it costs, and what else can be done: S1's can_user_query(), without holding.

DECIDE (quotas.statements) is the one rule. ledger.reserve() takes by it, can_user_query() only tells what it says, and both
refuse in the same words.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext as _

from accounts.models import Brand
from lib.db import SERVICE, scope, serve
from lib.errors import DomainError, Unavailable
from quotas import words
from quotas.buckets import database_now, locked, open_overage, open_window
from quotas.errors import QuotaExceeded, TooManyRunning
from quotas.models import LOCK_RANK, Account, Bucket, Meter
from quotas.standing import Standing
from quotas.statements import BEYOND, CHECK, PACKS

ATTEMPTS = 5  # to decide: one more for a window that nobody has opened, more for a plan that changes all the time
METERS = [meter.value for meter in Meter if meter != Meter.OVERAGE_MICROUSD]


@dataclass(frozen=True, slots=True)
class PackLeft:
    """What is left of a pack, in units of its meter; `expires_at` None = never."""

    name: str
    meter: str
    left: int
    limit: int
    expires_at: datetime | None


@dataclass(frozen=True, slots=True)
class Beyond:
    """What may be charged beyond the plan, this month. Micro-dollars; `cap_microusd` is the smaller of both caps."""

    is_allowed: bool  # by the plan
    is_on: bool  # chosen, by the member or with the plan
    is_billable: bool  # a payment method is stored
    price_microusd: int  # for one unit
    cap_microusd: int
    used_microusd: int
    held_microusd: int
    arrears_microusd: int
    resets_at: datetime | None

    @property
    def left_microusd(self) -> int:
        return max(0, self.cap_microusd - self.used_microusd - self.held_microusd)


@dataclass(frozen=True, slots=True)
class Decision:
    """What reserve() would do with the same amounts now.

    reason            "allowed", or why not: a stable code; `detail` says it in a sentence
    requires_payment  paying would help: the asker's own plan is short, not the brand's, and there is something to pay for
    pocket            what would pay: "plan", "pack", "overage", "own_key"; "" when nothing would
    price_microusd    what the asker would be charged for it
    meters            the asker's own, each in its plan's window
    ways              what can be done now, the most obvious first: wait, overage, payment_method, own_key, pack, plan,
                      ask_admin
    """

    can_query: bool
    reason: str
    detail: str
    requires_payment: bool
    pocket: str
    price_microusd: int
    meters: Sequence[Standing]
    ways: Sequence[str]
    unit: str = Meter.QUERIES.value
    wanted: int = 1  # of the unit
    plan_name: str = ""
    packs: Sequence[PackLeft] = ()
    beyond: Beyond | None = None
    is_own_key_allowed: bool = False
    refusal: DomainError | None = field(default=None, repr=False)

    def meter(self, meter: str) -> Standing | None:
        return next((row for row in self.meters if row.meter == meter), None)


def can_user_query(
    brand: Brand,
    *,
    asker: tuple[str, UUID],
    amounts: Mapping[str, int],
    own_key: bool = False,
    also: Iterable[tuple[str, UUID]] = (),
    now: datetime | None = None,
) -> Decision:
    """Decide as reserve() would with these arguments, and hold nothing. A window that nobody has opened yet is opened.

    As the service, because the brand's own pool is looked at too: whoever calls proves the asker's standing.

    Source  S1 can_user_query(), S0 checkQuota()
    """
    names = asking(
        brand, asker=asker, amounts=dict.fromkeys(METERS, 0) | dict(amounts), own_key=own_key, also=also, now=now
    )
    for _attempt in range(ATTEMPTS):
        lines, packs, beyond = serve((CHECK, names), (PACKS, names), (BEYOND, names))
        if not (missing := unopened(lines)):
            break
        open_windows(brand, missing, now)
    can_query = lines[0].go
    refusal = None if can_query else refused(brand, asker, lines)
    told = refusal.extra if refusal else {}
    own = [line for line in lines if line.kind == asker[0] and line.bucket_id]
    pocket = paid_by(lines, own_key=own_key) if can_query else ""
    unit = next((line for line in own if line.is_unit), None)
    account = beyond[0] if beyond else None
    features = (account and account.features) or {}
    meters = [Standing(row.meter, row.window, row.limit, row.used, row.held, row.closes_at) for row in own]
    name = features.get("unit") or Meter.QUERIES.value
    left = [PackLeft(row.name, row.meter, row.limit - row.used - row.held, row.limit, row.closes_at) for row in packs]
    beyond_plan = _beyond(account, features) if account else None
    return Decision(
        can_query=can_query,
        reason=told.get("reason", "allowed"),
        detail=refusal.detail
        if refusal
        else words.allowed(
            pocket,
            unit=next((row for row in meters if row.meter == name), None),
            in_packs=sum(pack.left for pack in left if pack.meter == name),
            price_microusd=beyond_plan.price_microusd if beyond_plan else 0,
            left_microusd=beyond_plan.left_microusd if beyond_plan else 0,
        ),
        requires_payment=told.get("requires_payment", False),
        pocket=pocket,
        price_microusd=unit.amount * unit.rate if unit and pocket == Bucket.Pocket.OVERAGE else 0,
        meters=meters,
        ways=told.get("ways", ()),
        unit=name,
        wanted=amounts.get(name, 0),
        plan_name=account.plan_name if account else "",
        packs=left,
        beyond=beyond_plan,
        is_own_key_allowed=bool(features.get("byok_allowed")),
        refusal=refusal,
    )


def check_conversation_limit(brand: Brand, *, asker: tuple[str, UUID], now: datetime | None = None) -> Decision:
    """May one more conversation be begun? Asking on in one that was begun needs none. Source: S2."""
    return can_user_query(brand, asker=asker, amounts={Meter.CONVERSATIONS.value: 1}, now=now)


def asking(
    brand: Brand,
    *,
    asker: tuple[str, UUID],
    amounts: Mapping[str, int],
    own_key: bool,
    also: Iterable[tuple[str, UUID]],
    now: datetime | None,
) -> dict[str, Any]:
    """The values of DECIDE: each account that applies asks for each meter, in the order of LOCK_RANK.

    A user beside a brand that asks for itself pays nothing: the hold of 0 only says whose turn it is.
    """
    of_brand = (Account.Kind.BRAND.value, brand.pk)
    accounts = sorted({asker, of_brand, *also}, key=lambda account: LOCK_RANK[account[0]])
    asked = {meter: 0 if own_key else amount for meter, amount in amounts.items()}
    unpaid = Account.Kind.USER.value if asker == of_brand else None
    pairs = [
        (kind, owner, meter, 0 if kind == unpaid else amount)
        for kind, owner in accounts
        for meter, amount in asked.items()
    ]
    caps = {asker[0]: settings.CONCURRENT_TURNS["member"], of_brand[0]: settings.CONCURRENT_TURNS["brand"]}
    return {
        "brand": brand.pk,
        "asker": asker[0],
        "asker_id": asker[1],
        "asking": [kind for kind, _ in accounts],
        "askers": [owner for _, owner in accounts],
        "now": now,
        "kinds": [kind for kind, _, _, _ in pairs],
        "owners": [owner for _, owner, _, _ in pairs],
        "caps": [caps.get(kind, 0) for kind, _, _, _ in pairs],
        "meters": [meter for _, _, meter, _ in pairs],
        "amounts": [amount for _, _, _, amount in pairs],
    }


def paid_by(lines: Sequence[Any], *, own_key: bool) -> str:
    """The pocket that pays, of lines that were decided to fit."""
    return "own_key" if own_key else next((line.pocket for line in lines if line.is_unit), Bucket.Pocket.PLAN.value)


def unopened(lines: Sequence[Any]) -> list[Any]:
    """The lines that could not be decided, because a window of theirs has not been opened yet."""
    return [line for line in lines if line.meter and (line.enough is None or line.is_overage_shut)]


def open_windows(brand: Brand, lines: Sequence[Any], now: datetime | None) -> None:
    """The account's lock stands between this and entitle(), so that no window opens with the limit of yesterday's plan."""
    with scope(SERVICE):
        for line in sorted(lines, key=lambda line: (LOCK_RANK[line.kind], line.account_id)):
            account = locked(line.account_id)
            if line.is_overage_shut:
                open_overage(account, brand, now or database_now())
            else:
                open_window(account, line.meter, brand, now or database_now())


def refused(brand: Brand, asker: tuple[str, UUID], lines: Sequence[Any]) -> QuotaExceeded | TooManyRunning:
    """Why lines that do not fit do not: what the asker's own account lacks comes before what the brand's does.

    The same whatever order the database answered in, which is its own affair.
    """
    own = next((line for line in lines if line.kind == asker[0]), None)
    if own is None:
        return words.no_plan(brand)
    own_first = sorted(lines, key=lambda line: (LOCK_RANK[line.kind], line.meter))
    short = next((line for line in own_first if line.enough is False), None)
    full = next((line for line in own_first if line.is_full), None)
    if short is None and full is not None:
        return words.too_many_running(full.kind, full.most)
    if short is None:
        raise Unavailable(_("The plan is being changed at this moment. Try again; nothing was charged."), retry_after=1)
    return words.refusal(short, own.features or {}, brand=brand, is_own=short.kind == asker[0])


def _beyond(account: Any, features: Mapping[str, Any]) -> Beyond:
    of_plan = features.get("overage_cap_microusd") or 0
    return Beyond(
        is_allowed=bool(features.get("overage_allowed") and features.get("overage_price_microusd")),
        is_on=bool(account.overage_on or features.get("overage_by_default")),
        is_billable=bool(features.get("is_billable")),
        price_microusd=features.get("overage_price_microusd") or 0,
        cap_microusd=of_plan if account.own_cap is None else min(of_plan, account.own_cap),
        used_microusd=account.used or 0,
        held_microusd=account.held or 0,
        arrears_microusd=account.arrears_microusd,
        resets_at=account.closes_at,
    )
