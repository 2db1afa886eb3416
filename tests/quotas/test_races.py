"""Races on real log-ins, with the pool: what two people do at once ends as if they had done it one after the other."""

import random
from datetime import UTC, datetime

import pytest

from lib.db import SERVICE, scope
from lib.ids import uuid7
from quotas import ledger
from quotas.errors import QuotaExceeded
from quotas.models import Bucket, Entry, Hold
from tests.quotas.proofs import ask, entitle, numbers, prove, together

NOON = datetime(2030, 6, 12, 12, tzinfo=UTC)
POOL = 2_000_000


def accepted(outcomes):
    unexpected = [one for one in outcomes if isinstance(one, Exception) and not isinstance(one, QuotaExceeded)]
    assert not unexpected, unexpected[:3]
    return [one for one in outcomes if not isinstance(one, Exception)]


@pytest.mark.parametrize("threads", [50, 200])
def test_at_one_below_the_limit_exactly_one_of_many_is_accepted(crowd, threads):
    """Q-02, M1"""
    for _ in range(9):
        ledger.settle(ask(crowd.act, crowd.bob), amounts={"queries": 1, "tokens": 1})

    outcomes = together(threads, lambda _: ask(crowd.act, crowd.bob))

    assert len(accepted(outcomes)) == 1
    refusal = next(one for one in outcomes if isinstance(one, QuotaExceeded))
    assert (refusal.extra["meter"], refusal.extra["limit"], refusal.extra["left"]) == ("queries", 10, 0)
    assert numbers(crowd.act, crowd.bob.pk, "queries") == (10, 9, 1)
    assert numbers(crowd.act, crowd.act.pk, "tokens") == (POOL, 9, 1000)
    prove(crowd)


def test_the_very_first_questions_at_once_open_each_window_once(crowd):
    """The windows of the members and of the brand do not exist yet: no deadlock, no second bucket."""
    people = [crowd.alice, crowd.bob]

    outcomes = together(40, lambda number: ask(crowd.act, people[number % 2], now=NOON))

    assert len(accepted(outcomes)) == 10 + 20  # bob is on free: 10
    with scope(SERVICE):
        assert Bucket.objects.filter(brand=crowd.act).count() == 3
    prove(crowd)


def test_one_reservation_made_by_fifty_at_once_is_held_once_and_nobody_is_refused(crowd):
    """Q-12: also when it takes the last that is left."""
    entitle(crowd.act, crowd.bob, ("queries", "lifetime", 1))
    reservation = uuid7()

    outcomes = together(50, lambda _: ask(crowd.act, crowd.bob, reservation=reservation))

    assert outcomes == [reservation] * 50
    assert numbers(crowd.act, crowd.bob.pk, "queries") == (1, 0, 1)
    assert numbers(crowd.act, crowd.act.pk, "tokens") == (POOL, 0, 1000)
    prove(crowd)


def test_one_reservation_settled_by_many_at_once_is_charged_once(crowd):
    """Q-05"""
    reservation = ask(crowd.act, crowd.bob)

    outcomes = together(
        30,
        lambda number: ledger.settle(reservation, amounts={} if number % 3 == 0 else {"queries": 1, "tokens": number}),
    )

    assert sorted(outcomes) == [False] * 29 + [True]
    winner = outcomes.index(True)
    assert numbers(crowd.act, crowd.act.pk, "tokens") == (POOL, winner if winner % 3 else 0, 0)
    prove(crowd)


def test_a_reservation_repeated_while_it_is_settled_is_never_charged_twice(crowd):
    """Q-12: the late repeat may find the hold gone; the hold's id, made of turn and bucket, still says "once"."""
    reservations = [uuid7() for _ in range(12)]

    def turn(number):
        for reservation in reservations:
            ask(crowd.act, crowd.alice, tokens=10, reservation=reservation)
            ledger.settle(reservation, amounts={"queries": 1, "tokens": 10})

    assert together(8, turn) == [None] * 8
    assert numbers(crowd.act, crowd.alice.pk, "queries") == (40, 12, 0)
    assert numbers(crowd.act, crowd.act.pk, "tokens") == (POOL, 120, 0)
    prove(crowd)


def test_two_members_hammer_the_pool_of_their_brand_from_sixteen_threads(crowd):
    """No deadlock, no overspending, and the sums are exact."""
    for user in (crowd.alice, crowd.bob):
        entitle(crowd.act, user, ("queries", "day", None), ("tokens", "day", None), now=NOON)
    charged = [0] * 16

    def hammer(number):
        rng = random.Random(number)
        user = (crowd.alice, crowd.bob)[number % 2]
        for _ in range(20):
            try:
                reservation = ask(crowd.act, user, tokens=rng.randrange(1, 60_000), now=NOON)
            except QuotaExceeded:
                continue
            if rng.random() < 0.2:
                ledger.settle(reservation, amounts={}, now=NOON)
            else:
                tokens = rng.randrange(1, 30_000)
                with scope(SERVICE):
                    held = Hold.objects.filter(reservation=reservation, meter="tokens").first().amount
                ledger.settle(reservation, amounts={"queries": 1, "tokens": tokens}, now=NOON)
                charged[number] += min(tokens, held)

    assert together(16, hammer) == [None] * 16
    assert numbers(crowd.act, crowd.act.pk, "tokens") == (POOL, sum(charged), 0)
    own = [numbers(crowd.act, user.pk, "tokens")[1] for user in (crowd.alice, crowd.bob)]
    assert own == [sum(charged[0::2]), sum(charged[1::2])]
    assert sum(charged) > POOL / 2, "the pool was hardly touched"
    prove(crowd)


def test_the_limit_moves_while_twenty_turns_are_in_flight(crowd):
    """Q-18"""
    entitle(crowd.act, crowd.bob, ("queries", "day", 30), ("tokens", "day", 10**6), now=NOON)
    flying = [ask(crowd.act, crowd.bob, now=NOON) for _ in range(20)]

    def act(number):
        if number < 20:
            return ledger.settle(flying[number], amounts={"queries": 1, "tokens": 100}, now=NOON)
        if number < 26:
            limit = (10, 25, 40)[number % 3]
            return entitle(crowd.act, crowd.bob, ("queries", "day", limit), ("tokens", "day", limit * 1000), now=NOON)
        return ask(crowd.act, crowd.bob, tokens=1, now=NOON)

    outcomes = together(36, act)
    accepted(outcomes)

    assert outcomes[:20] == [True] * 20, "what is in flight settles"
    entitle(crowd.act, crowd.bob, ("queries", "day", 21), ("tokens", "day", 10**6), now=NOON)
    limit, used, _ = numbers(crowd.act, crowd.bob.pk, "queries")
    assert (limit, used) == (21, 20)
    prove(crowd)


def test_no_window_opens_with_the_limit_of_the_plan_that_was_just_left(crowd):
    """Q-18: entitle() and the first question of the window at the same moment."""
    for day in range(1, 9):
        now = datetime(2030, 7, day, 12, tzinfo=UTC)
        entitle(crowd.act, crowd.bob, ("queries", "day", 5), now=now)

        def act(number, now=now, day=day):
            if number == 3:
                return entitle(crowd.act, crowd.bob, ("queries", "day", 100 + day), now=now)
            return ask(crowd.act, crowd.bob, now=now)

        accepted(together(6, act))
        assert numbers(crowd.act, crowd.bob.pk, "queries", at=now)[0] == 100 + day
    prove(crowd)


def test_expired_holds_are_given_back_once_while_turns_settle_and_begin(crowd):
    """INV10, and no deadlock between the sweep and the turns of a whole brand."""
    entitle(crowd.act, crowd.bob, ("queries", "day", None), now=NOON)
    old = [ask(crowd.act, (crowd.alice, crowd.bob)[number % 2], now=NOON) for number in range(30)]
    late = NOON.replace(minute=30)

    def act(number):
        if number < 4:
            return ledger.void_expired(late)
        if number < 20:
            return ledger.settle(old[number], amounts={"queries": 1, "tokens": 7}, now=late) and "charged"
        return ask(crowd.act, (crowd.alice, crowd.bob)[number % 2], now=late)

    outcomes = together(32, act)
    accepted(outcomes)

    charged = outcomes.count("charged")
    assert sum(outcomes[:4]) + charged == 30
    assert numbers(crowd.act, crowd.act.pk, "tokens")[1] == 7 * charged
    with scope(SERVICE):
        assert not Hold.objects.filter(reservation__in=old).exists()
        assert Entry.objects.filter(reservation__in=old, kind="use").count() == 60
    prove(crowd, now=late)


def test_top_ups_and_spending_at_once_add_up(crowd):
    for _ in range(2):
        ask(crowd.act, crowd.alice, tokens=POOL // 2, now=NOON)

    def act(number):
        if number % 2:
            return ledger.top_up(crowd.act, meter="tokens", amount=1000, reason=f"number {number}", now=NOON)
        return ask(crowd.act, crowd.alice, tokens=1000, now=NOON)

    outcomes = accepted(together(20, act))

    asked = len(outcomes) - 10
    assert numbers(crowd.act, crowd.act.pk, "tokens") == (POOL + 10_000, 0, POOL + 1000 * asked)
    prove(crowd)


def test_the_house_is_charged_once_by_two_who_finish_the_same_turn(crowd):
    reservation = uuid7()

    together(8, lambda _: ledger.charge_house(crowd.act.pk, tokens=50, reservation=reservation))

    with scope(SERVICE):
        assert Bucket.objects.get(pocket="house").used == 50
    prove(crowd)
