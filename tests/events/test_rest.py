"""REST of what happens in a brand: webhooks and what was sent, notifications, the activity log."""

from datetime import timedelta
from urllib.parse import urlencode

import pytest
from standardwebhooks import Webhook, WebhookVerificationError

from accounts.models import IdempotencyRecord
from chatsite.api_docs.description import description
from events import notices
from events.models import WebhookDelivery, WebhookEndpoint
from events.webhooks import endpoints, sending
from lib import clock
from lib.db import SERVICE, scope
from lib.ids import uuid7
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


def test_a_range_is_sent_again_and_a_secret_renewed_while_the_webhook_is_busy(world, alice):
    """S3, W-14: counters move with each delivery, and whoever changes the webhook is not refused for that."""
    hook = alice("POST", "webhooks", WANTED).json()
    path = f"webhooks/{hook['id']}"
    with scope(SERVICE):
        for status in ("failed", "failed", "cancelled", "delivered"):
            WebhookDelivery.objects.create(
                brand=world.act, webhook_id=hook["id"], message_id=uuid7(), event_type="webhook.test",
                event_data={"n": status}, status=status, response_body="no",
            )  # fmt: skip
    one = alice.get(f"{path}/deliveries").json()[0]["id"]
    whole = alice.get(f"deliveries/{one}").json()
    assert (whole["event_data"], whole["response_body"]) == ({"n": "delivered"}, "no")

    past = alice("POST", f"{path}/replay", {"until": "2020-01-01T00:00:00Z"}).json()
    assert past["deliveries"] == 0
    again = alice("POST", f"{path}/replay", {"since": "2020-01-01T00:00:00Z"}).json()
    assert again["deliveries"] == 3, "what arrived is not sent again unless one asks for it"
    progress = alice.get(f"{path}/replay?{urlencode({'at': again['replayed_at']})}").json()
    assert progress == {"all": 3, "delivered": 0, "failed": 0, "waiting": 3}
    assert alice("POST", f"{path}/replay", {"failed_only": False}).json()["deliveries"] == 1
    for wrong in ({"since": "yesterday"}, {"failed_only": "no"}, {"all": True}):
        assert alice("POST", f"{path}/replay", wrong).status_code == 400, wrong

    seen = alice.get(path).headers["ETag"]
    with scope(SERVICE):
        WebhookEndpoint.objects.filter(pk=hook["id"]).update(total_deliveries=7, last_delivered_at=clock.now())
    assert alice.get(path).headers["ETag"] != seen
    renewed = alice("POST", f"{path}/rotate-secret", **{"if-match": seen})
    assert renewed.json()["signing_secret"] not in ("", hook["signing_secret"])
    assert renewed.json()["old_secret_until"]
    late = alice("POST", f"{path}/rotate-secret", **{"if-match": seen})
    assert late.status_code == 412, "somebody made one since, who knows of no other"
    assert alice("PATCH", path, {"name": "Mine"}, **{"if-match": seen}).status_code == 412
    assert alice("PATCH", path, {"name": "Mine"}, **{"if-match": renewed.headers["ETag"]}).json()["name"] == "Mine"
    assert "signing_secret" not in alice.get(path).json()


def test_who_missed_a_new_secret_makes_another_and_the_receiver_s_own_goes_on(world, alice):
    """W-14: the answer that told it was lost, and its repeat tells nothing."""
    hook = alice("POST", "webhooks", WANTED).json()
    path = f"webhooks/{hook['id']}/rotate-secret"
    alice("POST", path, **{"idempotency-key": "k"})
    assert "signing_secret" not in alice("POST", path, **{"idempotency-key": "k"}).json()
    secrets = [hook["signing_secret"], alice("POST", path).json()["signing_secret"]]

    with scope(SERVICE):
        row = WebhookEndpoint.objects.get()
    body, headers = sending.request_of(WebhookDelivery(message_id=uuid7(), event_data={"a": 1}), row)
    for secret in secrets:
        assert Webhook(secret).verify(body, headers) == {"a": 1}
    row.old_secret_until -= timedelta(hours=25)
    body, headers = sending.request_of(WebhookDelivery(message_id=uuid7(), event_data={"a": 1}), row)
    with pytest.raises(WebhookVerificationError):
        Webhook(secrets[0]).verify(body, headers)

    answers = [alice("POST", path).status_code for _ in range(endpoints.MOST_REPLACED)]
    assert (set(answers[:-2]), answers[-2:]) == ({200}, [409, 409])


def test_who_changes_a_webhook_behind_another_is_refused_as_described(world, alice, monkeypatch):
    hook = alice("POST", "webhooks", WANTED).json()

    def meanwhile(url):
        with scope(SERVICE):
            WebhookEndpoint.objects.update(url="https://other.example.com/")

    monkeypatch.setattr(endpoints.egress, "vet_url", meanwhile)
    late = alice("PATCH", f"webhooks/{hook['id']}", {"name": "Mine"})

    assert (late.status_code, late.json()["code"]) == (409, "conflict")
    assert "409" in description()["paths"]["/api/v1/webhooks/{webhook_id}"]["patch"]["responses"]


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
