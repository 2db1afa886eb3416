"""Stripe's subscriptions of a customer, as facts for billing.lifecycle.

One of them counts: the one that is in force here already, else the oldest that is alive. A second one, paid for in another
tab, is ended and its money given back (S-14).
"""

from collections.abc import Callable
from functools import partial
from typing import Any, cast

from billing import lifecycle
from billing.asking import id_of, moment, once, stripe
from billing.books import Customer
from billing.errors import Parked
from billing.lifecycle import Facts
from billing.models import Cycle, Plan, Subscription
from billing.price_list import OVERAGE
from billing.undoing import end_double
from lib.db import on_commit

ALIVE = {
    "trialing": Subscription.Status.TRIALING,
    "active": Subscription.Status.ACTIVE,
    "past_due": Subscription.Status.PAST_DUE,
    "unpaid": Subscription.Status.PAST_DUE,
    "paused": Subscription.Status.PAST_DUE,  # a trial that ended without a card
}
OVER = frozenset(("canceled", "incomplete_expired"))  # `incomplete` is neither: its first payment is still being made


def look(customer: Customer) -> Callable[[Customer], None]:
    """Ask Stripe for every subscription of a customer; what it gives back writes what follows from them."""
    client, whose = stripe().v1, customer.stripe_customer_id
    found = client.subscriptions.list(params={"customer": whose, "status": "all", "limit": 100})
    theirs = sorted((row.to_dict() for row in found.auto_paging_iter()), key=lambda row: (row["created"], row["id"]))
    person = client.customers.retrieve(whose).to_dict()
    own_card = id_of((person.get("invoice_settings") or {}).get("default_payment_method"))

    def write(customer: Customer) -> None:
        here = lifecycle.current(customer.brand, customer.owner_id)
        known = here.provider_subscription_id if here and here.provider == customer.provider else ""
        alive = [row for row in theirs if row["status"] in ALIVE]
        counts = next((row for row in alive if row["id"] == known), alive[0] if alive else None)
        for ended in theirs:
            if ended["id"] == known and ended["status"] in OVER:
                lifecycle.take(customer.brand, customer.owner_id, _facts(customer, ended, own_card))
        if counts:
            lifecycle.take(customer.brand, customer.owner_id, _facts(customer, counts, own_card))
        for double in alive:
            if counts and double["id"] != counts["id"]:
                on_commit(partial(end_double.delay, double["id"]))
        is_billable = bool(own_card or (counts and counts.get("default_payment_method")))
        Customer.objects.filter(pk=customer.pk).update(is_billable=is_billable)
        lifecycle.set_billable(customer.brand, customer.owner_id, is_billable)

    return write


def use_new_card(customer: Customer, session_id: str) -> None:
    """A card that was just stored is the one that is charged from now on, for the subscription too. Safe to repeat."""
    client, whose = stripe().v1, customer.stripe_customer_id
    session = client.checkout.sessions.retrieve(session_id, params={"expand": ["setup_intent"]}).to_dict()
    card = id_of((session.get("setup_intent") or {}).get("payment_method"))
    if not card:
        return
    client.customers.update(
        whose,
        params={"invoice_settings": {"default_payment_method": card}},
        options=cast(Any, once("card", whose, session_id)),
    )
    for row in client.subscriptions.list(params={"customer": whose, "limit": 100}).data:
        if row.status in ALIVE:
            client.subscriptions.update(
                row.id,
                params={"default_payment_method": card},
                options=cast(Any, once("card", row.id, session_id)),
            )


def has_meter(theirs: dict[str, Any]) -> bool:
    """Whether what goes beyond the plan is on the invoices of this subscription."""
    return any(row["price"]["recurring"]["usage_type"] == "metered" for row in theirs["items"]["data"])


def _facts(customer: Customer, theirs: dict[str, Any], own_card: str) -> Facts:
    items = theirs["items"]["data"]
    item = next((row for row in items if row["price"]["recurring"]["usage_type"] != "metered"), items[0])
    metadata = item["price"].get("metadata") or {}
    if metadata.get("brand") != str(customer.brand_id):
        raise Parked(f"{theirs['id']} is paid at {item['price']['id']}, which is no price of {customer.brand}.")
    code = metadata.get("code", "")
    if code == OVERAGE:  # nothing but what is used: the subscription itself says for which plan
        code = (theirs.get("metadata") or {}).get("plan", "")
    plan = Plan.objects.filter(brand=customer.brand, code=code).first()
    if plan is None:
        raise Parked(f"{theirs['id']} is for the plan {code}, which {customer.brand} does not have.")
    details = theirs.get("cancellation_details") or {}
    return Facts(
        plan=plan,
        status=ALIVE.get(theirs["status"], Subscription.Status.CANCELLED),
        cycle=Cycle.YEAR if item["price"]["recurring"]["interval"] == "year" else Cycle.MONTH,
        period_starts_at=moment(item["current_period_start"]),
        period_ends_at=moment(item["current_period_end"]),
        trial_ends_at=moment(theirs.get("trial_end")),
        cancel_at_period_end=bool(theirs.get("cancel_at_period_end") or theirs.get("cancel_at")),
        provider=customer.provider,
        provider_subscription_id=theirs["id"],
        is_billable=bool(own_card or theirs.get("default_payment_method")),
        has_meter=has_meter(theirs),
        reason=details.get("feedback") or "",
        comment=details.get("comment") or "",
    )
