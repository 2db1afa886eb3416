"""The door through which Stripe's news comes: proved before it is read, stored before it is answered, acted on once."""

import json
import time
from datetime import timedelta
from io import StringIO

import psycopg
import pytest
from django.core.management import call_command
from django.db import OperationalError
from django.test import Client

from billing import applying, subscribed, till, webhooks
from billing.models import StripeEvent
from billing.standin import store
from billing.standin.delivery import signed
from lib.db import SERVICE, scope
from tests.billing import shop
from tests.billing.test_stripe_plans import standing

pytestmark = pytest.mark.django_db
URL = "/stripe/webhook/"


@pytest.fixture
def post(settings):
    client = Client(headers={"host": "act.localhost"}, enforce_csrf_checks=True)

    def send(event, *, age=0, secret=None, signature=None, body=None):
        body = json.dumps(event).encode() if body is None else body
        header = signed(body, secret or settings.STRIPE_WEBHOOK_SECRET, at=int(time.time()) - age)
        headers = {} if signature == "none" else {"stripe-signature": signature or header}
        return client.post(URL, body, content_type="application/json", headers=headers)

    return send


def event(number=1, kind="product.created", **fields):
    thing = {"id": "prod_1", "object": "product"}
    return {
        "id": f"evt_{number}",
        "object": "event",
        "type": kind,
        "api_version": "2026-10-28.endive",
        "created": 1_790_000_000,
        "livemode": False,
        "data": {"object": thing},
        **fields,
    }


def stored():
    with scope(SERVICE):
        return {row.pk: row.outcome for row in StripeEvent.objects.all()}


def test_a_call_that_is_not_signed_with_our_secret_is_refused_unread(world, post, monkeypatch):
    """S-01: no signature, a bad one, another endpoint's secret, none of our own; the JSON is never parsed."""
    monkeypatch.setattr(webhooks.orjson, "loads", lambda _: pytest.fail("it was parsed"))
    body = json.dumps(event()).encode()

    for answer in (
        post(event(), signature="none"),
        post(event(), signature="t=1,v1=00"),
        post(event(), signature="nonsense"),
        post(event(), signature=f"t={int(time.time())},v1=é"),
        post(event(), secret="whsec_of_another_endpoint"),
        post(event(), body=b"\xff\xfe", signature=signed(b"\xff\xfe", "whsec_x", at=int(time.time()))),
    ):
        assert answer.status_code == 400
        assert answer.json()["code"] == "bad_signature"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(webhooks.settings, "STRIPE_WEBHOOK_SECRET", "")
        assert post(None, body=body, secret="x").status_code == 400
    assert stored() == {}


def test_one_added_space_is_refused(world, post, settings):
    """S-02."""
    body = json.dumps(event()).encode()
    header = signed(body, settings.STRIPE_WEBHOOK_SECRET, at=int(time.time()))

    assert post(None, body=body + b" ", signature=header).status_code == 400
    assert stored() == {}
    assert post(None, body=body, signature=header).status_code == 200


@pytest.mark.parametrize(("age", "status"), [(299, 200), (301, 400)])
def test_a_recording_is_refused_after_five_minutes(world, settings, monkeypatch, age, status):
    """S-03: the clock stands still, so that a slow machine changes nothing."""
    now = int(time.time())
    monkeypatch.setattr("stripe._webhook.time.time", lambda: now)
    body = json.dumps(event()).encode()
    header = signed(body, settings.STRIPE_WEBHOOK_SECRET, at=now - age)

    answer = Client(headers={"host": "act.localhost"}).post(
        URL, body, content_type="application/json", headers={"stripe-signature": header}
    )

    assert answer.status_code == status


@pytest.mark.parametrize("body", [b"not json", b"[]", b"{}", b'{"id": 1, "type": "x"}', b'"\\ud800"'])
def test_what_is_signed_and_no_event_is_refused(world, post, body):
    assert post(None, body=body).status_code == 400
    assert stored() == {}


@pytest.mark.parametrize(
    ("told", "why"),
    [
        (event(kind="space.launched"), "Nobody here knows"),
        (
            event(kind="invoice.paid", data={"object": {"id": "in_1", "object": "invoice", "customer": "cus_unknown"}}),
            "a customer of whom we know nothing: cus_unknown",
        ),
        (event(kind="invoice.paid", data={"object": {"id": "in_1", "object": "invoice"}}), "nothing: none"),
        (event(kind="invoice.paid", data={}), "does not say what it is about"),
        (event(kind="invoice.paid", data={"object": {"id": 7}}), "does not say what it is about"),
        (event(kind="charge.dispute.created", data={"object": {"id": "du_1", "charge": "ch_none"}}), "its charge"),
        (event(api_version="2027-03-31.foxglove"), "set the endpoint"),
        (event(livemode=True), "live mode"),
        (event(data={"object": {"id": "prod_1", "name": "x" * 1_000_000}}, kind="space.launched"), "Nobody"),
        (event(data={"object": {"id": "prod_1", "name": "a\x00b"}}, kind="space.launched"), "Nobody"),
    ],
    ids=["type", "customer", "nobody", "no object", "no id", "charge", "version", "live", "1 MB", "NUL"],
)
def test_what_no_program_can_act_on_is_taken_set_aside_and_seen(world, post, told, why):
    """S-07, S-08: 200 at once, no exception, nothing granted, an operator sees it."""
    answer = post(told)
    outcome = applying.apply_event(told["id"])

    assert (answer.status_code, outcome) == (200, "parked")
    assert why in shop.parked()[told["type"]]
    count, reason = applying.troubles()["stripe_parked"]
    assert (count, why in reason) == (1, True)
    assert applying.troubles()["stripe_waiting"] == (0, "")


@pytest.mark.parametrize(
    ("written", "kept"),
    [("\\u0000", "\\u0000"), ("C:\\\\u0000", "C:\\\\u0000"), ("a\x00\x00b", "ab"), ("\\\x00\\u0000", "\\\\u0000")],
)
def test_what_a_member_writes_keeps_no_news_of_them_away(world, post, written, kept):
    """S-07: somebody who leaves with these words as the comment would have kept the plan for nothing."""
    told = event(kind="space.launched", data={"object": {"id": "sub_1", "cancellation_details": {"comment": written}}})

    assert post(told).status_code == 200

    with scope(SERVICE):
        assert StripeEvent.objects.get(pk="evt_1").body["data"]["object"]["cancellation_details"]["comment"] == kept


def test_more_than_a_megabyte_is_not_taken(world, post):
    assert post(event(data={"object": {"name": "x" * 1_100_000}})).status_code in (400, 413)
    assert stored() == {}


def test_an_event_of_the_other_mode_grants_nothing(world):
    """S-08: what would be a purchase, told by the live mode to a test key."""
    shop.subscribe(world.act, world.bob, "basic")

    shop.deliver([{**told, "livemode": True} for told in shop.news()])

    assert standing(world.act, world.bob) == ("free", "active")
    assert all("S-08" in why for why in shop.parked().values())


def test_a_price_that_is_not_the_brands_grants_nothing(world):
    """S-08: somebody made a price by hand, or for another brand."""
    session_id = shop.subscribe(world.act, world.bob, "basic")
    subscription = till.stripe().v1.checkout.sessions.retrieve(session_id).subscription
    with store.changing():
        row = store.find("subscription", subscription)
        items = row.body["items"]
        for item in items["data"]:
            item["price"]["metadata"] = {**item["price"]["metadata"], "brand": str(world.globex.pk)}
        row.body = {**row.body, "items": items}
        row.save()

    shop.deliver()

    assert standing(world.act, world.bob) == ("free", "active")
    assert "no price of Act" in shop.parked()["checkout.session.completed"]


def test_an_event_that_fails_waits_and_is_acted_on_later(world, monkeypatch):
    """S-09's sweeper: Stripe was away when its own news was to be acted on."""
    shop.subscribe(world.act, world.bob, "basic")
    told = shop.news()
    with monkeypatch.context() as broken:
        broken.setattr(subscribed, "look", _away)
        for one in told:
            webhooks.store(one)
            if one["type"].startswith(("customer.subscription", "checkout", "invoice.paid")):
                with pytest.raises(OSError, match="away"):
                    applying.apply_event(one["id"])

    assert standing(world.act, world.bob) == ("free", "active")
    assert applying.apply_waiting() == 0, "their own tasks have a minute"
    assert applying.apply_waiting(untouched=timedelta(seconds=-1)) == len(told)
    assert standing(world.act, world.bob) == ("basic", "active")
    assert set(stored().values()) == {"applied", "ignored"}


def _away(_):
    raise OSError("Stripe is away")


def test_what_fails_again_and_again_is_set_aside(world, monkeypatch):
    shop.subscribe(world.act, world.bob, "basic")
    told = next(one for one in shop.news() if one["type"] == "customer.subscription.created")
    webhooks.store(told)
    with scope(SERVICE):
        StripeEvent.objects.update(attempts=applying.GIVE_UP_AFTER, error="OSError: away")

    assert applying.apply_waiting(untouched=timedelta(seconds=-1)) == 1

    assert "OSError: away" in shop.parked()["customer.subscription.created"]
    assert applying.unpark() == 1
    assert applying.apply_waiting(untouched=timedelta(seconds=-1)) == 1
    assert standing(world.act, world.bob) == ("basic", "active")


def test_an_older_look_is_not_written_over_a_newer_one(world, monkeypatch):
    """S-05: between asking Stripe and writing, another worker asked later and wrote first."""
    shop.subscribe(world.act, world.bob, "basic")
    told = {one["type"]: one for one in shop.news()}
    for one in told.values():
        webhooks.store(one)
    looked, look = [], subscribed.look

    def slowly(customer):
        write = look(customer)
        if not looked:
            looked.append(1)
            till.stripe().v1.subscriptions.update(its_id, params={"cancel_at_period_end": True})
            applying.apply_event(told["checkout.session.completed"]["id"])
        return write

    its_id = told["customer.subscription.created"]["data"]["object"]["id"]
    monkeypatch.setattr(subscribed, "look", slowly)

    applying.apply_event(told["customer.subscription.created"]["id"])

    assert shop.subscription_of(world.act, world.bob).cancel_at_period_end


def test_a_long_outage_is_filled_from_stripes_list(world):
    """S-10: three days of webhooks that never came; --parked tries again what was set aside."""
    shop.subscribe(world.act, world.bob, "basic")
    shop.buy(world.act, world.bob, shop.make_offer(world.act))
    told = StringIO()

    call_command("backfill_stripe_events", "--days=3", "--json", stdout=told)

    found = json.loads(told.getvalue())
    assert found["new"] == found["acted_on"] == found["seen"] > 10
    assert (found["stripe_parked"], found["stripe_waiting"]) == (0, 0)
    assert standing(world.act, world.bob) == ("basic", "active")
    assert sorted(shop.books_of(world.act, world.bob)) == [("one_time", "paid", 500), ("subscription", "paid", 999)]
    again = StringIO()
    call_command("backfill_stripe_events", "--parked", "--json", stdout=again)
    assert json.loads(again.getvalue())["new"] == 0


def test_while_the_database_is_away_stripe_is_told_to_come_back(world, post, monkeypatch):
    """S-10: 5xx, so that Stripe repeats it."""

    def away(*_, **__):
        raise OperationalError from psycopg.OperationalError("the database is gone")

    monkeypatch.setattr(StripeEvent.objects, "get_or_create", away)
    assert post(event()).status_code == 503
    monkeypatch.undo()
    assert post(event()).status_code == 200
