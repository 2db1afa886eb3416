"""The life of a subscription: the table of docs/billing.md, and the one function that follows it.

Facts come from whoever knows them: the till (what Stripe says now), staff, the clock. take() writes them on the row, and
in_force() reads from the row alone what it entitles to. Nothing here calls anybody outside.
"""

import logging
from collections.abc import Iterable
from copy import copy
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID

from django.conf import settings
from django.db.models import Exists, OuterRef, Q, QuerySet
from django.utils.translation import gettext as _

from accounts.models import Brand
from billing.models import Cycle, Plan, PlanLimit, Subscription, SubscriptionHistory
from events import stream
from lib import clock
from lib.db import SERVICE, opening, scope
from lib.errors import Conflict, Invalid
from lib.windows import WindowKind, window
from quotas import ledger
from quotas.models import Account

ACTIVE, TRIALING, PAST_DUE, CANCELLED = Subscription.Status
log = logging.getLogger(__name__)


class AlreadySubscribed(Conflict):
    """The member pays for a subscription already; a second one at the same time gives nothing."""

    code = "already_subscribed"


@dataclass(frozen=True, slots=True)
class Facts:
    """How a subscription stands now, in the words of whoever collects the money.

    provider, provider_subscription_id   who collects it, and its name there; both empty = given by staff
    period_starts_at, period_ends_at     what is paid now
    is_billable   whether a payment method is stored; None = as it was
    has_meter     whether its invoices count what goes beyond the plan; None = as it was
    reason, comment   why it ends, in the member's choice and words
    actor_id      the member of staff who did it, if one did
    """

    plan: Plan
    status: str = ACTIVE
    cycle: str = Cycle.MONTH
    period_starts_at: datetime | None = None
    period_ends_at: datetime | None = None
    trial_ends_at: datetime | None = None
    cancel_at_period_end: bool = False
    provider: str = ""
    provider_subscription_id: str = ""
    is_billable: bool | None = None
    has_meter: bool | None = None
    reason: str = ""
    comment: str = ""
    actor_id: UUID | None = None


def take(brand: Brand, user_id: UUID | None, facts: Facts, *, now: datetime | None = None) -> Subscription | None:
    """Let the facts be so, and entitle the member to what follows from them. The same facts again change nothing.

    user_id  None = the brand's own plan
    Returns  the subscription in force afterwards; None when the brand has no plan to fall back to
    Raises   Invalid for a plan that is not this brand's or not for such a subject; AlreadySubscribed when another
             subscription is being paid for: nothing is changed then
    Source   S1 user_subscriptions, S2 user_plans, S3 subscription_history; the table in docs/billing.md
    """
    now = now or clock.now()
    owner_id = user_id or brand.pk
    if facts.plan.brand_id != brand.pk or (facts.plan.subject == Plan.Subject.BRAND) != (user_id is None):
        raise Invalid(f"The plan {facts.plan.code} is for {facts.plan.get_subject_display()}.")
    with opening(SERVICE, key=owner_id):
        here = current(brand, owner_id)
        if here:
            here, _ = _advance(here, now)
        row = _meant(brand, owner_id, facts, here)
        if row and row.ended_at is None:
            here = _end(row, facts, now) if facts.status == CANCELLED else _change(row, facts, now)
        elif row is None and facts.status != CANCELLED:
            here = _begin(brand, owner_id, facts, here, now)
        entitle(brand, owner_id, here, now=now)
        return here


def in_force(row: Subscription, now: datetime) -> Plan | None:
    """The plan that a subscription which has not ended entitles to: its own; once grace is over, the one to fall back to."""
    if row.grace_ends_at and row.grace_ends_at <= now:
        return fallback_plan(row.brand, row.owner_id)
    return row.plan


def fallback_plan(brand: Brand, owner_id: UUID) -> Plan | None:
    """What a member has who pays for nothing: the brand's default plan.

    Where that one costs something, with a trial before or without, nobody falls back to it, but to the first plan that is
    free.
    """
    if owner_id == brand.pk:
        return None
    plans = Plan.objects.filter(brand=brand, subject=Plan.Subject.MEMBER, is_active=True)
    default = plans.filter(code=Brand.objects.filter(pk=brand.pk).values("default_plan")[:1]).first()
    if default and default.price_microusd:
        return plans.filter(price_microusd=0, overage_by_default=False).first()
    return default


def current(brand: Brand, owner_id: UUID) -> Subscription | None:
    """The subscription that has not ended; there is one at most. In the service scope or the member's own."""
    rows = Subscription.objects.select_related("brand", "plan", "next_plan")
    return rows.filter(brand=brand, owner_id=owner_id, ended_at=None).first()


def entitle(brand: Brand, owner_id: UUID, row: Subscription | None, *, now: datetime) -> None:
    """Push down to the meter what this subscription entitles to, nothing without one. Another plan is told to the stream.

    A repeat changes nothing. In the service scope.
    """
    kind, user_id = (Account.Kind.BRAND, None) if owner_id == brand.pk else (Account.Kind.USER, owner_id)
    before = (
        Account.objects.filter(brand=brand, kind=kind, owner_id=owner_id).values_list("plan_code", flat=True).first()
    )
    plan = in_force(row, now) if row else None
    features = dict(plan.features) if plan else {}
    if row and row.status == PAST_DUE:
        features["overage_allowed"] = features["overage_by_default"] = False
        features["is_past_due"] = True  # so that a refusal says why
    ledger.entitle(
        brand,
        kind=kind,
        owner_id=owner_id,
        grants=[ledger.Grant(line.meter, line.window, line.limit) for line in _lines(plan)],
        plan_code=plan.code if plan else "",
        plan_name=plan.name if plan else "",
        features=features | {"is_billable": bool(row and _is_charged_beyond(row))},
        anchor_at=row.anchor_at if row and plan and plan.pk == row.plan_id else None,
        now=now,
    )
    codes = {"from": before or None, "to": plan.code if plan else None}
    if codes["from"] != codes["to"]:
        stream.publish(brand.pk, "plan.changed", subject=(kind.value, owner_id), owner_id=user_id, data=codes)


def _is_charged_beyond(row: Subscription) -> bool:
    """A card alone is charged by nobody: what goes beyond a plan is on the invoices of a subscription with the meter."""
    return bool(row.is_billable and row.provider_subscription_id and row.has_meter is not False)


def set_metered(brand: Brand, user_id: UUID, provider_subscription_id: str, has_meter: bool) -> None:
    """Stripe has the meter on this subscription, or does not; of another than the one in force nothing is changed."""
    with opening(SERVICE, key=user_id):
        row = current(brand, user_id)
        if row and row.provider_subscription_id == provider_subscription_id and row.has_meter != has_meter:
            row.has_meter = has_meter
            row.save(update_fields=["has_meter"])
            entitle(brand, user_id, row, now=clock.now())


def set_billable(brand: Brand, user_id: UUID, is_billable: bool, *, now: datetime | None = None) -> None:
    """A payment method was stored, or the last one is gone: without one there is no overage."""
    with opening(SERVICE, key=user_id):
        row = current(brand, user_id)
        if row and row.is_billable != is_billable:
            row.is_billable = is_billable
            row.save(update_fields=["is_billable"])
            entitle(brand, user_id, row, now=now or clock.now())


def had_trial(brand: Brand, user_id: UUID) -> bool:
    """Whether this member has tried a plan before: nobody tries twice. In the service scope or the member's own."""
    return SubscriptionHistory.objects.filter(brand=brand, owner_id=user_id, trial_ends_at__isnull=False).exists()


def advance(now: datetime | None = None) -> dict[str, int]:
    """Write down what time alone has decided, each at its own instant and in a transaction of its own.

    Ends trials and agreements that nobody collects money for, and the grace of what was not paid. What is paid through
    a provider ends when the provider says so. Late, twice or many at once: the rows are the same.
    Returns  how many of each: trial_ended, cancelled, lapsed; and failed, which are tried again the next time
    """
    now = now or clock.now()
    with scope(SERVICE):
        found = list(due(now).order_by("pk").values_list("pk", "owner_id"))
    done = {"trial_ended": 0, "cancelled": 0, "lapsed": 0, "failed": 0}
    for pk, owner_id in found:
        try:
            with opening(SERVICE, key=owner_id):
                row = due(now).select_related("brand", "plan").filter(pk=pk).first()
                if row is None:
                    continue  # somebody else was first
                after, what = _advance(row, now)
                entitle(row.brand, owner_id, after, now=now)
            done[what] += 1
        except Exception:  # one that cannot go on must not keep the others from it
            log.exception("the subscription %s is due and could not go on", pk)
            done["failed"] += 1
    return done


def due(now: datetime) -> QuerySet[Subscription]:
    """Subscriptions that time alone has changed, where that is not written down yet."""
    written = SubscriptionHistory.objects.filter(
        subscription=OuterRef("pk"), code="lapsed", effective_at=OuterRef("grace_ends_at")
    )
    return Subscription.objects.filter(ended_at=None).filter(
        Q(provider="", status=TRIALING, trial_ends_at__lte=now)
        | Q(provider="", cancel_at_period_end=True, period_ends_at__lte=now)
        | Q(grace_ends_at__lte=now) & ~Exists(written)
    )


def _advance(row: Subscription, now: datetime) -> tuple[Subscription | None, str]:
    """What time made of a subscription: the one in force now, and what happened ("" = nothing that is not written)."""
    if not due(now).filter(pk=row.pk).exists():
        return row, ""
    if row.grace_ends_at:
        _write(row, "lapsed", row.grace_ends_at, now)
        return row, "lapsed"
    what = "trial_ended" if row.status == TRIALING else "cancelled"
    at = row.trial_ends_at if row.status == TRIALING else row.period_ends_at
    assert at is not None  # due() says so
    return _close(row, what, at, now), what


def _meant(brand: Brand, owner_id: UUID, facts: Facts, current: Subscription | None) -> Subscription | None:
    """The row that the facts are about; None when they are about a new one."""
    if facts.provider_subscription_id:
        known = Subscription.objects.select_related("brand", "plan", "next_plan").filter(
            brand=brand, provider=facts.provider, provider_subscription_id=facts.provider_subscription_id
        )
        row = known.first()
        if row and row.owner_id != owner_id:
            raise Invalid("This subscription is somebody else's.")
        return row
    if current is None or current.provider_subscription_id or current.provider != facts.provider:
        return None
    return current if facts.status == CANCELLED or current.plan_id == facts.plan.pk else None


def _begin(brand: Brand, owner_id: UUID, facts: Facts, current: Subscription | None, now: datetime) -> Subscription:
    if current and current.provider_subscription_id:
        raise AlreadySubscribed(
            _(
                "%(plan)s is being paid for already. Change or cancel that subscription first: a second one would be "
                "charged and give nothing."
            )
            % {"plan": current.plan.name},
        )
    if current:
        Subscription.objects.filter(pk=current.pk).update(ended_at=now)
    row = Subscription(
        brand=brand,
        owner_id=owner_id,
        started_at=now,
        provider=facts.provider,
        provider_subscription_id=facts.provider_subscription_id,
        is_billable=bool(current and current.is_billable),
        plan=facts.plan,
    )
    _set(row, facts, now)
    row.save(force_insert=True)
    _write(row, "trial_started" if row.status == TRIALING else "started", now, now, facts)
    if row.status == PAST_DUE:
        _write(row, "payment_failed", now, now, facts)
    return row


def _change(row: Subscription, facts: Facts, now: datetime) -> Subscription:
    before = copy(row)
    rolled = facts.period_starts_at if row.period_ends_at and _in_next_period(row, facts) else None
    if facts.plan.pk != row.plan_id and _may_wait(row, facts, now):
        row.next_plan = facts.plan
    else:
        row.plan, row.next_plan = facts.plan, None
    _set(row, facts, now)
    row.save()
    what = _what(before, row)
    if what:
        _write(row, what, min(now, rolled or now), now, facts)
    return row


def _may_wait(row: Subscription, facts: Facts, now: datetime) -> bool:
    """A cheaper plan waits for the end of what is paid. What is tried or not paid waits for nothing."""
    return (
        row.status == facts.status == ACTIVE
        and facts.plan.monthly_microusd < row.plan.monthly_microusd
        and row.period_ends_at is not None
        and row.period_ends_at > now
        and not _in_next_period(row, facts)
    )


def _in_next_period(row: Subscription, facts: Facts) -> bool:
    return bool(row.period_ends_at and facts.period_starts_at and facts.period_starts_at >= row.period_ends_at)


def _set(row: Subscription, facts: Facts, now: datetime) -> None:
    """Everything of the facts but the plan."""
    if facts.status != PAST_DUE:
        row.grace_ends_at = None
    elif row.grace_ends_at is None:
        row.grace_ends_at = now + timedelta(days=settings.BILLING_GRACE_DAYS)
    row.anchor_at = _anchor(row, facts)
    row.status, row.cycle = facts.status, facts.cycle
    row.period_starts_at, row.period_ends_at = facts.period_starts_at, facts.period_ends_at
    row.trial_ends_at, row.cancel_at_period_end = facts.trial_ends_at, facts.cancel_at_period_end
    if facts.is_billable is not None:
        row.is_billable = facts.is_billable
    if facts.has_meter is not None:
        row.has_meter = facts.has_meter


def _anchor(row: Subscription, facts: Facts) -> datetime | None:
    """From where its months are counted. The end of a trial, so that what is paid begins with a new window.

    A period that begins where a month of the old anchor does keeps it: one of the 31st begins on 28 February, and the next
    on 31 March. None = calendar months, where nobody collects money by the month.
    """
    if not facts.provider:
        return None
    if facts.status == TRIALING and facts.trial_ends_at:
        return facts.trial_ends_at
    begins = facts.period_starts_at
    if begins is None or row.anchor_at is None:
        return begins
    return row.anchor_at if window(WindowKind.MONTH, begins, anchor=row.anchor_at).opens_at == begins else begins


def _what(before: Subscription, after: Subscription) -> str:
    """What happened, as the history and the stream call it; "" = nothing worth a line."""
    if before.status != after.status:
        if after.status == PAST_DUE:
            return "payment_failed"
        if after.status == TRIALING:
            return "trial_started"
        return "restored" if before.status == PAST_DUE else "activated"
    if (before.plan_id, before.cycle) != (after.plan_id, after.cycle):
        return "changed"
    if before.next_plan_id != after.next_plan_id:
        return "change_planned" if after.next_plan_id else "change_dropped"
    if before.cancel_at_period_end != after.cancel_at_period_end:
        return "cancel_planned" if after.cancel_at_period_end else "resumed"
    return ""


def _end(row: Subscription, facts: Facts, now: datetime) -> Subscription | None:
    at = row.period_ends_at if row.cancel_at_period_end else None
    return _close(row, "cancelled", min(now, at or now), now, facts)


def _close(
    row: Subscription, what: str, at: datetime, now: datetime, facts: Facts | None = None
) -> Subscription | None:
    """End a subscription at `at`, and begin there what its member falls back to."""
    row.status, row.ended_at, row.grace_ends_at, row.next_plan = CANCELLED, max(at, row.started_at), None, None
    row.save()
    _write(row, what, row.ended_at, now, facts)
    plan = fallback_plan(row.brand, row.owner_id)
    if plan is None:
        return None
    after = Subscription.objects.create(
        brand=row.brand, owner_id=row.owner_id, plan=plan, started_at=row.ended_at, is_billable=row.is_billable
    )
    _write(after, "started", row.ended_at, now)
    return after


def _write(row: Subscription, code: str, at: datetime, now: datetime, facts: Facts | None = None) -> None:
    """One line of the history and one event. `at` is when it took effect, which may be before now."""
    plan = in_force(row, now) if row.ended_at is None else None
    ends = code in ("cancel_planned", "cancelled")
    reason, comment = (facts.reason, facts.comment) if facts and ends else ("", "")
    if code == "cancelled" and not reason:  # it was said when the end was asked for
        asked = row.history.filter(code="cancel_planned").order_by("-effective_at").first()
        if asked:
            reason, comment = asked.cancellation_reason, asked.cancellation_comment
    SubscriptionHistory.objects.bulk_create(
        [
            SubscriptionHistory(
                brand_id=row.brand_id,
                owner_id=row.owner_id,
                subscription=row,
                effective_at=at,
                code=code,
                plan=row.plan,
                plan_in_force=plan.code if plan else "",
                status=row.status,
                billing_cycle=row.cycle,
                monthly_price_microusd=row.plan.monthly_microusd,
                annual_price_microusd=row.plan.annual_price_microusd,
                started_at=row.started_at,
                ended_at=row.ended_at,
                trial_ends_at=row.trial_ends_at,
                cancelled_at=at if code == "cancelled" else now if code == "cancel_planned" else None,
                cancellation_reason=reason[:40],
                cancellation_comment=comment[:1000],
                actor_id=facts.actor_id if facts else None,
            )
        ]
    )
    data = {"plan": row.plan.code, "status": row.status, "cycle": row.cycle, "at": at.isoformat()}
    if row.next_plan:
        data["next_plan"] = row.next_plan.code
    user_id = row.owner_id if row.owner_id != row.brand_id else None
    stream.publish(row.brand_id, f"subscription.{code}", subject=("subscription", row.pk), owner_id=user_id, data=data)


def _lines(plan: Plan | None) -> Iterable[PlanLimit]:
    return plan.limits.order_by("meter") if plan else ()
