import logging

from celery import shared_task

from billing import applying, left_behind, lifecycle, plans, reports, telling
from billing.models import Plan
from billing.standin import delivery, renewals
from billing.undoing import end_double as end_double
from billing.undoing import give_back as give_back
from lib.db import SERVICE, scope

log = logging.getLogger(__name__)


@shared_task(scoped=False)  # type: ignore[call-overload]  # one short transaction for each, not one for all
def push_plan(plan_id: str) -> int:
    """Give everybody on a plan its limits as staff left them. Returns how many; a repeat changes nothing."""
    with scope(SERVICE):
        plan = Plan.objects.select_related("brand").get(pk=plan_id)
    pushed = plans.push(plan)
    if plan.overage_allowed:
        add_meter_lines.delay()
    return pushed


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # asks Stripe
def add_meter_lines() -> int:
    """Bring along subscriptions older than their plan's overage. Returns how many; those that fail are tried again."""
    done = left_behind.add_meter_lines()
    for reason in sorted(done.reasons):
        log.error("subscriptions stay without the meter", extra={"reason": reason})
    return done.mended


@shared_task(scoped=False)  # type: ignore[call-overload]  # posts to our own webhook
def send_stand_in_event(event_id: str) -> None:
    """Post one event of the stand-in for Stripe, once it is taken never again. If it is not, tend_stand_in() repeats it."""
    delivery.send(event_id)


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]
def tend_stand_in() -> int:
    """Let time pass at the stand-in for Stripe, and send again what was not taken. Returns how many events and changes."""
    return renewals.catch_up_everybody() + delivery.send_waiting()


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # one short transaction for each, not one for all
def advance_subscriptions() -> int:
    """Write down what time alone has decided. Returns how many; late or twice changes nothing."""
    done = lifecycle.advance()
    return sum(done.values()) - done["failed"]


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # one short transaction for each, not one for all
def tell_of_billing() -> int:
    """Tell members what happened to their plan and payments. Returns how many notices that made."""
    return telling.look()


@shared_task(scoped=False)  # type: ignore[call-overload]  # asks Stripe between its transactions
def apply_stripe_event(event_id: str) -> str:
    """Act on one event of the inbox. Returns its outcome; a repeat changes nothing."""
    return applying.apply_event(event_id)


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]
def apply_waiting_stripe_events() -> int:
    """Act on events whose task was lost or failed. Returns how many; a healthy system answers 0."""
    return applying.apply_waiting()


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # asks Stripe
def report_overage() -> int:
    """Tell Stripe's meter what was used beyond the plans since. Returns how many entries; those that fail are tried again."""
    return reports.report()["sent"]
