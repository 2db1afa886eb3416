"""/manage/plan/: the brand's admins see its own plan and pool, what was added to it, and who used how much this month."""

from collections.abc import Iterable
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import Count, Q, Sum
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts.access import BrandRequest, admin_goes_out
from accounts.models import Brand, User
from billing import lifecycle, overview
from lib import clock, dates
from lib.db import SERVICE, scope
from lib.money import price
from lib.windows import WindowKind, window
from quotas.models import Account, Entry, UsageLog
from quotas.standing import standings
from quotas.words import meter_name

SHOWN = 50


@admin_goes_out
@require_safe
def plan(request: BrandRequest) -> HttpResponse:
    brand, now = request.brand, clock.now()
    month = window(WindowKind.MONTH, now, zone=brand.zone)
    with scope(request.principal) as standing:
        subscription = lifecycle.current(brand, brand.pk)
        own = standings(brand, kind=Account.Kind.BRAND, owner_id=brand.pk, now=now)
        context = {
            "brand": brand,
            "here": "manage-plan",
            "standing": standing,
            "plan": subscription.plan if subscription else None,
            "words": overview.status_words(subscription, brand.zone) if subscription else [],
            "meters": overview.meter_rows(own, brand.zone, now),
            "top_ups": _top_ups(brand),
            "since": dates.said(month.opens_at.astimezone(ZoneInfo(brand.zone)), "j F"),
        }
        used = _used(brand, month.opens_at)
    return render(request, "manage/plan.html", context | {"members": _named(brand, used)})


def _top_ups(brand: Brand) -> list[dict[str, Any]]:
    """What staff added to the brand's own account, newest first."""
    rows = Entry.objects.filter(brand=brand, owner_id=brand.pk, kind=Entry.Kind.TOP_UP).select_related("bucket")
    return [
        {
            "day": overview.day(row.created_at, brand.zone),
            "amount": row.limit_delta,
            "units": meter_name(row.bucket.meter),
            "reason": row.reason,
        }
        for row in rows.order_by("-created_at")[:SHOWN]
    ]


def _used(brand: Brand, since: Any) -> list[dict[str, Any]]:
    """Each person's use since then, the largest first."""
    rows = UsageLog.objects.filter(brand=brand, created_at__gte=since)
    answers = Count("pk", filter=~Q(usage_type=UsageLog.Type.CONVERSATION))
    by_owner = rows.values("owner_id").annotate(
        answers=answers,
        tokens=Sum("total_tokens"),
        model_cost=Sum("model_cost_microusd"),
        extra=Sum("total_cost_microusd"),
    )
    return [dict(row) for row in by_owner.order_by("-tokens", "owner_id")[:SHOWN]]


def _named(brand: Brand, used: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    """With the addresses of those who are members; visitors have none, and who left has none here any more."""
    rows = list(used)
    names = _addresses(brand, [row["owner_id"] for row in rows])
    return [
        {
            "name": names.get(row["owner_id"], _("A visitor, or somebody who left")),
            "answers": row["answers"],
            "tokens": row["tokens"],
            "cost": price(row["model_cost"]),
            "extra": price(row["extra"]),
        }
        for row in rows
    ]


def _addresses(brand: Brand, ids: list[UUID]) -> dict[UUID, str]:
    """An admin's role does not read people; the service does, and only those of this brand."""
    with scope(SERVICE):
        members = User.objects.filter(pk__in=ids, memberships__brand=brand)
        return dict(members.values_list("pk", "email"))
