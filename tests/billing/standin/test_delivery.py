"""Events reach our own address with a signature that the SDK takes, and no other address."""

import asyncio
import json
import threading
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest
import stripe

from billing.standin import delivery
from billing.standin.store import seconds
from billing.tasks import send_stand_in_event, tend_stand_in
from lib import clock
from tests.billing.standin.conftest import events

SECRET = "whsec_test"


@pytest.fixture
def inbox(settings):
    """A web server of its own, which keeps what is posted and answers what it is told."""
    got, answers = [], []

    class Inbox(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            got.append((self.path, dict(self.headers), body))
            status = answers.pop(0) if answers else 200
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "/elsewhere/")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = HTTPServer(("127.0.0.1", 0), Inbox)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings.STRIPE_STAND_IN_WEBHOOK = f"http://127.0.0.1:{server.server_port}/stripe/webhook/"
    settings.STRIPE_WEBHOOK_SECRET = SECRET
    yield got, answers
    server.shutdown()
    thread.join()
    server.server_close()


def test_what_is_posted_verifies_by_the_sdk(client, inbox):
    got, _ = inbox
    client.v1.customers.create({"email": "a@example.com"})
    (event,) = events()

    send_stand_in_event(event["id"])

    ((where, headers, body),) = got
    assert where == "/stripe/webhook/"
    for told in (
        client.construct_event(body, headers["Stripe-Signature"], SECRET),
        stripe.Webhook.construct_event(body, headers["Stripe-Signature"], SECRET),
    ):
        assert (told.id, told.type, told.data.object.email) == (event["id"], "customer.created", "a@example.com")
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(body, headers["Stripe-Signature"], "whsec_other")
    with pytest.raises(stripe.SignatureVerificationError):
        client.construct_event(body + b" ", headers["Stripe-Signature"], SECRET)


@pytest.mark.parametrize(("age_s", "taken"), [(295, True), (305, False)])
def test_the_signature_has_its_moment(client, age_s, taken):
    """S-03: the tolerance is the SDK's."""
    body = json.dumps({"id": "evt_1", "object": "event", "type": "ping"}).encode()
    header = delivery.signed(body, SECRET, at=seconds(clock.now()) - age_s)

    if taken:
        assert client.construct_event(body, header, SECRET).id == "evt_1"
    else:
        with pytest.raises(stripe.SignatureVerificationError):
            client.construct_event(body, header, SECRET)


@pytest.mark.parametrize("status", [302, 400, 500])
def test_what_is_not_taken_stays_pending_and_no_redirect_is_followed(api, inbox, status):
    got, answers = inbox
    answers.append(status)
    api.customers.create({"email": "a@example.com"})

    assert delivery.send(events()[0]["id"]) is False

    assert len(got) == 1
    assert events()[0]["pending_webhooks"] == 1


def test_an_address_where_nobody_is_leaves_it_pending(api, settings):
    settings.STRIPE_STAND_IN_WEBHOOK = "http://127.0.0.1:9/stripe/webhook/"
    api.customers.create({"email": "a@example.com"})

    assert delivery.send(events()[0]["id"]) is False

    assert events()[0]["pending_webhooks"] == 1


def test_what_was_taken_is_never_sent_again(api, inbox):
    got, _ = inbox
    api.customers.create({"email": "a@example.com"})
    (event,) = events()

    assert [delivery.send(event["id"]) for _ in range(3)] == [True, False, False]

    assert len(got) == 1
    assert events()[0]["pending_webhooks"] == 0


def test_what_waits_is_sent_in_order_and_what_was_refused_after_a_pause(api, inbox, monkeypatch):
    """The queue was away, a worker died, or the webhook said no to one: the others go on, and that one comes again."""
    got, answers = inbox
    for name in ("one", "two", "three"):
        api.customers.create({"name": name})
    monkeypatch.setattr(delivery, "LET_THE_TASK", delivery.LET_THE_TASK * 0)
    answers.extend([200, 503])

    assert tend_stand_in() == 2
    assert tend_stand_in() == 0
    now = clock.now()
    monkeypatch.setattr(delivery.clock, "now", lambda: now + timedelta(seconds=11))
    assert tend_stand_in() == 1

    sent = [json.loads(body)["data"]["object"]["name"] for _, _, body in got]
    assert sent == ["one", "two", "three", "two"]


def test_without_an_address_nothing_is_sent(api, settings):
    settings.STRIPE_STAND_IN_WEBHOOK = ""
    api.customers.create({"email": "a@example.com"})

    delivery.send(events()[0]["id"])

    assert events()[0]["pending_webhooks"] == 1


def test_only_the_address_of_the_settings_is_ever_connected_to(settings, monkeypatch):
    """F-11: the connector knows one host and port, and is given no other."""
    asked = []
    settings.STRIPE_STAND_IN_WEBHOOK = "http://127.0.0.1:9/stripe/webhook/"
    real = delivery.egress.connector
    monkeypatch.setattr(delivery.egress, "connector", lambda url, allow: asked.append(allow) or real(url, allow=allow))

    assert "does not answer" in asyncio.run(delivery._post(b"{}"))

    assert asked == [{"127.0.0.1:9"}]
