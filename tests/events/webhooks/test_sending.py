"""From an event to somebody's server: real sockets, the real sender in its thread, the roles of production."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import jsonschema
import pytest
from django.conf import settings as site
from django.db import connections, transaction
from standardwebhooks import Webhook, WebhookVerificationError

from accounts.models import Brand, Membership
from events import catalogue, stream
from events.models import Activity, EmailLog, Notification, Reader, WebhookDelivery, WebhookEndpoint
from events.webhooks import endpoints, outcomes, queueing, replaying, sending
from lib import clock
from lib.db import SERVICE, close_all, scope, send
from lib.egress import Answer
from lib.ids import uuid7
from tests.events.webhooks.conftest import RING, happen, hook, sender, until
from tests.factories import make_user
from tests.figures import tell
from tests.lib.locks import wait_for_a_lock

EVENTS, KILLS = int(os.environ.get("SOAK_EVENTS", "60")), 5
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.timeout(180 + EVENTS)]
Status = WebhookDelivery.Status
REST_IS_OVER = """
update events_webhookdelivery set next_retry_at = now()
where status = 'pending' and jsonb_array_length(attempts) = attempt_count
"""


def deliveries(**of):
    with scope(SERVICE):
        return list(WebhookDelivery.objects.filter(**of).order_by("id"))


def row(made):
    with scope(SERVICE):
        return WebhookEndpoint.objects.get(pk=made.pk)


def all_over(count, **of):
    return lambda: len([one for one in deliveries(**of) if one.status != Status.PENDING]) == count


def test_what_happens_on_a_brand_arrives_signed_once_and_nobody_else_hears_of_it(receiver, alice, charlie):
    """W-13, W-14, W-16, W-19: from publish() to a server that verifies with the official library; then with a new secret.

    How the cast was made happened before, and is not told.
    """
    ours, secret = hook(alice, receiver.url("ok/ours"), headers="Authorization: Bearer canary-header-42")
    hook(alice, receiver.url("ok/family"), events=["conversation.*", "plan.changed"])
    hook(charlie, receiver.url("ok/theirs"))
    with sender():
        (subject,) = happen(alice.brand_id)
        with scope(SERVICE):
            stream.publish(alice.brand_id, "member.joined", subject=("user", uuid7()))
            transaction.set_rollback(True, using="service")
        until(all_over(1))
        first = receiver.got[0]
        newer = endpoints.rotate(alice, ours.pk)
        happen(alice.brand_id, name="conversation.renamed")
        until(all_over(3))
        with scope(SERVICE):
            WebhookEndpoint.objects.update(old_secret_until=clock.now() - timedelta(seconds=1))
        happen(alice.brand_id)
        until(all_over(4))

    assert [one.path for one in receiver.got].count("/ok/theirs") == 0
    assert len(receiver.of("ok/ours")) == 3
    assert [json.loads(one.body)["type"] for one in receiver.of("ok/family")] == ["conversation.renamed"]
    told = json.loads(first.body)
    jsonschema.validate(told, catalogue.envelope())
    assert (told["subject"]["id"], told["brand_id"]) == (str(subject), str(alice.brand_id))
    assert first.headers["authorization"] == "Bearer canary-header-42"
    assert Webhook(secret.reveal()).verify(first.body, first.headers) == told
    for change in ({"webhook-id": "other"}, {"webhook-timestamp": str(int(time.time()) - 60)}):
        with pytest.raises(WebhookVerificationError):
            Webhook(secret.reveal()).verify(first.body, first.headers | change)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret.reveal()).verify(first.body + b" ", first.headers)
    both, one_only = receiver.of("ok/ours")[1:]
    for known in (secret, newer):
        Webhook(known.reveal()).verify(both.body, both.headers)
    Webhook(newer.reveal()).verify(one_only.body, one_only.headers)
    with pytest.raises(WebhookVerificationError):
        Webhook(secret.reveal()).verify(one_only.body, one_only.headers)
    made = row(ours)
    assert (made.total_deliveries, made.successful_deliveries, made.failed_deliveries) == (3, 3, 0)
    (sent, *_) = deliveries(webhook=ours)
    assert (sent.http_status, sent.response_body, sent.attempt_count, sent.error_message) == (200, "thanks", 1, "")
    assert str(sent.message_id) == first.id
    with connections["service"].cursor() as cursor, scope(SERVICE):  # neither secret nor header stands anywhere
        for table in ("events_webhookendpoint", "events_webhookdelivery", "events_activity", "events_event"):
            cursor.execute(
                f"select count(*) from {table} t where t::text like any(%s)", [["%canary-header%", "%whsec_%"]]
            )
            assert cursor.fetchone() == (0,), table


def test_a_hostile_receiver_gets_nothing_and_holds_up_nobody(receiver, alice, charlie, settings):
    """W-05, W-08, W-09, W-10, W-11, W-12: fifty that never answer, and one of each other kind, beside a good one."""
    settings.WEBHOOK_LIMITS = {"deadline_s": 60.0}
    for number in range(endpoints.MOST):
        hook(charlie, receiver.url(f"hang/{number}"))
    happen(charlie.brand_id, times=20)
    good, _ = hook(alice, receiver.url("ok"))
    happen(alice.brand_id, times=30)
    with sender():
        until(lambda: row(good).successful_deliveries == 30)
        waiting = deliveries(brand_id=charlie.brand_id)
    assert all(one.attempts == [] for one in waiting)
    assert 0 < sum(one.attempt_count for one in waiting) <= 40  # what one brand may have under way

    endpoints.delete(alice, good.pk)
    with scope(SERVICE):
        WebhookEndpoint.objects.filter(brand_id=charlie.brand_id).delete()
    settings.WEBHOOK_LIMITS = {"deadline_s": 1.5}
    kinds = ["hang", "close", "drip", "headers", "big", "bomb", "redirect", "500", "410", "429", "echo"]
    made = {kind: hook(alice, receiver.url(kind), name=kind, headers="X-Token: canary-token-7")[0] for kind in kinds}
    blocked, refused = hook(alice, receiver.url("ok"))[0], hook(alice, receiver.url("ok"))[0]
    with scope(SERVICE):  # addresses that were public when they were saved
        WebhookEndpoint.objects.filter(pk=blocked.pk).update(url=f"https://127.0.0.1:{receiver.port + 1}/")
        WebhookEndpoint.objects.filter(pk=refused.pk).update(url="https://169.254.169.254/latest")
    happen(alice.brand_id)
    with sender():
        until(lambda: all(one.attempts for one in deliveries()))
    made |= {"blocked": blocked, "refused": refused}
    one = {name: deliveries(webhook=hooked)[0] for name, hooked in made.items()}

    assert receiver.honeypot == 0
    assert max(receiver.written.values()) < 20_000_000  # what fits into the buffers between us, not a thousand million
    unseen = [one[name] for name in ("hang", "close", "headers", "blocked", "refused")]
    assert {(sent.http_status, sent.error_message, sent.status) for sent in unseen} == {
        (None, "unreachable", "pending")
    }
    assert min(sent.duration_ms for sent in unseen) >= 1400  # none of them is told apart by ending sooner
    assert {one[name].status for name in ("drip", "big", "bomb", "echo")} == {Status.DELIVERED}
    assert (one["redirect"].http_status, one["redirect"].status) == (307, Status.PENDING)
    assert max(len(sent.response_body.encode()) for sent in one.values()) <= 4096
    assert "canary-token" not in one["echo"].response_body
    assert "[secret]" in one["echo"].response_body
    assert (one["410"].status, row(made["410"]).off_because) == (Status.FAILED, "gone")
    assert one["429"].next_retry_at > clock.now() + timedelta(minutes=110)
    assert row(made["500"]).failing_since
    with scope(SERVICE):
        assert Notification.objects.filter(owner_id=alice.owner_id, title__contains="410 was switched off").count() == 1
        assert EmailLog.objects.filter(user_id=alice.owner_id, subject__contains="switched off").count() == 1
        assert Activity.objects.filter(action="webhook.switched_off", actor=None).count() == 1


def test_whoever_switches_off_while_outcomes_are_written_down_waits_in_turn(alice, settings):
    """W-18: neither is killed as a deadlock, in whichever order they come."""
    settings.EGRESS_ALLOW = ["hooks.example:443"]
    made, _ = hook(alice, "https://hooks.example/")
    happen(alice.brand_id)
    queueing.queue_new()
    (taken,) = sending.take(Counter(), most=5)
    arrived = outcomes.Outcome(taken, taken.webhook, Answer(200, {}, b""), "", 5)

    def write_down():
        try:
            outcomes.write_down([arrived])
        finally:
            close_all()

    with ThreadPoolExecutor(1) as sender_of_another, scope(alice):
        endpoints.locked(alice, made.pk)
        written = sender_of_another.submit(write_down)
        wait_for_a_lock()
        endpoints.cancel_waiting([made.pk])

    assert written.result(60) is None
    assert [one.status for one in deliveries()] == [Status.DELIVERED], "it was on the wire"


def test_what_is_deleted_off_or_suspended_is_sent_nothing_any_more(receiver, alice, charlie):
    """W-18: between queueing and sending."""
    off, _ = hook(alice, receiver.url("ok/off"))
    gone, _ = hook(alice, receiver.url("ok/gone"))
    hook(charlie, receiver.url("ok/suspended"))
    on, _ = hook(alice, receiver.url("ok/on"))
    happen(alice.brand_id)
    happen(charlie.brand_id)
    assert queueing.queue_new() == (4, False)
    endpoints.switch(alice, off.pk, on=False)
    endpoints.delete(alice, gone.pk)
    with scope(SERVICE):
        Brand.objects.filter(pk=charlie.brand_id).update(is_active=False)

    with sender():
        until(all_over(1, webhook=on))
        (cancelled,) = deliveries(webhook=off)
        endpoints.switch(alice, off.pk, on=True)
        replaying.one(alice, cancelled.pk)
        until(all_over(1, webhook=off))

    assert cancelled.status == Status.CANCELLED
    assert sorted(one.path for one in receiver.got) == ["/ok/off", "/ok/on"]
    assert receiver.of("ok/off")[0].id == str(cancelled.message_id)


def test_an_outcome_that_cannot_be_written_keeps_no_other_from_it(receiver, alice, charlie, monkeypatch):
    """Whatever one receiver answers: the others' deliveries are written down, and nobody is sent theirs again and again."""
    odd, _ = hook(charlie, receiver.url("ok/odd"))
    good, _ = hook(alice, receiver.url("ok/good"))
    counted = outcomes._row

    def row_of(one, now):
        if one.endpoint.pk == odd.pk:
            raise OverflowError("no clock can hold this")
        return counted(one, now)

    monkeypatch.setattr(outcomes, "_row", row_of)
    with sender():
        happen(charlie.brand_id)
        until(lambda: receiver.of("ok/odd"))
        happen(alice.brand_id)
        until(lambda: row(good).successful_deliveries == 1)


def test_what_never_arrives_is_given_up_told_and_sent_again_by_hand(receiver, alice):
    """W-12: with the clock moved on between the tries; then the receiver is mended and the range is sent again."""
    hooked, _ = hook(alice, receiver.url("500"), max_retries=2)
    frank = make_user("frank@example.com")
    with scope(SERVICE):
        Membership.objects.create(brand_id=alice.brand_id, user=frank, role="admin", suspended_at=clock.now())
    happen(alice.brand_id, times=3)

    def time_passes():
        with scope(SERVICE):
            send((REST_IS_OVER, {}))
        found = deliveries()
        return found if found and all(one.status == Status.FAILED for one in found) else None

    with sender():
        given_up = until(time_passes)
        assert [one.attempt_count for one in given_up] == [3] * 3
        ids = {one.id for one in receiver.got}
        endpoints.change(
            alice, hooked.pk, endpoints.Wanted(name="Mended", url=receiver.url("ok"), events=["*"], max_retries=2)
        )
        at, count = replaying.many(alice, hooked.pk)
        until(lambda: row(hooked).successful_deliveries == 3)
        assert replaying.many(alice, hooked.pk)[1] == 0

    with scope(alice):
        assert replaying.progress(WebhookDelivery.objects.all(), at) == {
            "all": 3, "delivered": 3, "failed": 0, "waiting": 0
        }  # fmt: skip
    assert count == 3
    assert {one.id for one in receiver.of("ok")} == ids
    assert len(deliveries()[0].attempts) == 4
    made = row(hooked)
    assert (made.total_deliveries, made.failed_deliveries, made.failing_since) == (6, 3, None)
    with scope(SERVICE):
        assert Notification.objects.filter(owner_id=alice.owner_id, title__contains="given up").count() == 1
        assert not Notification.objects.filter(owner_id=frank.pk).exists(), "who is suspended runs nothing here"


def test_an_endpoint_that_takes_nothing_for_five_days_is_switched_off(receiver, alice):
    """W-12"""
    hooked, _ = hook(alice, receiver.url("500"))
    with scope(SERVICE):
        WebhookEndpoint.objects.update(failing_since=clock.now() - timedelta(days=5, minutes=1))
    happen(alice.brand_id, times=2)

    with sender():
        until(lambda: all(one.attempts for one in deliveries()))
        assert row(hooked).is_active, "what happens now is tried again first"
        with scope(SERVICE):
            WebhookDelivery.objects.update(next_retry_at=clock.now())
        until(lambda: not row(hooked).is_active)
        until(lambda: all(one.status == Status.CANCELLED for one in deliveries()))

    assert row(hooked).off_because == "failing"


def test_every_event_arrives_though_the_sender_is_killed_five_times_and_three_of_ten_tries_fail(receiver, alice):
    """The set test, W-16: ids that were received = ids that were sent. SOAK_EVENTS makes it a thousand."""
    hooked, _ = hook(alice, receiver.url("some-fail"))
    env = {
        **os.environ,
        "DJANGO_SETTINGS_MODULE": "tests.house.settings",
        "LIVE_DB": connections["owner"].settings_dict["NAME"],
        "EGRESS_ALLOW": f"127.0.0.1:{receiver.port}",
        "ENCRYPTION_KEYS": RING,
    }
    command = [sys.executable, "-m", "tests.events.webhooks.nursery"]

    def arrived():
        return {one.id for one in receiver.got if not one.headers["failed"]}

    def time_passes():
        """What waits for its next try, or for the lease of somebody who is dead, is due."""
        with scope(SERVICE):
            WebhookEndpoint.objects.select_for_update().get(pk=hooked.pk)
            WebhookDelivery.objects.filter(status=Status.PENDING).update(next_retry_at=clock.now())

    def is_over():
        """What rests is due; what is under way has its lease of half a minute."""
        now = clock.now()
        under_way = now + timedelta(seconds=12), now + timedelta(seconds=40)
        with scope(SERVICE):
            resting = WebhookDelivery.objects.filter(next_retry_at__gt=now).exclude(next_retry_at__range=under_way)
            resting.update(next_retry_at=now)
        return row(hooked).successful_deliveries == EVENTS

    with subprocess.Popen(
        command, cwd=site.BASE_DIR, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
    ) as nursery:
        for kill in range(KILLS + 1):
            happen(alice.brand_id, times=EVENTS // (KILLS + 1))
            seen = len(receiver.got)
            time_passes()
            print("another", file=nursery.stdin, flush=True)
            pid = int(nursery.stdout.readline())
            if kill < KILLS:
                until(lambda seen=seen: len(receiver.got) > seen + 2, seconds=60)
                os.kill(pid, signal.SIGKILL)
        until(is_over, seconds=120 + EVENTS)
        nursery.stdin.close()

    assert nursery.wait(20) == 0
    with scope(SERVICE):
        sent = {str(pk) for pk in WebhookDelivery.objects.values_list("message_id", flat=True)}
    assert len(sent) == EVENTS
    assert arrived() == sent
    assert {one.status for one in deliveries()} == {Status.DELIVERED}
    assert row(hooked).failed_deliveries == 0
    failed = sum(bool(one.headers["failed"]) for one in receiver.got)
    twice = len(receiver.got) - failed - EVENTS
    tell(
        "webhooks", events=EVENTS, senders_killed=KILLS, requests=len(receiver.got), failed=failed, arrived_again=twice
    )


def test_a_new_webhook_and_one_that_was_off_hear_nothing_of_long_ago(alice, settings):
    settings.EGRESS_ALLOW = ["hooks.example:443"]

    def a_minute_passes():
        assert queueing.queue_new() == (0, False)
        with scope(SERVICE):
            Reader.objects.filter(pk=queueing.READER).update(read_until=clock.now() - timedelta(minutes=1))
        assert queueing.queue_new() == (0, False)

    happen(alice.brand_id)
    a_minute_passes()
    made, _secret = hook(alice, "https://hooks.example/")
    assert queueing.queue_new() == (0, False)
    happen(alice.brand_id)
    assert queueing.queue_new() == (1, False)
    endpoints.switch(alice, made.pk, on=False)
    happen(alice.brand_id)
    a_minute_passes()
    endpoints.switch(alice, made.pk, on=True)
    assert queueing.queue_new() == (0, False)


def test_a_body_that_would_be_large_goes_without_its_data_and_some_events_are_one_person_s(alice, monkeypatch):
    """W-19"""
    with scope(SERVICE):
        stream.publish(alice.brand_id, "plan.changed", subject=("user", uuid7()), data={"from": None, "to": "p" * 200})
        event = queueing.Event.objects.filter(type="plan.changed").latest("seq")
    assert queueing.body_of(event)["data"]["from"] is None
    event.data["to"] = "p" * 20_000

    thin = queueing.body_of(event)

    assert (thin["thin"], "data" in thin) == (True, False)
    jsonschema.validate(thin, catalogue.envelope())
    endpoint = WebhookEndpoint(events=["plan.*"], created_at=event.created_at)
    assert queueing.wants(endpoint, event)
    endpoint.agent_id = uuid7()
    assert not queueing.wants(endpoint, event)
    endpoint.agent_id = None
    private = catalogue.Kind("plan.changed", "user", "Private", for_hooks=False)
    monkeypatch.setitem(catalogue.KINDS, "plan.changed", private)
    assert not queueing.wants(endpoint, event)
    assert outcomes.EXCERPT_BYTES == 4096
