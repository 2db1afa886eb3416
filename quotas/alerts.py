"""80 % and 100 % of a limit, told once in each window to whoever can do something about it.

Decided after settlement by a reader of the stream, never while somebody asks: it may be half a minute late.
"""

import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils.translation import gettext as _

from accounts import preferences
from accounts.models import Brand, Membership, User
from events import notices
from events.models import Event, Notification
from events.reading import unread
from lib import clock, dates
from lib.db import SERVICE, scope, send
from lib.figures import grouped
from lib.money import dollars
from quotas.models import Account, Bucket
from quotas.proof import Drift
from quotas.words import meter_name

# Of those for whom anything happened, and of their brands: the open windows of which four fifths are used. A limit of 0 has
# nothing to use up, and what was used under an earlier plan's window counts no more.
NEAR = """
with active as (
    select distinct brand_id, owner_id from unnest(%(brands)s::uuid[], %(owners)s::uuid[]) as who(brand_id, owner_id)
), whose as (
    select brand_id, owner_id from active where owner_id is not null union select brand_id, brand_id from active
)
select b.id, b.brand_id, b.owner_id, a.kind, b.meter, b.pocket, b."limit", b.used, b.closes_at
from whose join quotas_bucket b on b.brand_id = whose.brand_id and b.owner_id = whose.owner_id
join quotas_account a on a.id = b.account_id
where a.kind in ('user', 'brand') and b.pocket in ('plan', 'overage') and b."limit" > 0 and b.used >= b."limit" * 0.8
      and b.opens_at <= %(now)s and (b.closes_at is null or b.closes_at > %(now)s)
      and (b.pocket = 'overage' or exists (
          select from quotas_entitlement e
          where e.account_id = a.id and e.meter = b.meter and e."window" = b."window" and e.ends_at is null
      ))
order by b.id
"""
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alert:
    bucket: Any  # a row of NEAR
    brand: Brand
    user_id: UUID

    @property
    def percent(self) -> int:
        return 100 if self.bucket.used >= self.bucket.limit else 80

    def once(self, percent: int) -> str:
        return f"usage:{self.bucket.id}:{percent}"


def look(now: datetime | None = None) -> int:
    """Tell of every limit that came near or was reached since the last look. Returns how many people were told."""
    now = now or clock.now()
    told = 0
    for events in unread("usage_alerts"):
        with scope(SERVICE):
            alerts = list(_untold(events, now))
        for alert in alerts:
            try:
                told += tell(alert) is not None
            except Exception:  # one that cannot be told must not keep the others from it
                log.exception("the limit of bucket %s could not be told", alert.bucket.id)
    return told


def _untold(events: Iterable[Event], now: datetime) -> Iterator[Alert]:
    active = list({(event.brand_id, event.owner_id) for event in events})
    who = {"brands": [brand_id for brand_id, _ in active], "owners": [owner_id for _, owner_id in active]}
    (near,) = send((NEAR, {**who, "now": now}))
    brands = Brand.objects.in_bulk({row.brand_id for row in near})
    of_brand: dict[UUID, list[UUID]] = {}
    managers = Membership.objects.filter(
        brand_id__in={row.brand_id for row in near if row.kind == Account.Kind.BRAND},
        role__in=[Membership.Role.OWNER, Membership.Role.ADMIN],
        user__is_active=True,
        suspended_at=None,
    )
    for brand_id, user_id in managers.values_list("brand_id", "user_id"):
        of_brand.setdefault(brand_id, []).append(user_id)
    alerts = [
        Alert(row, brands[row.brand_id], user_id)
        for row in near
        for user_id in (of_brand.get(row.brand_id, []) if row.kind == Account.Kind.BRAND else [row.owner_id])
    ]
    keys = {alert.once(percent) for alert in alerts for percent in (80, 100)}
    before = set(Notification.objects.filter(once__in=keys, brand_id__in=brands).values_list("owner_id", "once"))
    for alert in alerts:  # who heard of 100 % need not hear of 80 % after a top-up
        if not any((alert.user_id, alert.once(percent)) in before for percent in {alert.percent, 100}):
            yield alert


def tell(alert: Alert) -> Notification | None:
    """By bell and mail. None = somebody else was first."""
    bucket = alert.bucket
    is_brand = bucket.kind == Account.Kind.BRAND
    with preferences.in_language_of(alert.user_id):
        title, message = words(alert)
        return notices.tell(
            alert.brand.pk,
            alert.user_id,
            notices.Type.USAGE_LIMIT,
            title=title,
            message=message,
            priority=notices.Priority.HIGH if alert.percent == 100 else notices.Priority.NORMAL,
            action_url="/manage/plan/" if is_brand else "/settings/plan/",
            action_label=_("Plan and usage"),
            once=alert.once(alert.percent),
        )


def words(alert: Alert) -> tuple[str, str]:
    """A title, and what happened, what that means and what can be done."""
    bucket, brand = alert.bucket, alert.brand
    full = alert.percent == 100
    if bucket.pocket == Bucket.Pocket.OVERAGE:
        title = (
            _("All of your cap for extra questions is used")
            if full
            else _("80 %% of your cap for extra questions used")
        )
        told = {"used": dollars(bucket.used), "limit": dollars(bucket.limit)}
        said = [_("Questions beyond your plan have cost %(used)s of the %(limit)s a month that you allow.") % told]
        more = _("A higher cap, a larger plan or a pack lets you go on.")
    else:
        told = {"used": grouped(bucket.used), "limit": grouped(bucket.limit), "units": meter_name(bucket.meter)}
        said = [_("%(used)s of %(limit)s %(units)s are used.") % told]
        if bucket.kind == Account.Kind.BRAND:
            title = _("All of %(brand)s’s %(units)s are used") if full else _("80 %% of %(brand)s’s %(units)s used")
            more = _("Top-ups come from our staff.")
        else:
            title = _("All of your %(units)s are used") if full else _("80 %% of your %(units)s used")
            more = _("A larger plan or a pack gives more.")
    if bucket.closes_at:
        local = bucket.closes_at.astimezone(ZoneInfo(brand.zone))
        when = {"day": dates.said(local, "j F"), "time": f"{local:%H:%M}", "zone": brand.zone}
        said.append(_("It starts anew on %(day)s at %(time)s (%(zone)s).") % when)
    title %= {"units": meter_name(bucket.meter), "brand": brand.name}
    return title, " ".join([*said, more])


def tell_staff(drifts: Iterable[Drift]) -> int:
    """Tell all staff who may see balances of those that do not add up, by bell and mail, once a day for each brand.

    Returns  how many notices that made
    """
    told = 0
    with scope(SERVICE):
        staff = [
            user for user in User.objects.filter(is_staff=True, is_active=True) if user.has_perm("quotas.view_bucket")
        ]
        by_brand: dict[UUID, list[str]] = {}
        for drift in drifts:
            by_brand.setdefault(drift.brand_id, []).append(str(drift))
        for brand_id, found in by_brand.items():
            more = f" And {len(found) - 2} more." if len(found) > 2 else ""
            for user in staff:
                notice = notices.tell(
                    brand_id,
                    user.pk,
                    notices.Type.SYSTEM,
                    title="A balance is not the sum of its lines",
                    message="; ".join(found[:2]) + "." + more + " Nothing repairs it by itself: find out why first.",
                    priority=notices.Priority.URGENT,
                    action_url="/admin/quotas/bucket/balances/",
                    action_label="Balances",
                    once=f"drift:{clock.now():%Y-%m-%d}",
                )
                told += notice is not None
    return told
