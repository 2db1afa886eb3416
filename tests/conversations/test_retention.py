"""How long chats are kept: by the plan and the brand as they are at that moment, in the brand's own night."""

import json
from datetime import UTC, datetime, timedelta
from io import StringIO
from threading import Thread

import pytest
from django.core.management import call_command
from django.db import connections

from accounts.models import Brand, Visitor
from billing.models import Plan
from billing.plans import assign_plan
from conversations.chats import reading, retention
from conversations.chats.retention import Keeping
from conversations.models import Conversation, Message, Turn
from lib import clock
from lib.db import SERVICE, scope
from lib.errors import NotFound
from tests.factories import make_conversation, make_member, make_user, member
from tests.lib.locks import wait_for_a_lock
from tests.quotas.proofs import prove

DAY = timedelta(days=1)


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "now", "swept"),
    [
        ("UTC", "2026-11-21T02:00", "2026-11-21T02:00"),
        ("UTC", "2026-11-21T01:59", "2026-11-20T02:00"),
        ("Asia/Kathmandu", "2026-11-20T20:15", "2026-11-20T20:15"),  # +05:45
        # Amsterdam, spring: 02:00 does not come, the clocks go from 02:00 to 03:00 at 01:00 UTC; autumn: it comes twice
        ("Europe/Amsterdam", "2026-03-29T00:59", "2026-03-28T01:00"),
        ("Europe/Amsterdam", "2026-03-29T01:00", "2026-03-29T01:00"),
        ("Europe/Amsterdam", "2026-03-30T00:00", "2026-03-30T00:00"),
        ("Europe/Amsterdam", "2026-10-25T00:00", "2026-10-25T00:00"),
        ("Europe/Amsterdam", "2026-10-25T01:00", "2026-10-25T00:00"),
        ("Europe/Amsterdam", "2026-10-26T00:30", "2026-10-25T00:00"),
        ("America/Toronto", "2026-03-08T07:00", "2026-03-08T07:00"),
        ("Pacific/Apia", "2011-12-31T12:00", "2011-12-31T12:00"),  # the day before was left out
    ],
)
def test_the_night_of_each_zone_has_one_sweep(zone, now, swept):
    """C8: 02:00 where the brand is, once a night, also where the clocks change at that hour."""
    assert retention.sweeps_at(zone, at(now)) == at(swept)


def test_a_chat_is_told_the_last_day_on_which_it_is_there():
    class Chat:
        deleted_at = pinned_at = None
        last_message_at = at("2026-11-03T15:00")

    chat = Chat()
    for plan, brand, zone, told in [
        (30, None, "UTC", "Kept until 3 December, Basic plan."),
        (30, 90, "UTC", "Kept until 3 December, Basic plan."),
        (90, 30, "UTC", "Kept until 3 December."),
        (30, None, "Pacific/Auckland", "Kept until 4 December, Basic plan."),
        (None, None, "UTC", "Kept until you delete it."),
        (0, 30, "Europe/Amsterdam", "Can be read until 4 November, 16:00 CET. Chats are not kept longer on your plan."),
    ]:
        assert retention.words(Keeping(plan, brand, "Basic", zone), chat) == told
        end = retention.ends_at(Keeping(plan, brand, "Basic", zone), chat.last_message_at)
        assert end is None or plan == 0 or retention.sweeps_at(zone, end) == end, "it ends with a sweep"
    chat.last_message_at = at("2026-11-03T01:00")
    assert retention.words(Keeping(30, None, "", "UTC"), chat) == "Kept until 2 December."
    chat.pinned_at = at("2026-11-04T00:00")
    assert retention.words(Keeping(30, None, "Basic", "UTC"), chat) == "Kept while it is pinned."
    chat.deleted_at = at("2026-11-03T15:00")
    assert retention.words(Keeping(None, None, "", "UTC"), chat) == "In the bin until 3 December."
    assert retention.words(Keeping(7, None, "Basic", "UTC"), chat) == "In the bin until 3 December."
    chat.pinned_at = None
    assert retention.words(Keeping(7, None, "Basic", "UTC"), chat) == "In the bin until 9 November."


def make_old(brand, user, days, **fields):
    chat = make_conversation(brand, user, said=[("user", "What was said"), ("assistant", "and answered")])
    with scope(SERVICE):
        Conversation.objects.filter(pk=chat.pk).update(last_message_at=clock.now() - days * DAY, **fields)
    return chat


def left():
    with scope(SERVICE):
        return set(Conversation.objects.filter(brand__slug__in=["act", "globex"]).values_list("pk", flat=True))


def set_plan(brand, user, code):
    with scope(SERVICE):
        assign_plan(brand, Plan.objects.get(brand=brand, code=code), user_id=user.pk)


def set_brand(brand, **fields):
    with scope(SERVICE):
        Brand.objects.filter(pk=brand.pk).update(**fields)
        brand.refresh_from_db()


def test_the_sweep_deletes_what_is_over_and_nothing_that_is_not(world):
    """C8, S1: 0, 30 and 90 days; the shorter of plan and brand; pinned ones, answers that run, and what is used stay."""
    pro, basic, free = world.alice, make_user("dora@example.com"), world.bob  # 90, 30 and 0 days
    make_member(world.act, basic, plan="basic")
    now = clock.now()
    keep = {
        make_old(world.act, pro, 89).pk,
        make_old(world.act, pro, 200, pinned_at=now).pk,
        make_old(world.act, basic, 29).pk,
        make_old(world.act, free, 0.9).pk,
        make_old(world.act, free, 3, pinned_at=now).pk,
        make_old(world.act, pro, 1, deleted_at=now - 29 * DAY).pk,
        make_old(world.globex, world.charlie, 89).pk,
    }
    over = {
        make_old(world.act, pro, 92),
        make_old(world.act, basic, 32),
        make_old(world.act, basic, 32, archived_at=now),
        make_old(world.act, free, 1.1),
        make_old(world.act, pro, 1, deleted_at=now - 32 * DAY, pinned_at=now),
        make_old(world.globex, world.charlie, 92),
    }
    running = make_old(world.act, basic, 40)
    with scope(SERVICE):
        turn = Turn.objects.create(
            brand=world.act, owner_id=basic.pk, conversation=running, provider_id=world.demo.pk, heartbeat_at=now
        )
        gone = make_old_visitor(world.act, 1.1)
        keep |= {make_old_visitor(world.act, 0.9), running.pk}
    counted = json.loads(said("--dry-run"))
    assert counted["deleted"] == 7
    assert counted["brands"]["act"] == {"retention": 4, "visitors": 1, "bin": 1}
    assert len(left()) == len(keep) + 7, "a dry run deletes nothing"

    assert json.loads(said())["brands"] == counted["brands"]

    assert left() == keep
    with scope(SERVICE):
        assert not Message.objects.filter(conversation_id__in=[*(chat.pk for chat in over), gone]).exists()
        Turn.objects.filter(pk=turn.pk).update(status="done")
    assert json.loads(said())["deleted"] == 1, "it was kept for its answer only"
    assert json.loads(said())["deleted"] == 0, "twice changes nothing"

    set_brand(world.act, retention_days=20)
    assert json.loads(said())["brands"] == {"act": {"retention": 2}}, "the brand's 20 days are shorter than both plans'"
    set_brand(world.act, retention_days=0)
    said()
    with scope(SERVICE):
        kept = Conversation.objects.filter(brand=world.act, owner_kind="user", pinned_at=None, deleted_at=None)
        assert not kept.filter(last_message_at__lt=now - DAY).exists()


def make_old_visitor(brand, days):
    visitor = Visitor.objects.create(brand=brand)
    chat = Conversation.objects.create(
        brand=brand, owner_id=visitor.pk, owner_kind="visitor", visitor_id=visitor.pk, title="x",
        last_message_at=clock.now() - days * DAY,
    )  # fmt: skip
    return chat.pk


def said(*options):
    told = StringIO()
    call_command("cleanup_expired_conversations", "--json", *options, stdout=told)
    return told.getvalue()


def test_another_plan_and_another_message_move_the_end_and_a_run_that_was_missed_is_made_up(world):
    """MISSION: nothing is stored that a change would have to rewrite."""
    set_brand(world.act, zone="Europe/Amsterdam")
    chat = make_old(world.act, world.alice, 0)
    with scope(SERVICE):
        Conversation.objects.filter(pk=chat.pk).update(last_message_at=at("2026-02-27T01:30"))
    set_plan(world.act, world.alice, "basic")  # 30 days: over on 29 March at 01:30 UTC, after the sweep of that night
    for now in ("2026-03-29T01:00", "2026-03-29T23:59"):
        retention.sweep(at(now))
        assert chat.pk in left()
    set_plan(world.act, world.alice, "pro")
    retention.sweep(at("2026-04-02T12:00"))
    assert chat.pk in left(), "90 days are in force"
    set_plan(world.act, world.alice, "basic")
    with scope(SERVICE):
        Conversation.objects.filter(pk=chat.pk).update(last_message_at=at("2026-02-27T01:00"))

    assert retention.sweep(at("2026-03-29T00:59")) == {}
    assert retention.sweep(at("2026-03-29T05:00"))["act"] == {"retention": 1}, "at 01:00 UTC, or as soon as it runs"


def test_what_is_kept_for_no_days_is_read_for_a_day_by_its_address_and_is_in_no_list(world):
    """S1 free: no history. The page says until when."""
    fresh, old = make_old(world.act, world.bob, 0.9), make_old(world.act, world.bob, 1.1)
    pinned = make_old(world.act, world.bob, 5, pinned_at=clock.now())
    bob = member(world.act, world.bob)
    with scope(bob):
        assert reading.conversation(bob, fresh.pk)
        assert reading.conversation(bob, pinned.pk)
        with pytest.raises(NotFound):
            reading.conversation(bob, old.pk)
        assert set(reading.own(bob).filter(retention.listed(bob)).values_list("pk", flat=True)) == {pinned.pk}
    alice = member(world.act, world.alice)
    kept = make_old(world.act, world.alice, 80)
    with scope(alice):
        assert reading.conversation(alice, kept.pk)
        assert reading.own(alice).filter(retention.listed(alice)).count() == 1


@pytest.mark.django_db(transaction=True)
def test_a_message_or_a_pin_that_comes_while_the_sweep_deletes_wins(live_world):
    """Its row is locked by who writes; the deleting statement looks at it again, as it is then. Usage is proved after."""
    world = live_world
    spoken, pinned, _ = (make_old(world.act, world.alice, 100) for _ in range(3))
    alice = member(world.act, world.alice)
    swept = []

    def sweep():
        try:
            swept.append(retention.sweep())
        finally:
            connections.close_all()

    with scope(alice):
        Conversation.objects.filter(pk=spoken.pk).update(last_message_at=clock.now())
        Conversation.objects.filter(pk=pinned.pk).update(pinned_at=clock.now())
        other = Thread(target=sweep)
        other.start()
        wait_for_a_lock()
    other.join()

    assert swept == [{"act": {"retention": 1}}]
    assert left() == {spoken.pk, pinned.pk}
    prove(None)
