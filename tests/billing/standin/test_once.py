"""Once is once: keys that are repeated, two tabs at the same time, a process that dies in the middle."""

import threading

import pytest
import stripe

from billing.standin.client import StandIn
from billing.standin.models import StandInObject, StandInRequest
from lib.db import SERVICE, close_all, scope
from tests.billing.standin.conftest import events, pay, session


class LosesAnswers(StandIn):
    """The network breaks after the request was done, so many times."""

    def __init__(self, times):
        super().__init__()
        self.left = times

    def request(self, *args, **kwargs):
        answer = super().request(*args, **kwargs)
        if self.left:
            self.left -= 1
            raise stripe.APIConnectionError("timed out", should_retry=True)
        return answer


def count(kind):
    with scope(SERVICE):
        return StandInObject.objects.filter(kind=kind).count()


def in_parallel(work, times):
    """The same at the same moment; what each gave, or how it failed."""
    together, done = threading.Barrier(times), []

    def run():
        together.wait()
        try:
            done.append(work())
        except stripe.StripeError as refused:
            done.append(refused)
        finally:
            close_all()

    threads = [threading.Thread(target=run) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done


@pytest.mark.parametrize("call", ["customer", "session", "refund", "usage"])
def test_a_lost_answer_is_asked_again_and_made_once(shop, call, monkeypatch):
    """S-11: the SDK repeats with the same key of its own making."""
    monkeypatch.setattr(stripe.HTTPClient, "_sleep_time_seconds", lambda *_: 0)
    intent = pay(session(shop, "payment", "pack").id)["payment_intent"]
    patient = stripe.StripeClient("sk_test_standin", http_client=LosesAnswers(2), max_network_retries=2).v1
    payload = {"stripe_customer_id": shop.customer, "value": "1"}
    work, kind = {
        "customer": (lambda: patient.customers.create({"email": "b@example.com"}), "customer"),
        "session": (lambda: session(type("", (), {**vars(shop), "api": patient})), "checkout.session"),
        "refund": (lambda: patient.refunds.create({"payment_intent": intent, "amount": 100}), "refund"),
        "usage": (
            lambda: patient.billing.meter_events.create({"event_name": "overage", "payload": payload}),
            "billing.meter_event",
        ),
    }[call]
    before = count(kind)

    work()

    assert count(kind) == before + 1


def test_a_key_gives_its_first_answer_and_no_other(api):
    once = {"idempotency_key": "alice-1"}
    first = api.customers.create({"email": "a@example.com"}, once)

    again = api.customers.create({"email": "a@example.com"}, once)

    assert again.id == first.id
    assert again.last_response.headers["Idempotent-Replayed"] == "true"
    with pytest.raises(stripe.IdempotencyError, match="same parameters"):
        api.customers.create({"email": "b@example.com"}, once)
    with pytest.raises(stripe.IdempotencyError):
        api.products.create({"name": "Basic"}, once)
    assert len(events("customer.created")) == 1


def test_what_was_refused_before_it_began_may_be_mended_under_the_same_key(api):
    once = {"idempotency_key": "alice-1"}
    with pytest.raises(stripe.InvalidRequestError):
        api.customers.create({"emial": "a@example.com"}, once)

    assert api.customers.create({"email": "a@example.com"}, once).email == "a@example.com"


@pytest.mark.django_db(transaction=True)
def test_ten_tabs_with_one_key_make_one_object(client):
    made = in_parallel(lambda: client.v1.customers.create({"name": "Alice"}, {"idempotency_key": "one"}).id, 10)

    assert len(set(made)) == 1
    assert count("customer") == len(events("customer.created")) == 1


@pytest.mark.django_db(transaction=True)
def test_a_session_that_ten_tabs_pay_is_paid_once(shop):
    """S-14, with threads and real connections."""
    opened = session(shop, "payment", "pack")

    done = in_parallel(lambda: pay(opened.id)["payment_intent"], 10)

    assert len(set(done)) == 1
    assert count("charge") == 1
    assert len(events("checkout.session.completed")) == 1


@pytest.mark.django_db(transaction=True)
def test_refunds_at_the_same_moment_give_back_no_more_than_was_paid(shop):
    charge = shop.api.payment_intents.retrieve(pay(session(shop, "payment", "pack").id)["payment_intent"]).latest_charge

    done = in_parallel(lambda: shop.api.refunds.create({"charge": charge, "amount": 200}).amount, 5)

    assert sorted(one for one in done if isinstance(one, int)) == [200, 200]
    assert shop.api.charges.retrieve(charge).amount_refunded == 400


@pytest.mark.django_db(transaction=True)
def test_an_object_without_its_event_cannot_be(client, monkeypatch):
    """A crash between the two: one transaction holds object, event and the key's answer."""

    def crash(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("billing.standin.customers.tell", crash)
    with pytest.raises(KeyboardInterrupt):
        client.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "one"})
    monkeypatch.undo()

    assert count("customer") == count("event") == 0
    with scope(SERVICE):
        assert not StandInRequest.objects.exists()
    client.v1.customers.create({"email": "a@example.com"}, {"idempotency_key": "one"})
    assert count("customer") == count("event") == 1
