"""Buying at the stand-in for Stripe: what a member's browser does there, and how its news reaches us."""

import random

from django.test import TestCase

from billing import applying, till, webhooks
from billing.models import BillingTransaction, CreditPackOffer, Plan, StripeEvent, Subscription
from billing.standin import checkout, store
from lib.db import SERVICE, scope

ORIGIN = "http://act.localhost"


def plan_of(brand, code):
    with scope(SERVICE):
        return Plan.objects.select_related("brand").get(brand=brand, code=code)


def make_offer(brand, code="small", **fields):
    with scope(SERVICE):
        return CreditPackOffer.objects.create(
            brand=brand,
            code=code,
            **{"name": "200 questions", "meter": "queries", "amount": 200, "price_microusd": 5_000_000, **fields},
        )


def subscribe(brand, user, code="basic", *, cycle="month", key="tab", card="works"):
    """Choose a plan and pay for it. Returns the id of the Checkout session."""
    return pay(till.start_subscription(brand, user, plan_of(brand, code), cycle=cycle, key=key, origin=ORIGIN), card)


def buy(brand, user, offer, *, key="tab", card="works"):
    return pay(till.buy_pack(brand, user, offer, key=key, origin=ORIGIN), card)


def pay(url, card="works"):
    session_id = session_of(url)
    with store.changing():
        checkout.complete(store.find("checkout.session", session_id), card)
    return session_id


def session_of(url):
    return next(part for part in url.split("/") if part.startswith("cs_"))


def news(since=()):
    """Every event of Stripe's that is not in `since`, oldest first, as our endpoint gets them."""
    found = till.stripe().v1.events.list(params={"limit": 100}).auto_paging_iter()
    return [webhooks.as_told(event) for event in found if event.id not in set(since)][::-1]


def deliver(events=None, *, shuffled=None):
    """What the webhook and its task do with each. Returns the outcomes by the event's type."""
    events = news() if events is None else list(events)
    if shuffled is not None:
        random.Random(shuffled).shuffle(events)
    outcomes = {}
    for event in events:
        with TestCase.captureOnCommitCallbacks(using="service", execute=True):  # a rolled-back test commits nothing
            webhooks.store(event)
            outcomes[event["type"]] = applying.apply_event(event["id"])
    return outcomes


def subscription_of(brand, user):
    with scope(SERVICE):
        rows = Subscription.objects.select_related("plan", "next_plan")
        return rows.filter(brand=brand, owner_id=user.pk, ended_at=None).first()


def books_of(brand, user):
    """The member's account: type, status, total in cents."""
    with scope(SERVICE):
        rows = BillingTransaction.objects.filter(brand=brand, owner_id=user.pk).order_by("happened_at", "type", "pk")
        return [(row.type, row.status, row.total_amount_microusd // 10_000) for row in rows]


def parked():
    with scope(SERVICE):
        return {row.type: row.error for row in StripeEvent.objects.filter(outcome="parked")}


def again(row):
    """The row as it stands now."""
    with scope(SERVICE):
        row.refresh_from_db()
    return row
