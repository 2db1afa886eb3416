"""What an event of Stripe's leads to: ask Stripe how the thing stands now, and write that down.

Nothing of an event is believed but the name of the object it is about. What is written follows from what Stripe answers
at this moment, so order, repeats and gaps of events change nothing (S-04, S-05). Two that look at once at the same
customer cannot write the older look over the newer one: Customer.revision.
"""

import logging
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import stripe as sdk
from django.db.models import F, QuerySet

from billing import bookkeeping, refunds, subscribed
from billing.asking import id_of, in_our_words, is_live, provider, stripe
from billing.books import Customer, StripeEvent
from billing.errors import Parked
from lib import clock
from lib.db import SERVICE, scope
from lib.errors import Unavailable
from lib.faults import fault

Write = Callable[[Customer], None]
Look = Callable[[Customer, dict[str, Any]], list[Write]]
LOOKS = 5  # at Stripe for one event, while others write about the same customer
GIVE_UP_AFTER = 12  # failures of one event; then a person must look
UNTOUCHED = timedelta(seconds=60)  # by then the task of a fresh event has been there
MOST_AT_ONCE = 200
log = logging.getLogger(__name__)


class StillChanging(Unavailable):
    """Others wrote about this customer all the time."""


def _subscription(customer: Customer, thing: dict[str, Any]) -> list[Write]:
    return [subscribed.look(customer)]


def _session(customer: Customer, thing: dict[str, Any]) -> list[Write]:
    if thing.get("mode") == "payment":
        return [bookkeeping.look_at_pack(customer, thing["id"])]
    if thing.get("mode") == "setup":
        subscribed.use_new_card(customer, thing["id"])
    return [subscribed.look(customer)]


def _invoice(customer: Customer, thing: dict[str, Any]) -> list[Write]:
    return [bookkeeping.look_at_invoice(customer, thing["id"]), subscribed.look(customer)]


def _payment(customer: Customer, thing: dict[str, Any]) -> list[Write]:
    return refunds.look(customer, id_of(thing["payment_intent"])) if thing.get("payment_intent") else []


ACTED_ON: dict[str, Look] = {
    "checkout.session.completed": _session,
    "checkout.session.async_payment_succeeded": _session,
    "customer.subscription.created": _subscription,
    "customer.subscription.updated": _subscription,
    "customer.subscription.deleted": _subscription,
    "customer.subscription.paused": _subscription,
    "customer.subscription.resumed": _subscription,
    "customer.updated": _subscription,
    "payment_method.detached": _subscription,
    "invoice.finalized": _invoice,
    "invoice.paid": _invoice,
    "invoice.payment_failed": _invoice,
    "invoice.voided": _invoice,
    "invoice.marked_uncollectible": _invoice,
    "charge.refunded": _payment,
    "refund.created": _payment,
    "refund.updated": _payment,
    "refund.failed": _payment,
    "charge.dispute.created": _payment,
    "charge.dispute.updated": _payment,
    "charge.dispute.closed": _payment,
    "charge.dispute.funds_withdrawn": _payment,
    "charge.dispute.funds_reinstated": _payment,
}
# What Stripe also tells, and others of these say better.
NOTHING_TO_DO = frozenset(
    (
        "billing_portal.session.created",
        "billing.meter.created",
        "billing.meter.deactivated",
        "charge.failed",
        "charge.pending",
        "charge.succeeded",
        "charge.updated",
        "charge.refund.updated",
        "checkout.session.async_payment_failed",
        "checkout.session.expired",
        "customer.created",
        "customer.deleted",
        "customer.subscription.pending_update_applied",
        "customer.subscription.pending_update_expired",
        "customer.subscription.trial_will_end",
        "invoice.created",
        "invoice.deleted",
        "invoice.finalization_failed",
        "invoice.overdue",
        "invoice.payment_action_required",
        "invoice.payment_attempt_required",
        "invoice.payment_succeeded",
        "invoice.sent",
        "invoice.upcoming",
        "invoice.updated",
        "invoice.will_be_due",
        "invoice_payment.paid",
        "invoiceitem.created",
        "invoiceitem.deleted",
        "payment_intent.canceled",
        "payment_intent.created",
        "payment_intent.payment_failed",
        "payment_intent.processing",
        "payment_intent.requires_action",
        "payment_intent.succeeded",
        "payment_method.attached",
        "payment_method.automatically_updated",
        "payment_method.updated",
        "price.created",
        "price.deleted",
        "price.updated",
        "product.created",
        "product.deleted",
        "product.updated",
        "setup_intent.canceled",
        "setup_intent.created",
        "setup_intent.requires_action",
        "setup_intent.setup_failed",
        "setup_intent.succeeded",
    )
)


def apply_event(event_id: str) -> str:
    """Act on one event of the inbox, once, however often and wherever this is called. Returns its outcome.

    Raises  what went wrong at Stripe or here; the event waits, and the sweeper comes back to it
    """
    with scope(SERVICE):
        event = StripeEvent.objects.get(pk=event_id)
    if event.outcome:
        return event.outcome
    try:
        return _act(event)
    except Parked as parked:
        return _close(event, StripeEvent.Outcome.PARKED, str(parked))
    except Exception as error:
        with scope(SERVICE):
            waiting = StripeEvent.objects.filter(pk=event_id, outcome=StripeEvent.Outcome.WAITING)
            waiting.update(attempts=F("attempts") + 1, error=f"{type(error).__name__}: {error}"[:500])
        raise


def apply_waiting(*, untouched: timedelta = UNTOUCHED) -> int:
    """Act on what was stored and not acted on, oldest first. Returns how many were. What fails waits for the next look."""
    with scope(SERVICE):
        late = StripeEvent.objects.filter(outcome="", received_at__lt=clock.now() - untouched)
        waiting = list(late.order_by("received_at").values_list("pk", "attempts", "error")[:MOST_AT_ONCE])
    applied = 0
    for event_id, attempts, error in waiting:
        try:
            if attempts >= GIVE_UP_AFTER:
                with scope(SERVICE):
                    event = StripeEvent.objects.get(pk=event_id)
                _close(event, StripeEvent.Outcome.PARKED, f"It failed {attempts} times, at last so: {error}")
            else:
                apply_event(event_id)
            applied += 1
        except Exception:  # one that fails must not keep the others from it
            log.exception("the Stripe event %s could not be acted on", event_id)
    return applied


def unpark() -> int:
    """Let what is parked be acted on again, once what kept it is mended. Returns how many."""
    with scope(SERVICE):
        return StripeEvent.objects.filter(outcome=StripeEvent.Outcome.PARKED).update(
            outcome="", applied_at=None, attempts=0, error=""
        )


def troubles() -> dict[str, tuple[int, str]]:
    """What an operator must look at, by alarm: how many, and the reason of the newest. Events set aside; events that wait."""
    with scope(SERVICE):
        parked = StripeEvent.objects.filter(outcome=StripeEvent.Outcome.PARKED)
        late = StripeEvent.objects.filter(outcome="", received_at__lt=clock.now() - 5 * UNTOUCHED)
        found = {"stripe_parked": parked, "stripe_waiting": late}
        return {name: (rows.count(), _newest(rows)) for name, rows in found.items()}


def _newest(rows: QuerySet[StripeEvent]) -> str:
    row = rows.order_by("-received_at").first()
    return f"{row.type}: {row.error}" if row else ""


def _act(event: StripeEvent) -> str:
    _vet(event)
    look = ACTED_ON.get(event.type)
    if look is None:
        if event.type in NOTHING_TO_DO:
            return _close(event, StripeEvent.Outcome.IGNORED, "")
        raise Parked(f"Nobody here knows what {event.type} means.")
    thing = event.body.get("data", {}).get("object")
    if not isinstance(thing, dict) or not isinstance(thing.get("id"), str):
        raise Parked("It does not say what it is about.")
    with in_our_words():
        whose = _whose(event, thing)
    for _ in range(LOOKS):
        with scope(SERVICE):
            customer = (
                Customer.objects.select_related("brand").filter(stripe_customer_id=whose, provider=provider()).first()
            )
        if customer is None:
            raise Parked(f"It is about a customer of whom we know nothing: {whose or 'none'}.")
        try:
            with in_our_words():
                writes = look(customer, thing)
        except sdk.InvalidRequestError as unknown:
            if unknown.code == "resource_missing":
                raise Parked(f"Stripe does not know what it is about: {unknown.user_message or unknown}") from unknown
            raise
        fault("stripe.looked")
        if _written(event, customer, writes):
            return StripeEvent.Outcome.APPLIED
    raise StillChanging()


def _written(event: StripeEvent, customer: Customer, writes: list[Write]) -> bool:
    """All of it and the event's outcome in one transaction; False when somebody wrote since we looked."""
    with scope(SERVICE):
        stored = StripeEvent.objects.select_for_update().get(pk=event.pk)
        if stored.outcome:
            return True
        fresh = Customer.objects.select_for_update(of=("self",)).select_related("brand").get(pk=customer.pk)
        if fresh.revision != customer.revision:
            return False
        for write in writes:
            write(fresh)
        Customer.objects.filter(pk=fresh.pk).update(revision=F("revision") + 1)
        _done(stored, StripeEvent.Outcome.APPLIED, "")
        fault("stripe.written")
    return True


def _vet(event: StripeEvent) -> None:
    if event.livemode != is_live():
        mode = "live" if event.livemode else "test"
        raise Parked(
            f"It comes from Stripe's {mode} mode, and our key is of the other one. Nothing was granted (S-08)."
        )
    if event.api_version[:10] > sdk.api_version[:10]:
        raise Parked(
            f"It is written in the API version {event.api_version}, we read {sdk.api_version}: set the endpoint at Stripe "
            "to that, then let it be acted on again (backfill_stripe_events --parked)."
        )


def _whose(event: StripeEvent, thing: dict[str, Any]) -> str:
    """The customer it is about; of refunds and disputes, whoever paid the charge."""
    if thing.get("object") == "customer":
        return str(thing["id"])
    if thing.get("customer"):
        return id_of(thing["customer"])
    if event.type == "payment_method.detached":
        return str(event.body["data"].get("previous_attributes", {}).get("customer") or "")
    if thing.get("charge"):
        try:
            return id_of(stripe().v1.charges.retrieve(id_of(thing["charge"])).customer)
        except sdk.InvalidRequestError as unknown:
            raise Parked(f"Stripe does not know its charge: {unknown.user_message or unknown}") from unknown
    return ""


def _close(event: StripeEvent, outcome: StripeEvent.Outcome, error: str) -> str:
    with scope(SERVICE):
        stored = StripeEvent.objects.select_for_update().get(pk=event.pk)
        if not stored.outcome:
            _done(stored, outcome, error)
            if outcome == StripeEvent.Outcome.PARKED:
                log.error("a Stripe event was parked", extra={"reason": error})
        return stored.outcome


def _done(stored: StripeEvent, outcome: StripeEvent.Outcome, error: str) -> None:
    stored.outcome, stored.applied_at, stored.error = outcome, clock.now(), error[:500]
    stored.save(update_fields=["outcome", "applied_at", "error"])
