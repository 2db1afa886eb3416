"""Buckets: opened when a window is first needed, moved by entries only. Whoever calls these holds the account's lock.

Not for other rooms: they call quotas.ledger.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import Sum

from accounts.models import Brand
from lib.db import current_alias
from lib.ids import uuid7
from lib.windows import WindowKind, window
from quotas.models import LOCK_RANK, Account, Bucket, Entry, Meter
from quotas.standing import open_buckets

MOST_UNITS = 10**15  # of any meter, in a pack or a limit: far beyond what anybody uses, far within BIGINT


@dataclass(frozen=True, slots=True)
class Allowance:
    """What an account may use of one meter now: the plan's window, the override's limit while there is one."""

    window: str
    limit: int | None
    anchor_at: datetime | None


def locked_account(brand: Brand, *, kind: str, owner_id: UUID) -> Account:
    """The account, made if need be, and locked until the transaction ends."""
    account, _ = Account.objects.select_for_update(no_key=True).get_or_create(brand=brand, kind=kind, owner_id=owner_id)
    return account


def locked(account_id: UUID) -> Account:
    return Account.objects.select_for_update(no_key=True).get(pk=account_id)


def allowances(account: Account, now: datetime) -> dict[str, Allowance]:
    """By meter: the plan's entitlements in force, and for the limit the override's, where one is."""
    overrides = dict(account.entitlements.filter(overrides_until__gt=now).values_list("meter", "limit"))
    return {
        row.meter: Allowance(row.window, overrides.get(row.meter, row.limit), row.anchor_at)
        for row in account.entitlements.filter(ends_at=None)
    }


def open_window(account: Account, meter: str, brand: Brand, now: datetime) -> Bucket | None:
    """The plan's bucket that counts now, made if need be; None when the plan has no such meter."""
    if account.entitlements.filter(overrides_until__lte=now).exists():
        fit_open_windows(account, now, reason="override ended")
    allowed = allowances(account, now).get(meter)
    if allowed is None:
        return None
    counting = [bucket for bucket in open_buckets(account.buckets, now) if _is_of(bucket, meter, allowed)]
    return (
        counting[-1]
        if counting
        else bucket_of(account, meter, allowed.window, allowed.limit, brand, now, anchor_at=allowed.anchor_at)
    )


def open_overage(account: Account, brand: Brand, now: datetime) -> Bucket:
    """The bucket of what the member may be charged beyond the plan in this month of the subscription."""
    unit = allowances(account, now).get(account.features.get("unit", Meter.QUERIES))
    return bucket_of(
        account,
        Meter.OVERAGE_MICROUSD,
        WindowKind.MONTH,
        overage_cap_microusd(account),
        brand,
        now,
        anchor_at=unit.anchor_at if unit else None,
        pocket=Bucket.Pocket.OVERAGE,
    )


def overage_cap_microusd(account: Account) -> int:
    """The smaller of the member's own cap and the plan's; a plan that names none gives none."""
    of_plan: int = account.features.get("overage_cap_microusd") or 0
    return of_plan if account.overage_cap_microusd is None else min(of_plan, account.overage_cap_microusd)


def bucket_of(
    account: Account,
    meter: str,
    kind: str,
    limit: int | None,
    brand: Brand,
    now: datetime,
    *,
    anchor_at: datetime | None = None,
    pocket: str = Bucket.Pocket.PLAN,
) -> Bucket:
    """The bucket of the window that is open at `now`; made, with its first entry, if need be."""
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
        Entry.objects.bulk_create([entry(bucket, Entry.Kind.GRANT, limit_delta=limit, reason="window opened")])
    return stored


def fit_open_windows(
    account: Account, now: datetime, *, reason: str = "plan changed", actor_id: UUID | None = None
) -> None:
    """Move the limits of the windows that are open to what the account is allowed now, by entries.

    With that, an override that is over is carried out: its date is cleared.
    """
    account.entitlements.filter(overrides_until__lte=now).update(overrides_until=None)
    allowed = allowances(account, now)
    for bucket in {(row.meter, row.window): row for row in open_buckets(account.buckets, now)}.values():
        here = allowed.get(bucket.meter)
        if here and _is_of(bucket, bucket.meter, here):
            fit(bucket, _with_top_ups(bucket, here.limit), reason=reason, actor_id=actor_id)
    for bucket in account.buckets.filter(pocket=Bucket.Pocket.OVERAGE, closes_at__gt=now):
        fit(bucket, overage_cap_microusd(account), reason=reason, actor_id=actor_id)


def fit(
    bucket: Bucket,
    limit: int | None,
    *,
    reason: str,
    kind: Entry.Kind = Entry.Kind.GRANT,
    actor_id: UUID | None = None,
) -> None:
    """Set a limit, by an entry. Where more is used and held, the excess stands beside it until it was given back."""
    if limit == bucket.limit:
        return
    delta, bucket.limit = (limit or 0) - (bucket.limit or 0), limit
    bucket.excess = max(0, bucket.used + bucket.held - limit) if limit is not None else 0
    bucket.save(update_fields=["limit", "excess"])
    Entry.objects.bulk_create([entry(bucket, kind, limit_delta=delta, reason=reason, actor_id=actor_id)])


def entry(bucket: Bucket, kind: str, **fields: Any) -> Entry:
    """A line of the ledger, to be stored by the caller, who changes the bucket by the same amount."""
    fields = {"id": uuid7()} | fields
    return Entry(brand_id=bucket.brand_id, owner_id=bucket.owner_id, bucket=bucket, kind=kind, **fields)


def database_now() -> datetime:
    with connections[current_alias()].cursor() as cursor:
        cursor.execute("select now()")
        now: datetime = cursor.fetchone()[0]
        return now


def _is_of(bucket: Bucket, meter: str, allowed: Allowance) -> bool:
    return (bucket.meter, bucket.window) == (meter, allowed.window)


def _with_top_ups(bucket: Bucket, limit: int | None) -> int | None:
    if limit is None:
        return None
    topped_up = bucket.entries.filter(kind=Entry.Kind.TOP_UP).aggregate(sum=Sum("limit_delta"))["sum"]
    return limit + (topped_up or 0)
