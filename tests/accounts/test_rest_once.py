"""Q-12 where the same request comes at the same moment, and where it dies on its way: all of it is one transaction."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from django.db import connections

from accounts import idempotency
from accounts.models import ApiKey, IdempotencyRecord
from events.models import Activity, WebhookDelivery, WebhookEndpoint
from events.webhooks import endpoints
from lib.db import SERVICE, Principal, scope
from tests.conversations.test_rest import Rest

AT_ONCE = 8
WANTED = {"name": "Desk", "url": "https://hooks.example.com/", "events": ["*"]}


@pytest.fixture
def resolved(monkeypatch):
    monkeypatch.setattr(endpoints.egress, "vet_url", lambda url: None)  # asks the network's DNS


def test_the_same_request_many_times_at_once_is_done_once_and_told_to_all(live_world, resolved):
    """Each on a connection of its own: the second waits for the first and is told what that did, in every one of these."""
    world = live_world
    alice = Rest(world.act, world.alice, "webhooks:manage", "keys:own")
    admin = Principal("app_brand", world.act.pk, world.alice.pk)
    hook, _ = endpoints.make(admin, endpoints.Wanted(**WANTED))
    secrets = set()

    def at_once(path, body=None):
        together = Barrier(AT_ONCE)

        def one(_):
            together.wait()
            try:
                return alice("POST", path, body, **{"idempotency-key": "one"})
            finally:
                connections.close_all()

        with ThreadPoolExecutor(AT_ONCE) as threads:
            answers = list(threads.map(one, range(AT_ONCE)))
        assert {answer.status_code for answer in answers} <= {200, 201}, [each.content for each in answers]
        told = [answer.json() for answer in answers]
        shown = [text for body in told for name in ("key", "signing_secret") if (text := body.pop(name, None))]
        assert all(body == told[0] for body in told)
        secrets.update(shown)
        return shown

    assert at_once(f"webhooks/{hook.pk}/test") == []
    assert len(at_once(f"webhooks/{hook.pk}/rotate-secret")) == 1
    assert len(at_once("webhooks", WANTED)) == 1
    assert len(at_once("api-keys", {"name": "Nightly", "scopes": ["webhooks:manage"]})) == 1
    with scope(SERVICE):
        assert WebhookDelivery.objects.count() == 1
        assert WebhookEndpoint.objects.count() == 2
        assert ApiKey.objects.filter(name="Nightly").count() == 1
        assert Activity.objects.filter(action="webhook.secret_rotated").count() == 1
        kept = str(list(IdempotencyRecord.objects.values_list("body", flat=True)))
    assert not any(secret in kept for secret in secrets)
    assert len(secrets) == 3


@pytest.mark.parametrize("route", ["webhooks/{hook}/test", "webhooks", "api-keys", "webhooks/{hook}/rotate-secret"])
def test_what_dies_before_its_answer_is_kept_was_not_done_and_is_done_by_the_repeat(
    world, resolved, monkeypatch, route
):
    """The process ends between key and deed, or after all was written: nothing of it is there, and nobody waits for it."""
    alice = Rest(world.act, world.alice, "webhooks:manage", "keys:own")
    admin = Principal("app_brand", world.act.pk, world.alice.pk)
    hook, secret = endpoints.make(admin, endpoints.Wanted(**WANTED))
    body = {"webhooks": WANTED, "api-keys": {"name": "Nightly", "scopes": ["keys:own"]}}.get(route)

    def rows():
        with scope(SERVICE):
            counted = [model.objects.count() for model in (WebhookEndpoint, WebhookDelivery, ApiKey, IdempotencyRecord)]
            return (*counted, WebhookEndpoint.objects.get(pk=hook.pk).secret == secret)

    def ask():
        return alice("POST", route.format(hook=hook.pk), body, **{"idempotency-key": "one"})

    class Died(BaseException):
        pass

    def and_die(work):
        def wrapper(*args, **more):
            work(*args, **more)
            raise Died

        return wrapper

    before = rows()
    for after in ("claim", "keep"):
        with monkeypatch.context() as dying:
            dying.setattr(idempotency, after, and_die(getattr(idempotency, after)))
            with pytest.raises(Died):
                ask()
        assert rows() == before
    assert ask().status_code in (200, 201)
    done = rows()
    assert done != before
    assert ask().status_code in (200, 201)
    assert rows() == done
