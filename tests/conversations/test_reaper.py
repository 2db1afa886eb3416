"""Whom the reaper takes for dead, and what happens when it meets somebody who only slept."""

import threading
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.db.models import F
from django.utils import timezone

from conversations.engine import beginning, reaper
from conversations.engine.turns import Question
from conversations.models import Look, Turn
from lib.db import SERVICE, close_all, scope
from lib.errors import Conflict
from lib.ids import uuid7
from providers import offers
from quotas import ledger
from quotas.models import Bucket, Hold
from tests import factories
from tests.lib.locks import wait_for_a_lock
from tests.quotas.proofs import ask, entitle, numbers, prove


@pytest.fixture
def world(live_world):
    offers.forget()
    yield live_world
    offers.forget()
    prove(live_world)


@pytest.fixture
def alice(world):
    return factories.member(world.act, world.alice)


def run(work, *args, **kwargs):
    """Start `work` in a thread of its own; gives the thread and the list its outcome comes to."""
    outcome = []

    def keep():
        try:
            outcome.append(work(*args, **kwargs))
        except Exception as error:
            outcome.append(error)
        finally:
            close_all()

    thread = threading.Thread(target=keep)
    thread.start()
    return thread, outcome


@contextmanager
def locked(rows):
    """Some other session has these rows."""
    with scope(SERVICE):
        assert list(rows.select_for_update())
        yield


def held(reservation):
    with scope(SERVICE):
        return Hold.objects.filter(reservation=reservation).count()


def turns_of(person):
    with scope(SERVICE):
        return Turn.objects.filter(owner_id=person.owner_id).count()


def sleeping_after_its_hold(monkeypatch):
    """begin() stops between hold and turn until `wake` is set; gives that and the list of what it is about to store."""
    asleep, wake, ready, store = threading.Event(), threading.Event(), [], beginning._store

    def sleep(begun, question):
        ready.append(begun)
        asleep.set()
        assert wake.wait(30)
        store(begun, question)

    monkeypatch.setattr(beginning, "_store", sleep)
    return asleep, wake, ready


def test_who_wakes_after_his_hold_was_given_back_begins_nothing(world, alice, monkeypatch):
    asleep, wake, ready = sleeping_after_its_hold(monkeypatch)
    thread, outcome = run(beginning.begin, alice, world.act, Question(text="Late."), key="k")
    assert asleep.wait(30)
    reaper.give_back(ready[0].turn_id)
    wake.set()
    thread.join(30)

    assert isinstance(outcome[0], Conflict)
    assert turns_of(alice) == 0
    assert numbers(world.act, world.alice.pk, "queries")[1:] == (0, 0)


def test_who_wakes_while_his_hold_is_given_back_begins_nothing(world, alice, monkeypatch):
    """7b: the reaper has looked for the turn, and is about to take the hold."""
    asleep, wake, ready = sleeping_after_its_hold(monkeypatch)
    thread, outcome = run(beginning.begin, alice, world.act, Question(text="Late."))
    assert asleep.wait(30)
    with locked(Hold.objects.filter(reservation=ready[0].turn_id)):
        reaping, _ = run(reaper.give_back, ready[0].turn_id)
        wait_for_a_lock("transactionid")
        wake.set()
        wait_for_a_lock("advisory")
    thread.join(30)
    reaping.join(30)

    assert isinstance(outcome[0], Conflict)
    assert turns_of(alice) == 0
    assert numbers(world.act, world.alice.pk, "queries")[1:] == (0, 0)


def test_who_begins_while_the_reaper_comes_keeps_his_hold(world, alice, monkeypatch):
    """7b: the turn is being stored, and nobody can see it yet."""
    chat = factories.make_conversation(world.act, world.alice)
    asleep, wake, ready = sleeping_after_its_hold(monkeypatch)
    thread, outcome = run(beginning.begin, alice, world.act, Question(text="Now.", conversation_id=chat.pk))
    assert asleep.wait(30)
    with locked(type(chat).objects.filter(pk=chat.pk)):
        wake.set()
        wait_for_a_lock("transactionid")
        reaping, given_back = run(reaper.give_back, ready[0].turn_id)
        wait_for_a_lock("advisory")
    thread.join(30)
    reaping.join(30)

    assert outcome[0].turn_id == ready[0].turn_id
    assert given_back == [None]
    assert turns_of(alice) == 1
    assert held(ready[0].turn_id)
    assert numbers(world.act, world.alice.pk, "queries")[1:] == (0, 1)


def test_who_has_begun_keeps_his_hold(world, alice):
    begun = beginning.begin(alice, world.act, Question(text="Here."))

    reaper.give_back(begun.turn_id)

    assert held(begun.turn_id)


def test_a_hold_for_something_that_is_no_turn_is_left_alone(world, settings):
    settings.TURN_LOST_AFTER_S = 0
    entitle(world.act, world.bob, ("queries", "day", 5), ("tokens", "month", 5000))
    forgotten, export = ask(world.act, world.bob), uuid7()
    asker = ("user", world.bob.pk)
    ledger.reserve(world.act, asker=asker, amounts={"queries": 1}, reservation=export, purpose="export")

    assert reaper.reap() == 1
    assert (held(forgotten) > 0, held(export) > 0) == (False, True)
    assert ledger.settle(export, amounts={"queries": 1})


@pytest.mark.parametrize("is_expired", [False, True])
def test_a_hold_that_cannot_be_given_back_keeps_no_other_from_it(world, settings, is_expired, caplog):
    """Settling it would leave less than nothing held, which a CHECK refuses."""
    settings.TURN_LOST_AFTER_S = 0
    for person in (world.alice, world.bob):
        entitle(world.act, person, ("queries", "day", 5))
    purpose = "export" if is_expired else "turn"
    stuck, *others = [uuid7() for _ in range(3)]
    for reservation, person in ((stuck, world.alice), (others[0], world.bob), (others[1], world.bob)):
        asker = ("user", person.pk)
        ledger.reserve(world.act, asker=asker, amounts={"queries": 1}, reservation=reservation, purpose=purpose)
    if is_expired:
        with scope(SERVICE):
            Hold.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    with scope(SERVICE):
        own = Bucket.objects.get(account__owner_id=world.alice.pk, meter="queries")
        Bucket.objects.filter(pk=own.pk).update(held=0)

    assert reaper.reap() == (0 if is_expired else 2)
    assert (held(stuck) > 0, [held(one) for one in others]) == (True, [0, 0])
    assert str(stuck) in caplog.text

    with scope(SERVICE):
        Bucket.objects.filter(pk=own.pk).update(held=1)
    assert reaper.reap() == (0 if is_expired else 1)
    assert not held(stuck)


def silent_since(begun, seconds):
    with scope(SERVICE):
        Turn.objects.filter(pk=begun.turn_id).update(heartbeat_at=timezone.now() - timedelta(seconds=seconds))


def looked(seconds_ago, *, blind=(0, 0)):
    """The reaper's last look, and its last time of blindness, in seconds before now."""
    at = [timezone.now() - timedelta(seconds=before) for before in (seconds_ago, *blind)]
    with scope(SERVICE):
        names = dict(zip(("seen_at", "blind_from", "blind_until"), at, strict=True))
        Look.objects.update_or_create(pk=1, defaults=names)


@pytest.mark.parametrize(
    ("silent", "seen", "blind", "is_lost"),
    [
        (16, 4, (0, 0), True),
        (14, 4, (0, 0), False),
        (64, 63, (0, 0), False),  # the database was away for a minute, and this is the first look after it
        (64, 3, (63, 3), False),
        (64, 3, (63, 8), False),
        (80, 3, (77, 13), True),  # silent before and after, 16 s together
        (30, 3, (90, 31), True),  # blind before it fell silent
        (3600, 3, (3599, 3580), True),
    ],
)
def test_a_turn_is_lost_when_it_could_have_told_for_fifteen_seconds(world, alice, silent, seen, blind, is_lost):
    """O-01, Q-10"""
    begun = beginning.begin(alice, world.act, Question(text="Is anybody there?"))
    silent_since(begun, silent)
    looked(seen, blind=blind)

    assert reaper.reap() == int(is_lost)


def test_a_worker_that_looks_seldom_still_ends_what_is_lost(world, alice):
    """Looks a minute apart: each is late, but only the last wait is taken off."""
    begun = beginning.begin(alice, world.act, Question(text="Is anybody there?"))
    outcomes = []
    for _ in range(3):
        outcomes.append(reaper.reap())
        with scope(SERVICE):
            minute = timedelta(minutes=1)
            Look.objects.update(
                seen_at=F("seen_at") - minute,
                blind_from=F("blind_from") - minute,
                blind_until=F("blind_until") - minute,
            )
            Turn.objects.filter(pk=begun.turn_id).update(heartbeat_at=F("heartbeat_at") - minute)
            Hold.objects.update(created_at=F("created_at") - minute)

    assert outcomes == [0, 0, 1]


def test_holds_do_not_expire_before_those_who_were_cut_off_could_settle_them(world, alice):
    """INV4, O-01: the database was away for longer than a hold lives; the runner has the answer and tries again."""
    begun = beginning.begin(alice, world.act, Question(text="Long ago."))
    with scope(SERVICE):
        Hold.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    looked(1200)
    silent_since(begun, 1201)

    assert reaper.reap() == 0
    assert held(begun.turn_id)


def test_looks_that_are_always_late_void_holds_all_the_same(world, alice):
    """A worker with much to do: each look comes ten seconds after the one before."""
    begun = beginning.begin(alice, world.act, Question(text="Long ago."))
    with scope(SERVICE):
        Hold.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    looked(10, blind=(20, 10))

    assert reaper.reap() == 0  # the turn lives
    assert not held(begun.turn_id)
