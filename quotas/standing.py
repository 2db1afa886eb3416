"""What is left, without holding anything: the page's meter and S1's can_user_query()."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import Manager, Q, QuerySet

from accounts.models import Brand
from lib import clock
from lib.windows import window
from quotas.models import Account, Bucket, Entitlement


@dataclass(frozen=True, slots=True)
class Standing:
    """One meter of one account, now. Units are the meter's; None = no limit. `left` never counts what others hold."""

    meter: str
    window: str
    limit: int | None
    used: int
    held: int
    resets_at: datetime | None

    @property
    def left(self) -> int | None:
        return None if self.limit is None else max(0, self.limit - self.used - self.held)

    @property
    def percent(self) -> int:
        """Of the limit, used or held; 100 when nothing is included."""
        if self.limit is None:
            return 0
        return min(100, (self.used + self.held) * 100 // self.limit) if self.limit else 100


def standings(brand: Brand, *, kind: str, owner_id: UUID, now: datetime | None = None) -> list[Standing]:
    """Every meter this account is entitled to. Reads under the caller's scope: a member sees the own account only."""
    now = now or clock.now()
    of_account = Entitlement.objects.filter(brand=brand, account__kind=kind, account__owner_id=owner_id)
    rows = list(of_account.filter(Q(ends_at=None) | ~Q(overrides_until=None)).order_by("meter"))
    overrides = {row.meter: row for row in rows if row.overrides_until}
    found = []
    counting = {
        (bucket.account_id, bucket.meter, bucket.window): bucket
        for bucket in open_buckets(Bucket.objects.filter(brand=brand, owner_id=owner_id), now)
    }
    for row in rows:
        if row.ends_at:
            continue
        bucket = counting.get((row.account_id, row.meter, row.window))
        open_now = bucket or window(row.window, now, zone=brand.zone, anchor=row.anchor_at)
        found.append(
            Standing(
                meter=row.meter,
                window=row.window,
                limit=_limit(row, overrides.get(row.meter), bucket, now),
                used=bucket.used if bucket else 0,
                held=bucket.held if bucket else 0,
                resets_at=open_now.closes_at,
            )
        )
    return found


def _limit(row: Entitlement, override: Entitlement | None, bucket: Bucket | None, now: datetime) -> int | None:
    """The bucket's, unless an override is over that nobody has carried out since."""
    if override and override.overrides_until and override.overrides_until <= now:
        return row.limit
    return bucket.limit if bucket else (override or row).limit


def open_buckets(buckets: Manager[Bucket] | QuerySet[Bucket], now: datetime) -> QuerySet[Bucket]:
    """The plan's buckets whose window contains `now`. Of two of a kind (the zone was changed) the later counts."""
    here = buckets.filter(pocket=Bucket.Pocket.PLAN, opens_at__lte=now).exclude(closes_at__lte=now)
    return here.order_by("opens_at")


def account_of(brand: Brand, *, kind: str, owner_id: UUID) -> Account | None:
    return Account.objects.filter(brand=brand, kind=kind, owner_id=owner_id).first()
