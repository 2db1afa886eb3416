"""O-16: each condition is made true on real rows, is told once, and once more when it is over."""

from datetime import timedelta
from io import StringIO

import pytest
from django.conf import settings
from django.core.cache import cache
from django.core.management import CommandError, call_command
from django.db.models import F
from django.test import Client

from billing.models import StripeEvent
from chatsite import tasks, watch
from conversations.models import Turn
from events import alarms, dead_letters, mail
from events.models import Alarm, DeadLetter, EmailLog, Reader, WebhookDelivery, WebhookEndpoint
from events.webhooks import lagging, queueing
from lib import clock
from lib.db import SERVICE, scope
from lib.ids import uuid7
from lib.keyring import KeyRing
from lib.logs import request_id
from providers.models import ProviderKey
from quotas import ledger
from quotas.models import Bucket, Hold
from quotas.tasks import prove_balances
from tests import factories
from tests.post import arrived

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _admins(settings):
    settings.ADMINS = [("ops", "ops@example.com")]
    request_id.set("")


def told(caplog):
    return [(record.getMessage(), record.alert) for record in caplog.records if hasattr(record, "alert")]


def mails():
    """To those who look after the house."""
    return [message for message in arrived() if message.to == ["ops@example.com"]]


def state(name):
    with scope(SERVICE):
        return Alarm.objects.get(pk=name)


def hold(world, reservation):
    ledger.reserve(
        world.act, asker=("user", world.bob.pk), amounts={"queries": 1, "tokens": 10}, reservation=reservation
    )


def turn(world, **fields):
    with scope(SERVICE):
        return Turn.objects.create(
            brand=world.act, owner_id=world.bob.pk, provider_id=uuid7(), **{"heartbeat_at": clock.now(), **fields}
        )


def late_hold(world):
    reservation = uuid7()
    hold(world, reservation)
    with scope(SERVICE):
        Hold.objects.filter(reservation=reservation).update(expires_at=clock.now() - timedelta(minutes=2))
    return lambda: ledger.settle(reservation, amounts={})


def lost_turn(world):
    lost = turn(world, heartbeat_at=clock.now() - timedelta(minutes=3))

    def end():
        with scope(SERVICE):
            Turn.objects.filter(pk=lost.pk).update(status="failed")

    return end


def many_interrupted(world):
    for _ in range(watch.MOST_INTERRUPTED + 1):
        turn(world, status="interrupted")

    def forget():
        with scope(SERVICE):
            Turn.objects.filter(status="interrupted").delete()

    return forget


def letter(world):
    laid = dead_letters.lay_down("billing.tasks.push_plan", ["1"], {}, reason="failed", error=ValueError("it broke"))

    def answer():
        with scope(SERVICE):
            DeadLetter.objects.filter(pk=laid.pk).update(sent_again_at=clock.now())

    return answer


def unsent_mail(world):
    lost = mail.send(world.act.pk, "bob@example.com", "account/email/password_reset_key", {}, secrets={"key": "x"})
    cache.clear()
    assert arrived() == []

    def forget():
        with scope(SERVICE):
            EmailLog.objects.filter(pk=lost.pk).delete()

    return forget


def drift(world):
    hold(world, uuid7())
    with scope(SERVICE):
        changed = Bucket.objects.filter(owner_id=world.bob.pk, meter="queries")
        changed.update(used=F("used") + 1)

    def mend():
        with scope(SERVICE):
            changed.update(used=F("used") - 1)

    return mend


def lost_ring(world):
    """What opened a member's key is taken out of ENCRYPTION_KEYS, and put back."""
    with scope(SERVICE):
        ProviderKey.objects.create(
            brand=world.act, owner_id=world.bob.pk, vendor="openai", secret="sk-of-bob-1234", status="valid"
        )
    ring, settings.ENCRYPTION_KEYS = settings.ENCRYPTION_KEYS, KeyRing.parse(f"other:{'0' * 64}")

    def mend():
        settings.ENCRYPTION_KEYS = ring

    return mend


def stripe_event(outcome, minutes):
    def come(world):
        with scope(SERVICE):
            row = StripeEvent.objects.create(
                pk="evt_1", type="space.launched", livemode=False, body={}, outcome=outcome, created=clock.now(),
                received_at=clock.now() - timedelta(minutes=minutes),
            )  # fmt: skip

        def mend():
            with scope(SERVICE):
                row.delete()

        return mend

    return come


CONDITIONS = {
    "stripe_parked": stripe_event("parked", 0),
    "stripe_waiting": stripe_event("", 10),
    "sealed_without_key": lost_ring,
    "holds_past_ttl": late_hold,
    "turns_not_reaped": lost_turn,
    "turns_interrupted": many_interrupted,
    "dead_letters": letter,
    "mails_unsent": unsent_mail,
    "balance_drift": drift,
}


@pytest.mark.parametrize("name", CONDITIONS)
def test_a_condition_that_becomes_true_is_told_once_and_once_when_it_is_over(world, caplog, name):
    look = {"balance_drift": prove_balances}.get(name, tasks.look_around)
    look()
    watch.look()
    assert told(caplog) == []
    assert mails() == []

    mend = CONDITIONS[name](world)
    for _ in range(3):
        look()
        watch.look()

    assert told(caplog) == [("alert", name)]
    assert [message.subject for message in mails()] == [f"[chatsite] {name} is true"]
    assert mails()[0].recipients() == ["ops@example.com"]
    assert state(name).since is not None
    assert state(name).value > 0

    mend()
    for _ in range(3):
        look()
        watch.look()

    assert told(caplog)[1:] == [("alert is over", name)]
    assert [message.subject for message in mails()][1:] == [f"[chatsite] {name} is over"]
    assert state(name).since is None


def test_the_queue_s_length_is_a_condition_too(world, caplog, monkeypatch):
    monkeypatch.setattr(watch, "MOST_QUEUED", -1)  # even an empty queue is then too long

    watch.look()
    watch.look()

    assert told(caplog) == [("alert", "queue_backlog")]


def test_a_webhook_that_works_and_lags_is_seen_by_those_who_look_and_mailed_to_nobody(world, caplog):
    """One that fails, is off, or is of a brand that is suspended is not: that is no trouble of the house."""
    now = clock.now()
    with scope(SERVICE):
        Reader.objects.update_or_create(pk=queueing.READER, defaults={"read_until": now})
        hook = WebhookEndpoint.objects.create(
            brand=world.act, name="Slow", url="https://hooks.example/", events=["*"], secret="whsec_x"
        )
        due = WebhookDelivery.objects.create(
            brand=world.act, webhook=hook, message_id=uuid7(), event_type="member.joined", event_data={},
            next_retry_at=now - timedelta(minutes=4),
        )  # fmt: skip
    rows = WebhookDelivery.objects.filter(pk=due.pk)
    watch.look()
    assert told(caplog) == []

    with scope(SERVICE):
        rows.update(next_retry_at=now - timedelta(minutes=20))
    for _ in range(2):
        watch.look()
    alice = Client(headers={"host": "act.localhost"})
    alice.force_login(world.alice)
    staff = Client(headers={"host": "act.localhost"})
    staff.force_login(world.staff)

    assert told(caplog) == [("alert", "webhooks_lag")]
    assert mails() == []
    lag = state("webhooks_lag")
    assert 900 < lag.value < 1500
    assert str(hook.pk) in lag.detail
    assert "Late" in alice.get("/manage/webhooks/").content.decode()
    assert "Deliveries arrive late" in alice.get(f"/manage/webhooks/{hook.pk}/").content.decode()
    shown = staff.get("/admin/events/webhookendpoint/?o=9").content.decode()
    assert 'class="field-waits_since nowrap"' in shown
    for nobodys in ({"failing_since": now}, {"is_active": False}):
        with scope(SERVICE):
            WebhookEndpoint.objects.update(**nobodys)
        watch.look()
        assert state("webhooks_lag").since is None
        with scope(SERVICE):
            WebhookEndpoint.objects.update(failing_since=None, is_active=True)
        assert lagging.worst().webhook_id == hook.pk
    with scope(SERVICE):
        rows.update(next_retry_at=now + timedelta(hours=1))
        Reader.objects.filter(pk=queueing.READER).update(read_until=now - timedelta(minutes=6))
    watch.look()
    assert (state("webhooks_lag").since is not None, state("webhooks_lag").detail) == (True, watch.NOBODY_SENDS)
    with scope(SERVICE):
        world.act.is_active = False
        world.act.save(update_fields=["is_active"])
    assert lagging.worst().late_s == 0


def test_staff_see_what_is_wrong_and_send_a_dead_letter_again(world, monkeypatch):
    """O-13"""
    sent = []
    monkeypatch.setattr("celery.current_app.send_task", lambda *task, **how: sent.append((*task, how["headers"])))
    laid = dead_letters.lay_down("billing.tasks.push_plan", ["1"], {}, reason="failed", error=ValueError("it broke"))
    alarms.report("dead_letters", 1)
    client = Client(headers={"host": "act.localhost"})
    client.force_login(world.staff)

    assert "dead_letters" in client.get("/admin/events/alarm/").content.decode()
    assert "it broke" in client.get("/admin/events/deadletter/").content.decode()
    again = {"action": "send_again", "_selected_action": [str(laid.pk)]}
    for _ in range(2):
        assert client.post("/admin/events/deadletter/", again).status_code == 302

    assert sent == [("billing.tasks.push_plan", ["1"], {}, {"request_id": ""})]
    assert dead_letters.lying() == 0


def test_a_request_s_id_leads_staff_to_its_turn_and_on_to_holds_entries_and_messages(world):
    """O-16"""
    reservation = uuid7()
    hold(world, reservation)
    asked = turn(world, pk=reservation, request_id="request-4711")
    client = Client(headers={"host": "act.localhost"})
    client.force_login(world.staff)

    listed = client.get("/admin/conversations/turn/?q=request-4711").content.decode()
    page = client.get(f"/admin/conversations/turn/{asked.pk}/change/").content.decode()
    holds = client.get(f"/admin/quotas/hold/?q={asked.pk}").content.decode()

    assert "1 turn" in listed
    assert f"/admin/quotas/hold/?q={asked.pk}" in page
    assert f"/admin/conversations/message/?q={asked.pk}" in page
    assert "queries" in holds
    for wanted in ("request-4711", str(asked.pk)):
        said = StringIO()
        call_command("trace", wanted, stdout=said)
        assert f"turn: id {asked.pk}, status pending, request_id request-4711" in said.getvalue()
        assert "hold: meter queries, amount 1" in said.getvalue()
    with pytest.raises(CommandError, match="Nothing here was done for nobody-knows"):
        call_command("trace", "nobody-knows")


def test_the_turn_page_shows_nothing_that_was_said(world):
    chat = factories.make_conversation(world.act, world.bob, "canary in the title")
    asked = turn(world, conversation=chat, partial="canary in the answer", sent={"params": {"stop": "canary"}})
    client = Client(headers={"host": "act.localhost"})
    client.force_login(world.staff)

    for address in ("/admin/conversations/turn/", f"/admin/conversations/turn/{asked.pk}/change/"):
        answer = client.get(address)
        assert answer.status_code == 200
        assert "canary" not in answer.content.decode()
