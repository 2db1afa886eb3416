"""Deliveries as they leave us, verified by the official Standard Webhooks library for Node."""

import json
import subprocess
from datetime import timedelta

import pytest

from events.models import WebhookDelivery, WebhookEndpoint
from events.webhooks import endpoints, sending
from lib import clock
from lib.db import SERVICE, Principal, scope
from lib.ids import uuid7
from lib.keyring import KeyRing
from tests.clients.conftest import HERE
from tests.events.webhooks.conftest import RING

pytestmark = pytest.mark.django_db
SAID = {"ascii": "plain", "emoji": 'Grüße 👋🏽 \u2028 \\ "', "large": "x" * 20_000}


@pytest.fixture
def hook(world, settings):
    settings.EGRESS_ALLOW = ["hooks.example:443"]
    settings.ENCRYPTION_KEYS = KeyRing.parse(RING)
    alice = Principal("app_brand", world.act.pk, world.alice.pk)
    wanted = endpoints.Wanted(name="A", url="https://hooks.example/", events=["*"])
    made, old = endpoints.make(alice, wanted)
    return made, old, lambda: endpoints.rotate(alice, made.pk)


def sent(endpoint, message):
    message_id = uuid7()
    data = {"id": str(message_id), "data": {"message": message}}
    with scope(SERVICE):
        endpoint = WebhookEndpoint.objects.get(pk=endpoint.pk)
    body, headers = sending.request_of(WebhookDelivery(message_id=message_id, event_data=data), endpoint)
    return {"body": body.decode(), "headers": headers}


def test_node_s_own_library_takes_what_is_signed_with_either_secret_and_nothing_that_was_changed(node_installed, hook):
    """W-13, W-14: also while both secrets sign; afterwards the old one is worth nothing."""
    made, old, rotate = hook
    deliveries = {name: sent(made, message) for name, message in SAID.items()}
    first = deliveries["ascii"]
    for name, value in (("webhook-id", "other"), ("webhook-timestamp", str(int(clock.now().timestamp()) - 60))):
        deliveries[name] = {**first, "headers": {**first["headers"], name: value}}
    deliveries["body"] = {**first, "body": first["body"] + " "}
    new = rotate()
    deliveries["both"] = sent(made, "plain")
    with scope(SERVICE):
        WebhookEndpoint.objects.update(old_secret_until=clock.now() - timedelta(seconds=1))
    deliveries["after"] = sent(made, "plain")
    asked = {"secrets": {"old": old.reveal(), "new": new.reveal()}, "deliveries": deliveries}

    done = subprocess.run(
        ["node", HERE / "node" / "webhooks.mjs"], input=json.dumps(asked), capture_output=True, text=True, timeout=60
    )

    assert done.returncode == 0, done.stderr[-3000:]
    told, refused = json.loads(done.stdout), "WebhookVerificationError"
    for name in SAID:
        assert told[name] == {"old": deliveries[name]["headers"]["webhook-id"], "new": refused}, name
    for name in ("webhook-id", "webhook-timestamp", "body"):
        assert told[name] == {"old": refused, "new": refused}, name
    ids = {name: deliveries[name]["headers"]["webhook-id"] for name in ("both", "after")}
    assert told["both"] == {"old": ids["both"], "new": ids["both"]}
    assert told["after"] == {"old": refused, "new": ids["after"]}
