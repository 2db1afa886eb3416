"""reserve -> settle, exactly once. The only code that changes a bucket.

Every function here runs on the `service` alias in a short transaction of its own, or in the caller's service scope.
Members read their own buckets under row-level security and can change none.
"""

from collections import namedtuple
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db import connections
from django.db.models import F
from django.utils import timezone

from accounts.models import Brand
from lib.db import SERVICE, current_alias, scope
from lib.errors import Invalid
from lib.ids import uuid7
from lib.windows import window
from quotas.errors import QuotaExceeded
from quotas.models import LOCK_RANK, Account, Bucket, Entitlement, Entry, Hold, Meter
from quotas.words import refusal

HOLD_FOR = timedelta(minutes=15)  # longer than any turn may last; what is older is void (INV10)


@dataclass(frozen=True, slots=True)
class Grant:
    """One line of a plan: `limit` units of `meter` in each `window`; None = no limit."""

    meter: str
    window: str
    limit: int | None


# One statement decides and takes. `room` locks the buckets in the fixed order and sees them as they are after the wait,
# `verdict` is all or nothing, `taken` and `held` change only what was just locked.
RESERVE = """
with want (kind, owner_id, meter, amount) as (
    select * from unnest(%(kinds)s::text[], %(owners)s::uuid[], %(meters)s::text[], %(amounts)s::bigint[])
), line as materialized (
    select w.meter, w.amount, a.kind, a.owner_id, b.id as bucket_id
    from want w
    join quotas_account a on a.brand_id = %(brand)s and a.kind = w.kind and a.owner_id = w.owner_id
    join quotas_entitlement e on e.account_id = a.id and e.meter = w.meter and e.ends_at is null
    left join quotas_bucket b on b.account_id = a.id and b.meter = w.meter and b.pocket = 'plan' and b."window" = e."window"
        and b.opens_at <= coalesce(%(now)s, now()) and (b.closes_at is null or b.closes_at > coalesce(%(now)s, now()))
), room as materialized (
    select b.id, line.meter, line.amount, b.owner_id,
           b."limit" is null or b.used + b.held + line.amount <= b."limit" as enough
    from line join quotas_bucket b on b.id = line.bucket_id
    order by b.lock_rank, b.id
    for update of b
), verdict as (
    select coalesce(bool_and(enough), true) and count(*) = (select count(*) from line)
           and exists (select from line where kind = %(asker)s)
           and not exists (select from quotas_hold where reservation = %(reservation)s)
           and not exists (select from quotas_entry where reservation = %(reservation)s) as go
    from room
), taken as (
    update quotas_bucket b set held = b.held + room.amount
    from room, verdict where b.id = room.id and verdict.go
    returning b.id
), held as (
    insert into quotas_hold (id, brand_id, owner_id, reservation, bucket_id, meter, amount, created_at, expires_at)
    select gen_random_uuid(), %(brand)s, room.owner_id, %(reservation)s, room.id, room.meter, room.amount,
           coalesce(%(now)s, now()), coalesce(%(now)s, now()) + %(hold_for)s
    from room join taken on taken.id = room.id
)
select verdict.go, line.kind, line.owner_id, line.meter, line.bucket_id, room.enough
from verdict left join line on true left join room on room.id = line.bucket_id
"""

SETTLE = """
with open as (
    select h.id, h.bucket_id, h.brand_id, h.owner_id, h.meter, h.amount,
           least(coalesce(c.amount, 0), h.amount) as charged, coalesce(c.cost, 0) as cost
    from quotas_hold h
    left join unnest(%(meters)s::text[], %(amounts)s::bigint[], %(costs)s::bigint[]) c (meter, amount, cost) on c.meter = h.meter
    where h.reservation = %(reservation)s
    for update of h
), locked as materialized (
    select b.id from quotas_bucket b join open on open.bucket_id = b.id order by b.lock_rank, b.id for update of b
), gone as (
    delete from quotas_hold using open, locked where quotas_hold.id = open.id and locked.id = open.bucket_id
    returning open.id as hold_id, open.bucket_id, open.brand_id, open.owner_id, open.meter, open.amount, open.charged, open.cost
), written as (
    insert into quotas_entry (id, brand_id, owner_id, bucket_id, kind, limit_delta, used_delta, reservation, hold_id,
                              cost_microusd, reason, created_at)
    select gen_random_uuid(), brand_id, owner_id, bucket_id, 'use', 0, charged, %(reservation)s, hold_id,
           cost, %(reason)s, coalesce(%(now)s, now()) from gone
), changed as (
    update quotas_bucket b set held = b.held - gone.amount, used = b.used + gone.charged
    from gone where b.id = gone.bucket_id
)
select meter, amount, charged from gone
"""


def reserve(
    brand: Brand,
    *,
    asker: tuple[str, UUID],
    amounts: Mapping[str, int],
    reservation: UUID,
    now: datetime | None = None,
) -> None:
    """Hold room for one turn on every account that applies: the asker's and the brand's. Settle it exactly once.

    asker        (Account.Kind, id): ("user", user_id) or ("visitor", visitor_id)
    amounts      upper bounds in units of each meter: {"queries": 1, "tokens": prompt + max_tokens}
    reservation  the turn's id; a second call with it changes nothing
    Raises       QuotaExceeded; nothing is held then
    Source       S0 "Check Before Sending", S1 can_user_query(), S2 check_conversation_limit()
    """
    accounts = [asker, (Account.Kind.BRAND.value, brand.pk)]
    pairs = [(kind, owner, meter, amount) for kind, owner in accounts for meter, amount in amounts.items()]
    names = {
        "brand": brand.pk,
        "asker": asker[0],
        "reservation": reservation,
        "now": now,
        "hold_for": HOLD_FOR,
        "kinds": [kind for kind, _, _, _ in pairs],
        "owners": [owner for _, owner, _, _ in pairs],
        "meters": [meter for _, _, meter, _ in pairs],
        "amounts": [amount for _, _, _, amount in pairs],
    }
    with scope(SERVICE):
        rows = _rows(RESERVE, names)
        if rows[0].go:
            return
        missing = [row for row in rows if row.meter and not row.bucket_id]
        if missing:
            for row in missing:
                _open_window(
                    Account.objects.get(brand=brand, kind=row.kind, owner_id=row.owner_id), row.meter, brand, now
                )
            rows = _rows(RESERVE, names)
            if rows[0].go:
                return
        if is_reserved(reservation):
            return
        short = next((row for row in rows if row.enough is False), None)
        if short is None:
            raise QuotaExceeded(
                "You have no plan on this brand yet, so there is nothing to ask with. Ask its admin for one.",
                reason="no_plan",
                requires_payment=False,
                meter="queries",
                limit=0,
                left=0,
                resets_at=None,
            )
        bucket = Bucket.objects.select_related("account").get(pk=short.bucket_id)
        raise refusal(bucket, wanted=amounts[short.meter], zone=brand.zone)


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
    meters = list(amounts)
    names = {
        "reservation": reservation,
        "meters": meters,
        "amounts": [amounts[meter] for meter in meters],
        "costs": [cost_microusd if meter == Meter.TOKENS else 0 for meter in meters],
        "reason": reason,
        "now": now,
    }
    with scope(SERVICE):
        return bool(_rows(SETTLE, names))


def is_reserved(reservation: UUID) -> bool:
    return (
        Hold.objects.filter(reservation=reservation).exists() or Entry.objects.filter(reservation=reservation).exists()
    )


def charge_house(brand_id: UUID, *, tokens: int, reservation: UUID, now: datetime | None = None) -> None:
    """Book what a provider reported beyond the hold on our own account: no member ever pays more than was held."""
    with scope(SERVICE):
        account, _ = Account.objects.get_or_create(brand_id=brand_id, kind=Account.Kind.HOUSE, owner_id=brand_id)
        bucket = _bucket(
            account, Meter.TOKENS, "month", None, Brand.objects.get(pk=brand_id), now, pocket=Bucket.Pocket.HOUSE
        )
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

    A limit changed inside a window keeps what was used: above it only new questions are refused.
    """
    now = now or timezone.now()
    wanted = {grant.meter: grant for grant in grants}
    with scope(SERVICE):
        account, _ = Account.objects.update_or_create(
            brand=brand,
            kind=kind,
            owner_id=owner_id,
            defaults={"plan_code": plan_code, "plan_name": plan_name, "features": dict(features or {})},
        )
        in_force = {row.meter: row for row in account.entitlements.select_for_update().filter(ends_at=None)}
        for meter, row in in_force.items():
            grant = wanted.get(meter)
            if grant and (grant.window, grant.limit, anchor_at) == (row.window, row.limit, row.anchor_at):
                continue
            row.ends_at = now
            row.save(update_fields=["ends_at"])
        for meter, grant in wanted.items():
            row = in_force.get(meter)
            if row and row.ends_at is None:
                continue
            Entitlement.objects.create(
                brand=brand,
                owner_id=owner_id,
                account=account,
                meter=meter,
                window=grant.window,
                limit=grant.limit,
                anchor_at=anchor_at,
            )
            _fit_open_window(account, grant, brand, anchor_at, now)
        return account


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
        held = account and account.entitlements.filter(meter=meter, ends_at=None).first()
        if not account or not held or held.limit is None:
            raise Invalid(f"{brand} has no limit of {meter} that could be raised.")
        bucket = _open_window(account, meter, brand, now)
        Bucket.objects.filter(pk=bucket.pk).update(limit=F("limit") + amount)
        Entry.objects.bulk_create(
            [_entry(bucket, Entry.Kind.TOP_UP, limit_delta=amount, reason=reason.strip(), actor_id=actor_id)]
        )
        bucket.refresh_from_db()
        return bucket


def void_expired(now: datetime | None = None) -> int:
    """Give back holds that outlived every turn. Returns how many: any at all is worth a look."""
    with scope(SERVICE):
        late = Hold.objects.filter(expires_at__lt=now or timezone.now()).values_list("reservation", flat=True)
        reservations = sorted(set(late[:1000]))
        for reservation in reservations:
            settle(reservation, amounts={}, reason="expired", now=now)
        return len(reservations)


def _open_window(account: Account, meter: str, brand: Brand, now: datetime | None) -> Bucket:
    held = account.entitlements.get(meter=meter, ends_at=None)
    return _bucket(account, meter, held.window, held.limit, brand, now, anchor_at=held.anchor_at)


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
    """The bucket of the window that is open at `now` by the database's clock; made, with its first entry, if need be."""
    open_now = window(kind, now or _database_now(), zone=brand.zone, anchor=anchor_at)
    bucket = Bucket(
        brand=brand,
        owner_id=account.owner_id,
        account=account,
        meter=meter,
        pocket=pocket,
        window=kind,
        lock_rank=LOCK_RANK[account.kind],
        opens_at=open_now.opens_at,
        closes_at=open_now.closes_at,
        limit=limit,
    )
    Bucket.objects.bulk_create([bucket], ignore_conflicts=True)
    stored = Bucket.objects.get(account=account, meter=meter, pocket=pocket, window=kind, opens_at=open_now.opens_at)
    if stored.pk == bucket.pk and limit is not None:
        Entry.objects.bulk_create([_entry(bucket, Entry.Kind.GRANT, limit_delta=limit, reason="window opened")])
    return stored


def _fit_open_window(account: Account, grant: Grant, brand: Brand, anchor_at: datetime | None, now: datetime) -> None:
    """Move the limit of a window that is open already, by an entry. Never below what is used and held."""
    open_now = window(grant.window, now, zone=brand.zone, anchor=anchor_at)
    bucket = (
        Bucket.objects.select_for_update()
        .filter(
            account=account,
            meter=grant.meter,
            pocket=Bucket.Pocket.PLAN,
            window=grant.window,
            opens_at=open_now.opens_at,
        )
        .first()
    )
    if bucket is None or bucket.limit == grant.limit:
        return
    before, after = bucket.limit, grant.limit
    if after is not None:
        after = max(after, bucket.used + bucket.held)
    delta = (after or 0) - (before or 0)
    Bucket.objects.filter(pk=bucket.pk).update(limit=after)
    Entry.objects.bulk_create([_entry(bucket, Entry.Kind.GRANT, limit_delta=delta, reason="plan changed")])


def _entry(bucket: Bucket, kind: str, **fields: Any) -> Entry:
    return Entry(id=uuid7(), brand_id=bucket.brand_id, owner_id=bucket.owner_id, bucket=bucket, kind=kind, **fields)


def _rows(sql: str, names: dict[str, Any]) -> list[Any]:
    with connections[current_alias()].cursor() as cursor:
        cursor.execute(sql, names)
        row = namedtuple("Row", [column.name for column in cursor.description])
        return [row(*values) for values in cursor.fetchall()]


def _database_now() -> datetime:
    with connections[current_alias()].cursor() as cursor:
        cursor.execute("select now()")
        return cursor.fetchone()[0]
