"""REST of what happens in a brand: webhooks and what was sent, notifications, the activity log."""

import pytest

from accounts.models import IdempotencyRecord
from events import notices
from events.models import WebhookDelivery, WebhookEndpoint
from events.webhooks import endpoints
from lib.db import SERVICE, scope
from tests.conversations.test_rest import Rest

WANTED = {
    "name": "Our desk",
    "url": "https://hooks.example.com/chats",
    "events": ["conversation.*"],
    "headers": "X-Desk: 7",
}


@pytest.fixture
def alice(world, monkeypatch):
    monkeypatch.setattr(endpoints.egress, "vet_url", lambda url: None)  # asks the network's DNS
    return Rest(world.act, world.alice, "webhooks:manage", "activity:read", "notifications:read")


def test_a_webhook_is_made_once_changed_tried_and_deleted(world, alice):
    """S3, Q-12: its secret is in the first answer, and in no row of ours that anybody reads."""
    first, again = (alice("POST", "webhooks", WANTED, **{"idempotency-key": "k"}) for _ in range(2))
    made = first.json()
    path = f"webhooks/{made['id']}"

    assert (first.status_code, again.status_code) == (201, 201), first.content
    assert made.pop("signing_secret").startswith("whsec_")
    assert again.json() == made
    with scope(SERVICE):
        assert WebhookEndpoint.objects.count() == 1
        assert "whsec_" not in str(IdempotencyRecord.objects.get().body)
    assert alice("POST", "webhooks", {**WANTED, "name": "Other"}, **{"idempotency-key": "k"}).status_code == 422
    assert [row["id"] for row in alice.get("webhooks").json()] == [made["id"]]
    assert alice("PATCH", path, {"events": ["*"], "max_retries": 2}).json()["events"] == ["*"]
    with scope(SERVICE):
        assert "X-Desk" in WebhookEndpoint.objects.get().custom_headers.reveal(), "what is not named stays"
    tried = alice("POST", f"{path}/test")
    assert (tried.status_code, tried.json()["event_type"]) == (201, "webhook.test")
    assert [row["id"] for row in alice.get(f"{path}/deliveries?limit=1").json()] == [tried.json()["id"]]
    assert alice("POST", f"deliveries/{tried.json()['id']}/replay").status_code == 409, "it is on its way"
    assert alice("PATCH", path, {"is_active": False}).json()["off_because"] == "by_hand"
    assert alice("POST", f"deliveries/{tried.json()['id']}/replay").status_code == 409, "it is off"
    for wrong in ({"events": []}, {"events": ["no.such"]}, {"max_retries": 99}, {"secret": "whsec_x"}):
        assert alice("PATCH", path, wrong).status_code == 400, wrong
    assert alice("DELETE", path).status_code == 204
    assert alice.get(path).status_code == 404
    with scope(SERVICE):
        assert not WebhookDelivery.objects.exists()


def test_notifications_are_ones_own_and_the_log_is_the_admins(world, alice):
    with scope(SERVICE):
        own = [notices.tell(world.act.pk, world.alice.pk, "system", title=f"{n}", message="Words") for n in range(3)]
        notices.tell(world.act.pk, world.bob.pk, "system", title="Bob's", message="Words")
    bob = Rest(world.act, world.bob, "notifications:read", "conversations:read")

    first = alice.get("notifications?limit=2")
    rest = alice.get(first.headers["Link"].partition("/api/v1/")[2].partition(">")[0])
    assert [row["title"] for row in first.json() + rest.json()] == ["2", "1", "0"]
    assert alice("POST", f"notifications/{own[0].pk}/read").status_code == 204
    assert bob("POST", f"notifications/{own[1].pk}/read").status_code == 404
    assert alice("POST", "notifications/read").json() == {"read": 2}
    assert all(row["read_at"] for row in alice.get("notifications").json())

    alice("POST", "webhooks", WANTED)
    lines = alice.get("activity?action=webhook.created").json()
    assert [(row["actor_id"], row["actor_kind"]) for row in lines] == [(str(world.alice.pk), "key")]
    assert bob.get("activity").status_code == 403
    assert bob.get("webhooks").status_code == 403
