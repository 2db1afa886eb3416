"""What time does to subscriptions: renewals, the end of trials, another try of a payment, the end.

Everything acts at the instant at which it was due, however late somebody looks.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from django.db.models import Q

from billing.standin import checkout, customers, invoices, payments, subscriptions
from billing.standin.lines import charges, usage
from billing.standin.models import StandInObject
from billing.standin.store import Body, a_list, asking, change, changing, find, tell

TELL_OF_TRIAL_S = 3 * 24 * 3600
INCOMPLETE_S = 23 * 3600
MOMENT_S = 4  # how long a payment that needs a moment needs
WAITS_FOR_TIME = (
    Q(kind="subscription", body__status__in=("active", "incomplete", "past_due", "trialing"))
    | Q(kind="invoice", body__status="open", body__next_payment_attempt__gt=0)
    | Q(kind="payment_intent", body__status="processing")
    | Q(kind="checkout.session", body__status="open")
)
Kind = Literal["tell", "renew", "cancel", "expire", "collect", "arrive", "close"]


@dataclass(frozen=True, slots=True, order=True)
class Due:
    at: int
    kind: Kind
    its_id: str


def catch_up(customer: str) -> int:
    """Do what is due by the customer's own time, each at its instant, in order. Returns how many things that were."""
    return _until(customer, customers.own_time(customer))


def advance(customer: str, to: int) -> int:
    """Let time pass for one customer, as a test clock does; `to` in the customer's own seconds."""
    catch_up(customer)
    now = customers.own_time(customer)
    done = _until(customer, to)
    customers.advance(customer, max(0, to - now))
    return done


def _until(customer: str, to: int) -> int:
    done = 0
    while due := min(_due(customer), default=None):
        if due.at > to:
            break
        _do(due)
        done += 1
    return done


def _due(customer: str) -> Iterator[Due]:
    for row in subscriptions.running(customer):
        body = row.body
        if body["status"] == "incomplete":
            yield Due(body["created"] + INCOMPLETE_S, "expire", row.pk)
            continue
        if body["status"] == "trialing" and not row.inside.get("told_of_trial"):
            yield Due(body["trial_end"] - TELL_OF_TRIAL_S, "tell", row.pk)
        ends = subscriptions.ends_at(body)
        if body["cancel_at"] is not None and body["cancel_at"] <= ends:
            yield Due(body["cancel_at"], "cancel", row.pk)
        else:
            yield Due(ends, "renew", row.pk)
    of_customer = StandInObject.objects.filter(body__customer=customer)
    for row in of_customer.filter(kind="invoice", body__status="open", body__next_payment_attempt__gt=0):
        yield Due(row.body["next_payment_attempt"], "collect", row.pk)
    for row in of_customer.filter(kind="payment_intent", body__status="processing"):
        yield Due(row.inside["at"] + MOMENT_S, "arrive", row.pk)
    for row in of_customer.filter(kind="checkout.session", body__status="open"):
        yield Due(customers.own_time(customer, row.body["expires_at"]), "close", row.pk)


def _do(due: Due) -> None:
    if due.kind == "tell":
        row = find("subscription", due.its_id)
        row.inside = {**row.inside, "told_of_trial": True}
        row.save()
        tell("customer.subscription.trial_will_end", row.body)
    elif due.kind == "renew":
        _renew(find("subscription", due.its_id), due.at)
    elif due.kind == "cancel":
        _end_of_period(find("subscription", due.its_id), due.at)
    elif due.kind == "expire":
        _give_up(find("subscription", due.its_id), due.at)
    elif due.kind == "collect":
        _try_again(find("invoice", due.its_id), due.at)
    elif due.kind == "arrive":
        arrive(find("payment_intent", due.its_id), due.at)
    else:
        checkout.expire_row(find("checkout.session", due.its_id))


def _renew(row: StandInObject, at: int) -> None:
    body, ended = row.body, row.body["items"]["data"]
    begun = subscriptions.next_items(body)
    was_trial = body["status"] == "trialing"
    card = invoices.default_method(body["customer"], body)
    if was_trial and card is None and _behavior(body) == "cancel":
        subscriptions.end(row, reason="payment_failed", at=at)
        return
    values: Body = {"items": a_list(begun, body["items"]["url"])}
    if was_trial:
        values["status"] = "active"
    change(row, "customer.subscription.updated", **values)
    lines = [*([] if was_trial else usage(body["customer"], ended)), *charges(begun)]
    subscriptions.bill(row, lines, reason="subscription_cycle", at=at, is_confirmed=False)


def _behavior(subscription: Body) -> str:
    behavior: str = subscription["trial_settings"]["end_behavior"]["missing_payment_method"]
    return behavior


def _end_of_period(row: StandInObject, at: int) -> None:
    """What was used until then is billed; nothing new is."""
    lines = [line for line in usage(row.body["customer"], row.body["items"]["data"], until=at) if line.cents]
    if lines or row.inside["pending"]:
        subscriptions.bill(row, lines, reason="subscription_cycle", at=at, is_confirmed=False)
    subscriptions.end(row, reason="cancellation_requested", at=at)


def _give_up(row: StandInObject, at: int) -> None:
    """The first payment never arrived."""
    invoice = find("invoice", row.body["latest_invoice"])
    if invoice.body["status"] == "open":
        invoices.write_off(invoice)
    change(row, "customer.subscription.updated", status="incomplete_expired", ended_at=at)


def _try_again(invoice: StandInObject, at: int) -> None:
    details = (invoice.body["parent"] or {}).get("subscription_details")
    subscription = find("subscription", details["subscription"]) if details else None
    card = invoices.default_method(invoice.body["customer"], subscription.body if subscription else None)
    outcome = invoices.collect(invoice, card, at=at, is_confirmed=False)
    subscriptions.follow_invoice(invoice)
    if outcome == "failed" and subscription is not None and invoice.body["next_payment_attempt"] is None:
        subscriptions.end(find("subscription", subscription.pk), reason="payment_failed", at=at)


def arrive(intent: StandInObject, at: int | None = None, *, succeeds: bool = True) -> None:
    """A payment that needed a moment is there (or is not), and all that waited for it moves on."""
    at = customers.own_time(intent.body["customer"]) if at is None else at
    intent = payments.arrive(intent, succeeds=succeeds)
    invoice = invoices.settle(intent, at, succeeds=succeeds)
    if invoice is not None:
        subscriptions.follow_invoice(invoice)
    checkout.payment_ended(intent.pk, invoice.pk if invoice else None, succeeds=succeeds)


def catch_up_everybody() -> int:
    """The same for all customers who have something that time could change."""
    with asking():
        waiting = StandInObject.objects.filter(WAITS_FOR_TIME).values_list("body__customer", flat=True)
        customers_waiting = sorted(set(waiting))
    done = 0
    for customer in customers_waiting:
        with changing():
            done += catch_up(customer)
    return done
