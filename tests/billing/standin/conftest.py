from types import SimpleNamespace

import pytest
import stripe

from billing.standin import checkout
from billing.standin.client import StandIn
from billing.standin.customers import own_time
from billing.standin.models import StandInObject
from billing.standin.store import asking, attempt, changing, find
from lib.db import SERVICE, scope


@pytest.fixture
def client(db):
    """The official SDK, talking to the stand-in."""
    return stripe.StripeClient("sk_test_standin", http_client=StandIn())


@pytest.fixture
def api(client):
    return client.v1


@pytest.fixture
def shop(api):
    """A customer, two plans, a pack and a meter with its price."""
    customer = api.customers.create({"email": "alice@example.com", "metadata": {"user": "alice"}})

    def price(name, cents, **more):
        product = api.products.create({"name": name})
        body = {"product": product.id, "currency": "usd", "unit_amount": cents, "lookup_key": name, **more}
        return api.prices.create(body)

    meter = api.billing.meters.create(
        {"display_name": "Overage", "event_name": "overage", "default_aggregation": {"formula": "sum"}}
    )
    month = {"recurring": {"interval": "month"}}
    metered = api.prices.create(
        {
            "product_data": {"name": "Beyond the plan"},
            "currency": "usd",
            "unit_amount_decimal": "0.0001",
            "recurring": {"interval": "month", "usage_type": "metered", "meter": meter.id},
        }
    )
    return SimpleNamespace(
        customer=customer.id,
        meter=meter,
        metered=metered.id,
        basic=price("basic", 999, **month).id,
        pro=price("pro", 2999, **month).id,
        year=price("yearly", 9990, recurring={"interval": "year"}).id,
        pack=price("pack", 500).id,
        api=api,
    )


def session(shop, mode="subscription", price="basic", **more):
    """A checkout session of alice's."""
    line = {"price": getattr(shop, price), "quantity": 1}
    return shop.api.checkout.sessions.create(
        {
            "mode": mode,
            "customer": shop.customer,
            "success_url": "http://act.localhost:8000/billing/return/?session={CHECKOUT_SESSION_ID}",
            "cancel_url": "http://act.localhost:8000/pricing/",
            **({"currency": "usd"} if mode == "setup" else {"line_items": [line]}),
            **more,
        }
    )


def pay(session_id, card="works"):
    """What the page's button does."""
    with changing():
        done, refused = attempt(lambda: checkout.complete(find("checkout.session", session_id), card))
    if done is None:
        raise refused
    return done.body


def subscribe(shop, card="works", **more):
    return shop.api.subscriptions.retrieve(pay(session(shop, **more).id, card)["subscription"])


def time_of(customer):
    with asking():
        return own_time(customer)


def events(*types):
    """What was told, in order."""
    with scope(SERVICE):
        rows = StandInObject.objects.filter(kind="event").order_by("pk")
        return [row.body for row in rows if not types or row.body["type"] in types]


def told():
    return [event["type"] for event in events()]
