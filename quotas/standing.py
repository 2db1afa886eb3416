"""What is left, without holding anything: the page's meter and S1's can_user_query()."""

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.utils import timezone

from accounts.models import Brand
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
    now = now or timezone.now()
    entitlements = Entitlement.objects.filter(
        brand=brand, account__kind=kind, account__owner_id=owner_id, ends_at=None
    ).order_by("meter")
    found = []
    open_buckets = {
        (bucket.account_id, bucket.meter, bucket.window, bucket.opens_at): bucket
        for bucket in Bucket.objects.filter(
            brand=brand, owner_id=owner_id, pocket=Bucket.Pocket.PLAN, opens_at__lte=now
        ).exclude(closes_at__lte=now)
    }
    for row in entitlements:
        open_now = window(row.window, now, zone=brand.zone, anchor=row.anchor_at)
        bucket = open_buckets.get((row.account_id, row.meter, row.window, open_now.opens_at))
        found.append(
            Standing(
                meter=row.meter,
                window=row.window,
                limit=bucket.limit if bucket else row.limit,
                used=bucket.used if bucket else 0,
                held=bucket.held if bucket else 0,
                resets_at=open_now.closes_at,
            )
        )
    return found


def account_of(brand: Brand, *, kind: str, owner_id: UUID) -> Account | None:
    return Account.objects.filter(brand=brand, kind=kind, owner_id=owner_id).first()
