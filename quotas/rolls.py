"""Months that ended: the next window is opened before anybody asks, and what the last one came to is said.

Nothing is set to zero: a window is a row of its own, and whoever asks first would open it. So this may run twice, late,
ten times at once or never, and every balance is the same.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from uuid import UUID

from django.db import connections

from accounts.models import Brand
from lib import clock
from lib.db import SERVICE, current_alias, scope
from lib.windows import WindowKind
from quotas.buckets import locked, open_overage, open_window
from quotas.models import Account, Bucket

log = logging.getLogger(__name__)

# Months that are over and were the last, of accounts that used something in them. Whoever used nothing opens theirs by
# asking. A plan that counts by the month no longer, and overage that is not allowed any more, open nothing.
ENDED = """
select b.account_id, b.brand_id, b.meter, b.used
from quotas_bucket b join quotas_account a on a.id = b.account_id
where b.pocket = %(pocket)s and b."window" = 'month' and b.used > 0 and b.closes_at <= %(now)s
  and not exists (
      select from quotas_bucket n where n.account_id = b.account_id and n.meter = b.meter and n.pocket = b.pocket
          and n."window" = 'month' and n.opens_at >= b.closes_at and n.opens_at <= %(now)s
  )
  and case b.pocket when 'overage' then coalesce((a.features ->> 'overage_allowed')::boolean, false)
      else exists (
          select from quotas_entitlement e where e.account_id = a.id and e.meter = b.meter and e.ends_at is null
              and e."window" = 'month'
      ) end
order by b.account_id, b.meter
"""


@dataclass(slots=True)
class Rolled:
    """How many windows were opened, and by (brand, meter) what was used in the ones that ended, in units of the meter."""

    opened: int = 0
    failed: int = 0
    windows: Counter[tuple[UUID, str]] = field(default_factory=Counter)
    used: Counter[tuple[UUID, str]] = field(default_factory=Counter)


def reset_monthly_usage(now: datetime | None = None) -> Rolled:
    """Open the plans' months that have begun. Source: S2 reset_monthly_usage()."""
    return _roll(Bucket.Pocket.PLAN, now or clock.now())


def reset_monthly_overages(now: datetime | None = None) -> Rolled:
    """Open the months of what is charged beyond the plan; sums are in micro-dollars. Source: S1 reset_monthly_overages()."""
    return _roll(Bucket.Pocket.OVERAGE, now or clock.now())


def _roll(pocket: str, now: datetime) -> Rolled:
    done, brands = Rolled(), dict[UUID, Brand]()
    for account_id, brand_id, meter, used in _ended(pocket, now):
        try:
            with scope(SERVICE):
                account = locked(account_id)
                if _has_month(account, pocket, meter, now):
                    continue  # somebody asked, or another run was first
                brand = brands.setdefault(brand_id, account.brand)
                if pocket == Bucket.Pocket.OVERAGE:
                    open_overage(account, brand, now)
                else:
                    open_window(account, meter, brand, now)
        except Exception:  # one that cannot be opened must not keep the others from it
            log.exception("the month of account %s (%s) could not be opened", account_id, meter)
            done.failed += 1
            continue
        done.opened += 1
        done.windows[brand_id, meter] += 1
        done.used[brand_id, meter] += used
    return done


def _ended(pocket: str, now: datetime) -> list[tuple[UUID, UUID, str, int]]:
    with scope(SERVICE), connections[current_alias()].cursor() as cursor:
        cursor.execute(ENDED, {"pocket": pocket, "now": now})
        return cursor.fetchall()


def _has_month(account: Account, pocket: str, meter: str, now: datetime) -> bool:
    months = account.buckets.filter(pocket=pocket, meter=meter, window=WindowKind.MONTH)
    return months.filter(opens_at__lte=now, closes_at__gt=now).exists()
