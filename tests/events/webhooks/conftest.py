import time
from contextlib import contextmanager

import pytest

from accounts.models import Membership
from events import stream
from events.webhooks import endpoints, sending
from lib.db import SERVICE, Principal, scope
from lib.ids import uuid7
from lib.keyring import KeyRing
from tests.events.webhooks.receiver import Receiver

RING = "1:" + "ab" * 32


@pytest.fixture(autouse=True)
def ring(settings):
    settings.ENCRYPTION_KEYS = KeyRing.parse(RING)


@pytest.fixture
def receiver(settings):
    with Receiver() as listening:
        settings.EGRESS_ALLOW = [f"127.0.0.1:{listening.port}"]
        yield listening


@pytest.fixture
def alice(live_world):
    return Principal("app_brand", live_world.act.pk, live_world.alice.pk)


@pytest.fixture
def charlie(live_world):
    with scope(SERVICE):
        Membership.objects.filter(user=live_world.charlie).update(role="owner")
    return Principal("app_brand", live_world.globex.pk, live_world.charlie.pk)


def hook(principal, url, *, events=("*",), **more):
    return endpoints.make(principal, endpoints.Wanted(name=more.pop("name", "A hook"), url=url, events=events, **more))


def happen(brand_id, *, times=1, name="member.joined"):
    """That many events in one transaction. Returns their subjects."""
    subjects = [uuid7() for _ in range(times)]
    with scope(SERVICE):
        for subject in subjects:
            stream.publish(brand_id, name, subject=("user", subject))
    return subjects


def until(is_so, *, seconds=30):
    """Wait for what another thread or process is about to do; how long that takes decides nothing."""
    for _ in range(seconds * 50):
        if found := is_so():
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come to that")


@contextmanager
def sender():
    running, thread = sending.in_a_thread()
    try:
        yield running
    finally:
        running.stop()
        thread.join(20)
        assert not thread.is_alive()
