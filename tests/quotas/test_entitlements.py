"""What billing pushes down, what staff add, and what a change does to a window that is open."""

from datetime import UTC, datetime, timedelta

import pytest

from lib.db import SERVICE, scope
from lib.errors import Invalid
from quotas import ledger
from quotas.errors import QuotaExceeded
from quotas.models import Entitlement, Entry
from quotas.standing import standings
from tests.quotas.proofs import ask, bucket, entitle, numbers, prove

NOON = datetime(2030, 6, 12, 12, tzinfo=UTC)
POOL = 2_000_000


def test_entitle_twice_writes_nothing_the_second_time(world):
    entitle(world.act, world.bob, ("queries", "day", 5), now=NOON)
    ask(world.act, world.bob, now=NOON)
    with scope(SERVICE):
        before = Entitlement.objects.count(), Entry.objects.count()

    entitle(world.act, world.bob, ("queries", "day", 5), now=NOON)

    with scope(SERVICE):
        assert (Entitlement.objects.count(), Entry.objects.count()) == before
    prove(world)


def test_a_larger_plan_counts_at_once_and_keeps_what_was_used(world):
    entitle(world.act, world.bob, ("queries", "day", 2), now=NOON)
    for _ in range(2):
        ask(world.act, world.bob, now=NOON)

    entitle(world.act, world.bob, ("queries", "day", 3), now=NOON)

    ask(world.act, world.bob, now=NOON)
    assert numbers(world.act, world.bob.pk, "queries") == (3, 0, 3)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)
    prove(world)


def test_a_downgrade_below_what_is_used_and_held_only_refuses_new_questions(world):
    """Q-18"""
    entitle(world.act, world.bob, ("queries", "day", 40), now=NOON)
    turns = [ask(world.act, world.bob, now=NOON) for _ in range(25)]
    for turn in turns[:5]:
        ledger.settle(turn, amounts={"queries": 1, "tokens": 1}, now=NOON)

    entitle(world.act, world.bob, ("queries", "day", 15), now=NOON)

    assert numbers(world.act, world.bob.pk, "queries") == (15, 5, 20)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)
    for turn in turns[5:]:
        assert ledger.settle(turn, amounts={"queries": 1, "tokens": 1}, now=NOON)
    assert numbers(world.act, world.bob.pk, "queries") == (15, 25, 0)
    tomorrow = NOON + timedelta(days=1)
    ask(world.act, world.bob, now=tomorrow)
    assert numbers(world.act, world.bob.pk, "queries", at=tomorrow) == (15, 0, 1)
    prove(world)


def test_what_turns_in_flight_give_back_after_a_downgrade_is_nobodys(world):
    """Q-18: twenty held, fifteen in the new plan, and all twenty void: fifteen are left, not twenty."""
    entitle(world.act, world.bob, ("queries", "day", 40), now=NOON)
    turns = [ask(world.act, world.bob, now=NOON) for _ in range(20)]
    entitle(world.act, world.bob, ("queries", "day", 15), now=NOON)
    assert bucket(world.act, world.bob.pk, "queries").excess == 5
    for turn in turns[:6]:
        ledger.settle(turn, amounts={}, now=NOON)
    assert bucket(world.act, world.bob.pk, "queries").excess == 0
    ask(world.act, world.bob, now=NOON)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)

    for turn in turns[6:]:
        ledger.settle(turn, amounts={}, now=NOON)

    assert numbers(world.act, world.bob.pk, "queries") == (15, 0, 1)
    prove(world)


@pytest.mark.parametrize(("first", "then"), [(None, 5), (5, None), (0, 5), (5, 0), (None, 0)])
def test_a_plan_may_gain_and_lose_its_limit_in_mid_window(world, first, then):
    entitle(world.act, world.bob, ("queries", "day", first or None if first is None else max(first, 1)), now=NOON)
    ask(world.act, world.bob, now=NOON)

    entitle(world.act, world.bob, ("queries", "day", then), now=NOON)

    assert numbers(world.act, world.bob.pk, "queries") == (then, 0, 1)
    prove(world)


def test_going_back_to_a_plan_finds_its_old_bucket_as_it_was_left(world):
    """free -> pro -> free: ten for life are ten for life."""
    for _ in range(4):
        ledger.settle(ask(world.act, world.bob), amounts={"queries": 1, "tokens": 1})
    entitle(world.act, world.bob, ("queries", "day", 40))
    ask(world.act, world.bob)

    entitle(world.act, world.bob, ("queries", "lifetime", 10))
    ask(world.act, world.bob)

    assert numbers(world.act, world.bob.pk, "queries", window="lifetime") == (10, 4, 1)
    prove(world)


def test_a_meter_that_the_new_plan_lacks_counts_no_more(world):
    entitle(world.act, world.bob, ("queries", "day", 5), ("tokens", "day", 500), now=NOON)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, tokens=501, now=NOON)

    entitle(world.act, world.bob, ("queries", "day", 5), now=NOON)

    ask(world.act, world.bob, tokens=501, now=NOON)
    assert numbers(world.act, world.bob.pk, "tokens") == (500, 0, 0)
    prove(world)


def test_months_of_a_subscription_run_from_its_anchor(world):
    """Q-16 at the ledger"""
    anchor = datetime(2031, 1, 31, 10, tzinfo=UTC)
    entitle(world.act, world.bob, ("queries", "month", 1), anchor_at=anchor, now=anchor)
    ask(world.act, world.bob, now=anchor)
    with pytest.raises(QuotaExceeded) as refused:
        ask(world.act, world.bob, now=datetime(2031, 2, 28, 9, 59, 59, tzinfo=UTC))
    assert refused.value.extra["resets_at"] == "2031-02-28T10:00:00+00:00"

    ask(world.act, world.bob, now=datetime(2031, 2, 28, 10, tzinfo=UTC))

    with pytest.raises(QuotaExceeded) as refused:
        ask(world.act, world.bob, now=datetime(2031, 3, 31, 9, tzinfo=UTC))
    assert refused.value.extra["resets_at"] == "2031-03-31T10:00:00+00:00"
    prove(world)


def test_a_new_anchor_leaves_the_open_window_and_its_limit_moves_at_once(world):
    """Q-18"""
    entitle(world.act, world.bob, ("queries", "month", 2), now=NOON)
    ask(world.act, world.bob, now=NOON)

    entitle(world.act, world.bob, ("queries", "month", 4), anchor_at=NOON, now=NOON)

    later = datetime(2030, 6, 30, 23, tzinfo=UTC)
    for _ in range(3):
        ask(world.act, world.bob, now=later)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=later)
    assert numbers(world.act, world.bob.pk, "queries", window="month") == (4, 0, 4)
    ask(world.act, world.bob, now=datetime(2030, 7, 1, tzinfo=UTC))
    prove(world, zone_was_changed=True)  # the anchored window reaches back over the calendar one that was left


def test_top_up_raises_the_open_window_and_is_written_down(world):
    ledger.top_up(world.act, meter="tokens", amount=500, reason=" goodwill ", actor_id=world.staff.pk, now=NOON)

    assert numbers(world.act, world.act.pk, "tokens") == (POOL + 500, 0, 0)
    with scope(SERVICE):
        entry = Entry.objects.get(kind="top_up")
        assert (entry.limit_delta, entry.reason, entry.actor_id) == (500, "goodwill", world.staff.pk)
    ask(world.act, world.bob, tokens=POOL + 500, now=NOON)
    prove(world)


def test_a_top_up_ends_with_its_window(world):
    ledger.top_up(world.act, meter="tokens", amount=500, reason="goodwill", now=NOON)
    july = datetime(2030, 7, 1, tzinfo=UTC)

    ask(world.act, world.bob, now=july)

    assert bucket(world.act, world.act.pk, "tokens", at=july).limit == POOL
    assert bucket(world.act, world.act.pk, "tokens", at=NOON).limit == POOL + 500
    prove(world)


@pytest.mark.parametrize("pool", [3_000_000, 1_000_000, None])
def test_a_top_up_survives_a_change_of_plan(world, pool):
    ledger.top_up(world.act, meter="tokens", amount=500, reason="goodwill", now=NOON)

    for limit in (pool, POOL):
        ledger.entitle(
            world.act,
            kind="brand",
            owner_id=world.act.pk,
            grants=[ledger.Grant("tokens", "month", limit)],
            now=NOON,
        )
        assert numbers(world.act, world.act.pk, "tokens")[0] == (None if limit is None else limit + 500)
        prove(world)


@pytest.mark.parametrize(
    ("meter", "amount", "reason", "words"),
    [
        ("tokens", 0, "why", "above 0"),
        ("tokens", -5, "why", "above 0"),
        ("tokens", 5, "  ", "needs a reason"),
        ("queries", 5, "why", "no limit of queries"),
        ("nonsense", 5, "why", "no limit of nonsense"),
    ],
)
def test_a_top_up_that_makes_no_sense_is_refused_in_words(world, meter, amount, reason, words):
    with pytest.raises(Invalid, match=words):
        ledger.top_up(world.act, meter=meter, amount=amount, reason=reason)
    prove(world)


def test_a_pool_without_a_limit_cannot_be_raised(world):
    ledger.entitle(
        world.act, kind="brand", owner_id=world.act.pk, grants=[ledger.Grant("tokens", "month", None)], now=NOON
    )

    with pytest.raises(Invalid, match="no limit of tokens that could be raised"):
        ledger.top_up(world.act, meter="tokens", amount=5, reason="why", now=NOON)
    prove(world)


def test_standings_say_what_reserve_will_do(world):
    entitle(world.act, world.bob, ("queries", "day", 4), ("tokens", "lifetime", None), now=NOON)

    def standing():
        with scope(SERVICE):
            return {row.meter: row for row in standings(world.act, kind="user", owner_id=world.bob.pk, now=NOON)}

    assert (standing()["queries"].left, standing()["queries"].percent) == (4, 0), "before the first question"
    done = ask(world.act, world.bob, tokens=70, now=NOON)
    ask(world.act, world.bob, tokens=5, now=NOON)
    ledger.settle(done, amounts={"queries": 1, "tokens": 60}, now=NOON)

    queries, tokens = standing()["queries"], standing()["tokens"]
    assert (queries.limit, queries.used, queries.held, queries.left, queries.percent) == (4, 1, 1, 2, 50)
    assert queries.resets_at == datetime(2030, 6, 13, tzinfo=UTC)
    assert (tokens.limit, tokens.used, tokens.held, tokens.left, tokens.percent) == (None, 60, 5, None, 0)
    assert tokens.resets_at is None
