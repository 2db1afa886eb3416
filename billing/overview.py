"""What a member's plan, pockets and payments look like now, as plain values for the page. Runs in the member's scope."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID
from zoneinfo import ZoneInfo

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from billing import charts
from billing.models import BillingTransaction, Plan, Subscription
from billing.promises import counted, one
from lib import clock, dates
from lib.db import Principal
from lib.money import in_field, price
from quotas import usage
from quotas.decision import Beyond, Decision
from quotas.models import Account, Meter, Pack, UsageLog
from quotas.standing import Standing
from quotas.words import meter_name, resets

DAYS = 30
PAGE = 20
OPENS = re.compile(r"https?://|/[^/\\]")  # an invoice's page: at the provider's, or the stand-in's
Status = Subscription.Status


@dataclass(frozen=True, slots=True)
class Word:
    """How something stands, in a sentence; `level` is "", "warn" or "danger", `way` the button beside it: portal, resume."""

    text: str
    level: str = ""
    way: str = ""


def day(at: datetime, zone: str) -> str:
    """4 December 2026, in the brand's zone."""
    return dates.said(at.astimezone(ZoneInfo(zone)), "j F Y")


def price_of(plan: Plan, cycle: str) -> str:
    """What the plan costs in one cycle: "$9.99 a month"."""
    if cycle == "year" and plan.annual_price_microusd is not None:
        return _("%(price)s a year") % {"price": price(plan.annual_price_microusd, plan.currency)}
    if not plan.price_microusd:
        return _("no monthly price")
    per = _("%(price)s a year") if plan.period == Plan.Period.YEAR else _("%(price)s a month")
    return per % {"price": price(plan.price_microusd, plan.currency)}


def status_words(subscription: Subscription, zone: str) -> list[Word]:
    """What will happen to the plan by itself, and what has to be done."""
    words = []
    status, ends_at = subscription.status, subscription.period_ends_at
    fallback = _("Until then everything stays as it is, and you can take it back.")
    if status == Status.PAST_DUE:
        words.append(_past_due(subscription, zone))
    elif subscription.cancel_at_period_end and ends_at:
        words.append(Word(_("Ends on %(day)s.") % {"day": day(ends_at, zone)} + " " + fallback, "warn", "resume"))
    elif status == Status.TRIALING and subscription.trial_ends_at:
        words.append(_tried(subscription, day(subscription.trial_ends_at, zone)))
    elif subscription.next_plan and ends_at:
        words.append(
            Word(
                _("Becomes %(plan)s on %(day)s.") % {"plan": subscription.next_plan.name, "day": day(ends_at, zone)}
                + " "
                + fallback
            )
        )
    elif ends_at and subscription.provider_subscription_id:
        says = _("Renews on %(day)s for %(price)s.")
        if not subscription.plan.price_microusd:
            says = _("A new month begins on %(day)s.")
        words.append(Word(says % {"day": day(ends_at, zone), "price": price_of(subscription.plan, subscription.cycle)}))
    return words


def status_name(subscription: Subscription | None) -> str:
    """A word beside the plan's name, where there is something to say."""
    names: dict[str, str] = {
        Status.TRIALING: _("Trial"),
        Status.PAST_DUE: _("Payment failed"),
        Status.CANCELLED: _("Ended"),
    }
    return names.get(subscription.status, "") if subscription else ""


def can_cancel(subscription: Subscription) -> bool:
    """What costs nothing is not cancelled, and what ends already is taken back instead."""
    return bool(subscription.provider_subscription_id) and not subscription.cancel_at_period_end


def stays_until(subscription: Subscription, zone: str) -> str:
    """The day on which a plan that is cancelled now would end: of the trial, or of what is paid. Empty when unknown."""
    ends_at = subscription.period_ends_at or subscription.trial_ends_at
    return day(ends_at, zone) if ends_at else ""


def _tried(subscription: Subscription, ends: str) -> Word:
    if not subscription.provider_subscription_id:
        says = _("Free until %(day)s. Then it ends, and nothing is charged. Choose the plan to go on with it.")
    elif not subscription.is_billable:
        says = _("Free until %(day)s. Then it ends and nothing is charged, unless you store a card before.")
    else:
        says = _("Free until %(day)s, then %(price)s. Cancel before, and nothing is charged.")
    return Word(says % {"day": ends, "price": price_of(subscription.plan, subscription.cycle)})


def _past_due(subscription: Subscription, zone: str) -> Word:
    failed = _("The last payment failed.")
    if subscription.grace_ends_at and subscription.grace_ends_at > clock.now():
        kept = _("Your plan stays until %(day)s, without extra questions.") % {
            "day": day(subscription.grace_ends_at, zone)
        }
    else:
        kept = _("Your plan is out of force until it is paid.")
    return Word(f"{failed} {kept} " + _("Store a card that works, and it is tried again."), "danger", "portal")


@dataclass(frozen=True, slots=True)
class MeterRow:
    label: str
    used: int
    held: int
    limit: int | None
    left: int | None
    percent: int
    level: str
    resets: str

    @property
    def bound(self) -> int:
        """What the bar may claim: more than the limit would be no valid ARIA value."""
        return self.left if self.left is not None else 0


def meter_rows(standings: Sequence[Standing], zone: str, now: datetime) -> list[MeterRow]:
    """Without what the plan does not include: nothing of it is left, and nothing starts again."""
    return [
        MeterRow(
            label=_label(row),
            used=row.used,
            held=row.held,
            limit=row.limit,
            left=row.left,
            percent=row.percent,
            level="full" if row.percent >= 100 else "high" if row.percent >= 80 else "",
            resets=resets(row.resets_at, zone, now),
        )
        for row in standings
        if row.limit != 0
    ]


def _label(row: Standing) -> str:
    name = {"units": meter_name(row.meter).capitalize()}
    windows = {"day": _("%(units)s today"), "month": _("%(units)s this month"), "lifetime": _("%(units)s in total")}
    return windows.get(row.window, "%(units)s") % name


@dataclass(frozen=True, slots=True)
class PackRow:
    name: str
    left: str
    bought: str
    expires: str
    is_over: bool


def packs_of(principal: Principal) -> list[Pack]:
    packs = Pack.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
    return list(packs.select_related("bucket"))


def in_turn(packs: list[Pack], now: datetime) -> list[Pack]:
    """Those that can still pay, soonest expiry first and oldest last; then those that are used up or expired."""

    def turn(pack: Pack) -> tuple[bool, bool, float, UUID]:
        at = pack.expires_at
        return _is_over(pack, now), at is None, at.timestamp() if at else 0.0, pack.pk

    return sorted(packs, key=turn)


def _is_over(pack: Pack, now: datetime) -> bool:
    return pack.bucket.left == 0 or (pack.expires_at is not None and pack.expires_at <= now)


def pack_row(pack: Pack, zone: str, now: datetime) -> PackRow:
    expires_at = pack.expires_at
    if expires_at is None:
        expires = _("never")
    elif expires_at <= now:
        expires = _("expired on %(day)s") % {"day": day(expires_at, zone)}
    else:
        expires = day(expires_at, zone)
    return PackRow(
        name=pack.name,
        left=counted(pack.bucket.meter, pack.bucket.left or 0),
        bought=day(pack.created_at, zone),
        expires=expires,
        is_over=_is_over(pack, now),
    )


@dataclass(frozen=True, slots=True)
class Pocket:
    """One of the pockets a question may be paid from, in their order; `has` says whether it could pay now."""

    name: str
    words: str
    has: bool


def pockets(decision: Decision, extra: "Overage", zone: str, now: datetime) -> list[Pocket]:
    unit, found = decision.unit, []
    if decision.is_own_key_allowed:
        found.append(Pocket(_("Own key"), _("not counted, where you stored a key for the model's maker"), True))
    found.append(_plan_pocket(decision.meter(unit), zone, now))
    left = sum(pack.left for pack in decision.packs if pack.meter == unit)
    found.append(Pocket(_("Packs"), _("%(amount)s left") % {"amount": counted(unit, left)}, left > 0))
    return [*found, _extra_pocket(extra)]


def _plan_pocket(row: Standing | None, zone: str, now: datetime) -> Pocket:
    if row is None or row.limit == 0:
        return Pocket(_("Plan"), _("nothing included"), False)
    if row.limit is None:
        return Pocket(_("Plan"), _("no limit"), True)
    words = _("%(amount)s left") % {"amount": counted(row.meter, row.left or 0)}
    if again := resets(row.resets_at, zone, now):
        words = _("%(left)s, starts again %(again)s") % {"left": words, "again": again}
    return Pocket(_("Plan"), words, bool(row.left))


def _extra_pocket(extra: "Overage") -> Pocket:
    name = _("Extra")
    if extra.is_past_due:
        return Pocket(name, _("off until the failed payment is made"), False)
    if not extra.is_allowed:
        return Pocket(name, _("not part of your plan"), False)
    if not extra.is_on:
        return Pocket(name, _("off"), False)
    if not extra.is_billable:
        return Pocket(name, _("on, but no card is stored"), False)
    words = _("%(spent)s of %(cap)s spent this month") % {"spent": extra.spent, "cap": extra.cap}
    return Pocket(name, words, extra.percent < 100 and not extra.arrears_microusd)


@dataclass(frozen=True, slots=True)
class Overage:
    """Extra questions: whether they may be switched on, what they cost, what this month has cost so far."""

    is_allowed: bool
    is_past_due: bool
    is_on: bool
    is_by_default: bool
    is_billable: bool
    each: str
    each_microusd: int
    units: str
    cap_microusd: int
    most_microusd: int
    spent_microusd: int
    held_microusd: int
    arrears_microusd: int
    currency: str

    @property
    def spent(self) -> str:
        return price(self.spent_microusd, self.currency)

    @property
    def cap(self) -> str:
        return price(self.cap_microusd, self.currency)

    @property
    def most(self) -> str:
        return price(self.most_microusd, self.currency)

    @property
    def arrears(self) -> str:
        return price(self.arrears_microusd, self.currency)

    @property
    def percent(self) -> int:
        spent = self.spent_microusd + self.held_microusd
        return min(100, spent * 100 // self.cap_microusd) if self.cap_microusd else 100

    @property
    def bound_microusd(self) -> int:
        """What the bar may claim."""
        return min(self.spent_microusd, self.cap_microusd)

    @property
    def cap_in_field(self) -> str:
        """10, 7.50"""
        return in_field(self.cap_microusd)


def overage_of(account: Account | None, beyond: Beyond | None, row: Subscription | None) -> Overage:
    features = account.features if account else {}
    unit = features.get("unit") or Meter.QUERIES.value
    currency = row.plan.currency if row else "USD"
    each = price(beyond.price_microusd if beyond else 0, currency)
    return Overage(
        is_allowed=bool(beyond and beyond.is_allowed),
        is_past_due=bool(row and row.status == Status.PAST_DUE and row.plan.overage_allowed),
        is_on=bool(beyond and beyond.is_on),
        is_by_default=bool(beyond and beyond.is_allowed and features.get("overage_by_default")),
        is_billable=bool(beyond and beyond.is_billable),
        each_microusd=beyond.price_microusd if beyond else 0,
        each=_("%(price)s a %(unit)s") % {"price": each, "unit": one(unit)},
        units=meter_name(unit),
        cap_microusd=beyond.cap_microusd if beyond else 0,
        most_microusd=int(features.get("overage_cap_microusd") or 0),
        spent_microusd=beyond.used_microusd if beyond else 0,
        held_microusd=beyond.held_microusd if beyond else 0,
        arrears_microusd=beyond.arrears_microusd if beyond else 0,
        currency=currency,
    )


def chart(principal: Principal, zone: str, now: datetime) -> charts.Chart:
    """The last 30 days of the brand's calendar, by pocket."""
    today = now.astimezone(ZoneInfo(zone)).date()
    days = [today - timedelta(days=back) for back in range(DAYS - 1, -1, -1)]
    used = {row.day: row for row in usage.by_day(principal.brand_id, principal.owner_id, since=days[0])}
    columns = {
        _("Plan"): "plan_queries",
        _("Pack"): "pack_queries",
        _("Extra"): "overage_queries",
        _("Own key"): "own_key_queries",
    }
    series = {name: {day: getattr(row, column) for day, row in used.items()} for name, column in columns.items()}
    return charts.stacked(days, series)


POCKETS = {
    "plan": gettext_lazy("Plan"),
    "pack": gettext_lazy("Pack"),
    "overage": gettext_lazy("Extra"),
    "own_key": gettext_lazy("Own key"),
}


def uses(principal: Principal, zone: str, before: UUID | None = None) -> tuple[list[dict[str, Any]], UUID | None]:
    """One page of single uses, newest first, and where the next one begins."""
    rows = UsageLog.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id).order_by("-id")
    found = list((rows.filter(pk__lt=before) if before else rows)[: PAGE + 1])
    shown = [
        {
            "when": dates.said(row.created_at.astimezone(ZoneInfo(zone)), "j M Y, H:i"),
            "what": row.get_usage_type_display(),
            "model": row.model,
            "pocket": POCKETS.get(row.pocket, "")
            if row.counted_against_quota or row.overage or row.byok
            else _("free"),
            "cost": price(row.total_cost_microusd) if row.total_cost_microusd else "",
        }
        for row in found[:PAGE]
    ]
    return shown, found[PAGE - 1].pk if len(found) > PAGE else None


def transactions(principal: Principal, zone: str) -> list[dict[str, Any]]:
    """The newest lines of what was paid and given back."""
    rows = BillingTransaction.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
    return [
        {
            "day": day(row.happened_at, zone),
            "what": row.description or row.get_type_display(),
            "number": row.invoice_number,
            "sum": price(row.total_amount_microusd, row.currency),
            "tax": price(row.tax_amount_microusd, row.currency) if row.tax_amount_microusd else "",
            "status": row.get_status_display(),
            "is_bad": row.status in (BillingTransaction.Status.FAILED, BillingTransaction.Status.OPEN),
            "url": row.invoice_url if OPENS.match(row.invoice_url) else "",
        }
        for row in rows.order_by("-happened_at", "-id")[:PAGE]
    ]
