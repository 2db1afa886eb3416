from celery import shared_task

from billing import lifecycle, plans, telling
from billing.models import Plan
from billing.standin import delivery, renewals
from lib.db import SERVICE, scope


@shared_task(scoped=False)  # type: ignore[call-overload]  # one short transaction for each, not one for all
def push_plan(plan_id: str) -> int:
    """Give everybody on a plan its limits as staff left them. Returns how many; a repeat changes nothing."""
    with scope(SERVICE):
        plan = Plan.objects.select_related("brand").get(pk=plan_id)
    return plans.push(plan)


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
