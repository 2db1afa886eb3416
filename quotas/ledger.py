"""reserve -> settle, exactly once. The only code that changes a bucket.

Every function here runs on the `service` alias in a short transaction of its own, or in the caller's service scope.
Members read their own buckets under row-level security and can change none.
"""

import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.conf import settings
from django.db import connections
from django.db.models import F, Sum
from django.db.models.functions import Now

from accounts.models import Brand
from lib import clock
from lib.db import SERVICE, Statement, current_alias, scope, serve
from lib.errors import Invalid, Unavailable
from lib.ids import uuid7
from lib.windows import window
from quotas.errors import QuotaExceeded, TooManyRunning
from quotas.models import LOCK_RANK, Account, Bucket, Entitlement, Entry, Hold, Meter
from quotas.standing import open_buckets
from quotas.statements import LOCK, RESERVE, SETTLE
from quotas.words import no_plan, refusal, too_many_running

HOLD_FOR = timedelta(minutes=15)  # longer than any turn may last; what is older is void (INV10)
MOST_CONCURRENT = 100_000
ATTEMPTS = 5  # to decide: one more for a window that nobody has opened, more for a plan that changes all the time
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Grant:
    """One line of a plan: `limit` units of `meter` in each `window`; None = no limit."""

    meter: str
    window: str
    limit: int | None


def reserve(
    brand: Brand,
    *,
    asker: tuple[str, UUID],
    amounts: Mapping[str, int],
    reservation: UUID,
    purpose: str = "turn",
    now: datetime | None = None,
) -> str:
    """Hold room on every account that applies: the asker's and the brand's. Settle it exactly once.

    asker        (Account.Kind, id): ("user", user_id) or ("visitor", visitor_id)
    amounts      upper bounds in units of each meter: {"queries": 1, "tokens": prompt + max_tokens}
    reservation  the turn's id; a second call with it changes nothing
    purpose      what that id is an id of; what is not "turn" stands until it is settled, for HOLD_FOR at most
    Returns      the pocket that pays
    Raises       QuotaExceeded, TooManyRunning; nothing is held then
    Durable      with the caller's next commit: until that one stores what the hold is for, nothing was asked
    Source       S0 "Check Before Sending", S1 can_user_query(), S2 check_conversation_limit()
    """
    accounts = [asker, (Account.Kind.BRAND.value, brand.pk)]  # in the order of LOCK_RANK
    pairs = [(kind, owner, meter, amount) for kind, owner in accounts for meter, amount in amounts.items()]
    names = {
        "brand": brand.pk,
        "asker": asker[0],
        "asking": [kind for kind, _ in accounts],
        "askers": [owner for _, owner in accounts],
        "reservation": reservation,
        "purpose": purpose,
        "now": now,
        "hold_for": HOLD_FOR,
        "kinds": [kind for kind, _, _, _ in pairs],
        "owners": [owner for _, owner, _, _ in pairs],
        "caps": [settings.CONCURRENT_TURNS["member" if kind == asker[0] else "brand"] for kind, _, _, _ in pairs],
        "meters": [meter for _, _, meter, _ in pairs],
        "amounts": [amount for _, _, _, amount in pairs],
    }
    for _ in range(ATTEMPTS):
        lines = serve((LOCK, names), (RESERVE, names), lazily=True)[-1]
        if lines[0].go or lines[0].is_made:
            return Bucket.Pocket.PLAN.value
        undecided = [line for line in lines if line.meter and line.enough is None]
        if not undecided:
            break
        _open_windows(brand, undecided, now)
    raise _refused(brand, asker, lines)


def settle(
    reservation: UUID,
    *,
    amounts: Mapping[str, int],
    cost_microusd: int = 0,
    reason: str = "",
    now: datetime | None = None,
) -> bool:
    """Replace the holds of a reservation by their entries; a meter left out, or 0, gives its hold back whole.

    amounts  what was really used; at most the hold is charged, the rest goes to the house's account
    Returns  False when it had been settled before: nothing changes then
    """
    statement = settling(reservation, amounts=amounts, cost_microusd=cost_microusd, reason=reason, now=now)
    return bool(serve(statement)[0])


def settling(
    reservation: UUID,
    *,
    amounts: Mapping[str, int],
    cost_microusd: int = 0,
    reason: str = "",
    now: datetime | None = None,
) -> Statement:
    """settle() as a statement, for a caller whose own service transaction it belongs to."""
    meters = list(amounts)
    names = {
        "reservation": reservation,
        "meters": meters,
        "amounts": [amounts[meter] for meter in meters],
        "costs": [cost_microusd if meter == Meter.TOKENS else 0 for meter in meters],
        "reason": reason,
        "now": now,
    }
    return SETTLE, names


def charge_house(brand_id: UUID, *, tokens: int, reservation: UUID, now: datetime | None = None) -> None:
    """Book what a provider reported beyond the hold on our own account: no member ever pays more than was held.

    A repeat for the same reservation changes nothing.
    """
    with scope(SERVICE):
        account, _ = Account.objects.get_or_create(brand_id=brand_id, kind=Account.Kind.HOUSE, owner_id=brand_id)
        account = Account.objects.select_for_update(no_key=True).get(pk=account.pk)
        if Entry.objects.filter(reservation=reservation, bucket__account=account).exists():
            return
        brand = Brand.objects.get(pk=brand_id)
        bucket = _bucket(account, Meter.TOKENS, "month", None, brand, now, pocket=Bucket.Pocket.HOUSE)
        Entry.objects.bulk_create(
            [_entry(bucket, Entry.Kind.USE, used_delta=tokens, reservation=reservation, reason="beyond the hold")]
        )
        Bucket.objects.filter(pk=bucket.pk).update(used=F("used") + tokens)


def entitle(
    brand: Brand,
    *,
    kind: str,
    owner_id: UUID,
    grants: Iterable[Grant],
    plan_code: str = "",
    plan_name: str = "",
    features: Mapping[str, Any] | None = None,
    anchor_at: datetime | None = None,
    now: datetime | None = None,
) -> Account:
    """Set what an account may use from now on. Billing calls this; the same call twice changes nothing.

    A window that is open keeps what was used and what was topped up; its limit moves at once, but not below what is
    used and held: then only new questions are refused. A new anchor counts from the next window on.

    features  what chat reads; `concurrent_turns` (1 or more) stands for the default of CONCURRENT_TURNS
    Raises    Invalid for a `concurrent_turns` that is no such number
    """
    if not _is_cap(cap := (features or {}).get("concurrent_turns")):
        raise Invalid(f"concurrent_turns must be a whole number from 1 to {MOST_CONCURRENT:,}, not {cap!r}.")
    now = now or clock.now()
    wanted = {grant.meter: grant for grant in grants}
    with scope(SERVICE):
        account, _ = Account.objects.update_or_create(
            brand=brand,
            kind=kind,
            owner_id=owner_id,
            defaults={"plan_code": plan_code, "plan_name": plan_name, "features": dict(features or {})},
        )
        unchanged = set()
        for row in account.entitlements.filter(ends_at=None):
            grant = wanted.get(row.meter)
            if grant and (grant.window, grant.limit, anchor_at) == (row.window, row.limit, row.anchor_at):
                unchanged.add(row.meter)
            else:
                row.ends_at = now
                row.save(update_fields=["ends_at"])
        Entitlement.objects.bulk_create(
            Entitlement(
                brand=brand,
                owner_id=owner_id,
                account=account,
                meter=meter,
                window=grant.window,
                limit=grant.limit,
                anchor_at=anchor_at,
            )
            for meter, grant in wanted.items()
            if meter not in unchanged
        )
        _fit_open_windows(account, wanted, now)
        return account


def _is_cap(given: Any) -> bool:
    return given is None or (type(given) is int and 1 <= given <= MOST_CONCURRENT)


def top_up(
    brand: Brand, *, meter: str, amount: int, reason: str, actor_id: UUID | None = None, now: datetime | None = None
) -> Bucket:
    """Raise the brand's limit in the window that is open now. Source: S0, top-ups in admin."""
    if amount <= 0:
        raise Invalid("A top-up adds something: give an amount above 0.")
    if not reason.strip():
        raise Invalid("A top-up needs a reason: it stands in the ledger for good.")
    with scope(SERVICE):
        account = Account.objects.filter(brand=brand, kind=Account.Kind.BRAND, owner_id=brand.pk).first()
        bucket = account and _open_window(account.pk, meter, brand, now)
        if not bucket or not Bucket.objects.filter(pk=bucket.pk, limit__isnull=False).update(limit=F("limit") + amount):
            raise Invalid(
                f"{brand} has no limit of {meter} that could be raised. What a member may ask comes from the member's plan."
            )
        Entry.objects.bulk_create(
            [_entry(bucket, Entry.Kind.TOP_UP, limit_delta=amount, reason=reason.strip(), actor_id=actor_id)]
        )
        bucket.refresh_from_db()
        return bucket


def void_expired(now: datetime | None = None) -> int:
    """Give back holds that outlived every turn, each in a transaction of its own. Returns how many turns had any."""
    with scope(SERVICE):
        late = Hold.objects.filter(expires_at__lt=now or Now()).values_list("reservation", flat=True)
        reservations = set(late[:1000])
    voided = 0
    for reservation in reservations:
        try:
            voided += settle(reservation, amounts={}, reason="expired", now=now)
        except Exception:  # one that cannot be settled must not keep the others from it
            log.exception("the hold of %s is expired and could not be given back", reservation)
    return voided


def _refused(brand: Brand, asker: tuple[str, UUID], lines: list[Any]) -> QuotaExceeded | TooManyRunning:
    if all(line.kind != asker[0] for line in lines):
        return no_plan()
    own_first = sorted(lines, key=lambda line: LOCK_RANK[line.kind])
    short = next((line for line in own_first if line.enough is False), None)
    full = next((line for line in own_first if line.is_full), None)
    if short is None and full is not None:
        return too_many_running(full.kind, full.most)
    if short is None:
        raise Unavailable("The plan is being changed at this moment. Try again; nothing was charged.", retry_after=1)
    return refusal(
        short.kind,
        short.meter,
        limit=short.limit,
        left=max(0, short.limit - short.taken),
        wanted=short.amount,
        closes_at=short.closes_at,
        zone=brand.zone,
    )


def _open_windows(brand: Brand, lines: list[Any], now: datetime | None) -> None:
    with scope(SERVICE):
        for line in sorted(lines, key=lambda line: (LOCK_RANK[line.kind], line.account_id)):
            _open_window(line.account_id, line.meter, brand, now)


def _open_window(account_id: UUID, meter: str, brand: Brand, now: datetime | None) -> Bucket | None:
    """The plan's bucket that counts now, made if need be; None when the plan has no such meter.

    The account's lock stands between this and entitle(), so that no window opens with the limit of yesterday's plan.
    """
    account = Account.objects.select_for_update(no_key=True).get(pk=account_id)
    held = account.entitlements.filter(meter=meter, ends_at=None).first()
    if held is None:
        return None
    now = now or _database_now()
    counting = [
        bucket for bucket in open_buckets(account.buckets, now) if (bucket.meter, bucket.window) == (meter, held.window)
    ]
    return (
        counting[-1]
        if counting
        else _bucket(account, meter, held.window, held.limit, brand, now, anchor_at=held.anchor_at)
    )


def _bucket(
    account: Account,
    meter: str,
    kind: str,
    limit: int | None,
    brand: Brand,
    now: datetime | None,
    *,
    anchor_at: datetime | None = None,
    pocket: str = Bucket.Pocket.PLAN,
) -> Bucket:
    """The bucket of the window that is open at `now`; made, with its first entry, if need be."""
    now = now or _database_now()
    open_now = window(kind, now, zone=brand.zone, anchor=anchor_at)
    same = Bucket.objects.filter(account=account, meter=meter, pocket=pocket, window=kind)
    # A zone or an anchor that moved: what began as this window may be over already, and the next one begins where it ended.
    over = same.filter(closes_at__gt=open_now.opens_at, closes_at__lte=now).order_by("closes_at").last()
    opens_at = over.closes_at if over and over.closes_at else open_now.opens_at
    bucket = Bucket(
        brand=brand,
        owner_id=account.owner_id,
        account=account,
        meter=meter,
        pocket=pocket,
        window=kind,
        lock_rank=LOCK_RANK[account.kind],
        opens_at=opens_at,
        closes_at=open_now.closes_at,
        limit=limit,
    )
    Bucket.objects.bulk_create([bucket], ignore_conflicts=True)
    stored = same.get(opens_at=opens_at)
    if stored.pk == bucket.pk and limit is not None:
        Entry.objects.bulk_create([_entry(bucket, Entry.Kind.GRANT, limit_delta=limit, reason="window opened")])
    return stored


def _fit_open_windows(account: Account, grants: Mapping[str, Grant], now: datetime) -> None:
    """Move the limits of windows that are open already, by entries. The caller holds the account's lock."""
    for bucket in {(row.meter, row.window): row for row in open_buckets(account.buckets, now)}.values():
        grant = grants.get(bucket.meter)
        if grant is None or grant.window != bucket.window:
            continue
        after = grant.limit
        if after is not None:
            topped_up = bucket.entries.filter(kind=Entry.Kind.TOP_UP).aggregate(sum=Sum("limit_delta"))["sum"] or 0
            after = max(after + topped_up, bucket.used + bucket.held)
        if after == bucket.limit:
            continue
        Bucket.objects.filter(pk=bucket.pk).update(limit=after)
        delta = (after or 0) - (bucket.limit or 0)
        Entry.objects.bulk_create([_entry(bucket, Entry.Kind.GRANT, limit_delta=delta, reason="plan changed")])


def _entry(bucket: Bucket, kind: str, **fields: Any) -> Entry:
    return Entry(id=uuid7(), brand_id=bucket.brand_id, owner_id=bucket.owner_id, bucket=bucket, kind=kind, **fields)


def _database_now() -> datetime:
    with connections[current_alias()].cursor() as cursor:
        cursor.execute("select now()")
        now: datetime = cursor.fetchone()[0]
        return now
