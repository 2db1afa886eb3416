"""All pockets and all kinds of accounts at once, on real log-ins: nothing is oversold, nothing hangs.

`SOAK_PARALLEL=500` lets each of the 500 have a thread of its own.
"""

import os
import random
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest

from lib.db import SERVICE, scope
from lib.ids import uuid7
from quotas import ledger
from quotas.errors import QuotaExceeded, TooManyRunning
from quotas.models import Bucket, Hold
from tests.quotas.proofs import ask, asked, balance, entitle, numbers, pack, prove, together
from tests.quotas.test_pockets import BILLED, CAP, PRICE, on_plan, spent
from tests.quotas.test_races import accepted

NOON = datetime(2030, 6, 12, 12, tzinfo=UTC)
PARALLEL = int(os.environ.get("SOAK_PARALLEL", "50"))
BESIDE = ("visitor", "network", "agent")


@pytest.mark.timeout(300)
def test_of_five_hundred_at_once_ten_dollars_pay_for_exactly_four_hundred(crowd):
    """Q-21"""
    on_plan(crowd, 0)

    def five_hundredth(number):
        got = 0
        for _ in range(500 // PARALLEL):
            try:
                reservation, pocket = asked(crowd.act, crowd.bob, tokens=1, now=NOON)
            except QuotaExceeded:
                continue
            assert pocket == "overage"
            got += 1
            if number % 2:
                ledger.settle(reservation, amounts={"queries": 1, "tokens": 1}, now=NOON)
        return got

    outcomes = accepted(together(PARALLEL, five_hundredth))

    assert sum(outcomes) == 400
    limit, used, held = spent(crowd)
    assert (limit, used + held) == (CAP, CAP)
    prove(crowd)


def test_at_the_end_of_the_plan_fifty_at_once_get_what_each_pocket_has(crowd):
    """Q-02 with pockets: one is left in the plan, two in packs, two below the cap."""
    on_plan(crowd, 4, features=BILLED | {"overage_cap_microusd": 3 * PRICE - 1})
    packs = [
        pack(crowd.act, crowd.bob, 1, now=NOON),
        pack(crowd.act, crowd.bob, 1, expires_at=NOON + timedelta(1), now=NOON),
    ]
    for _ in range(3):
        ledger.settle(ask(crowd.act, crowd.bob, now=NOON), amounts={"queries": 1, "tokens": 1}, now=NOON)

    outcomes = accepted(together(50, lambda _: asked(crowd.act, crowd.bob, now=NOON)[1]))

    assert Counter(outcomes) == {"plan": 1, "pack": 2, "overage": 2}
    assert [balance(one) for one in packs] == [(1, 0, 1), (1, 0, 1)]
    assert spent(crowd) == (3 * PRICE - 1, 0, 2 * PRICE)
    prove(crowd)


def test_the_first_questions_beyond_the_plan_open_the_month_once(crowd):
    on_plan(crowd, 0)

    outcomes = accepted(together(30, lambda _: asked(crowd.act, crowd.bob, now=NOON)[1]))

    assert outcomes == ["overage"] * 30
    with scope(SERVICE):
        assert Bucket.objects.get(pocket="overage").held == 30 * PRICE
    prove(crowd)


def beside(world, limits):
    """Accounts of the three other kinds, each with so many questions a day."""
    ids = {kind: uuid7() for kind in BESIDE}
    for kind, limit in limits.items():
        grants = [ledger.Grant("queries", "day", limit)]
        ledger.entitle(world.act, kind=kind, owner_id=ids[kind], grants=grants, now=NOON)
    return ids


def entitle_brand(world, queries):
    grants = [ledger.Grant("queries", "day", queries), ledger.Grant("tokens", "month", 10**9)]
    ledger.entitle(world.act, kind="brand", owner_id=world.act.pk, grants=grants, now=NOON)


def test_accounts_of_all_five_kinds_hold_and_settle_together(crowd):
    """Whoever is named in whichever order: no deadlock, no account oversold, each has what its questions came to."""
    ids = beside(crowd, {"visitor": 25, "network": 30, "agent": 35})
    entitle_brand(crowd, 200)
    people = [crowd.alice, crowd.bob]
    for user in people:
        entitle(crowd.act, user, ("queries", "day", 60), now=NOON)

    def live(number):
        rng, held = random.Random(number), []
        for _ in range(12):
            user = rng.choice(people)
            also = rng.sample([(kind, ids[kind]) for kind in BESIDE], rng.randrange(4))
            try:
                reservation, _ = asked(crowd.act, user, tokens=5, also=also, now=NOON)
            except QuotaExceeded:
                continue
            accounts = [user.pk, crowd.act.pk, *(owner for _, owner in also)]
            end = rng.choice(["open", "void", "charged"])
            if end != "open":
                amounts = {"queries": 1, "tokens": 5} if end == "charged" else {}
                assert ledger.settle(reservation, amounts=amounts, now=NOON)
            held.append((end, accounts))
        return held

    turns = [turn for done in accepted(together(16, live)) for turn in done]

    for owner_id in (crowd.alice.pk, crowd.bob.pk, crowd.act.pk, *ids.values()):
        mine = Counter(end for end, accounts in turns if owner_id in accounts)
        assert numbers(crowd.act, owner_id, "queries")[1:] == (mine["charged"], mine["open"])
    assert all(numbers(crowd.act, ids[kind], "queries")[1] for kind in BESIDE), "an account was never asked"
    prove(crowd)


@pytest.mark.parametrize("short", ["visitor", "network", "agent", "brand", "user"])
def test_a_refusal_by_any_one_account_holds_nothing_on_the_others(world, short):
    """Also not in a pack or in overage."""
    ids = beside(world, {kind: 0 if kind == short else 5 for kind in BESIDE})
    entitle_brand(world, 0 if short == "brand" else 5)
    on_plan(world, 0, features=BILLED | {"overage_allowed": short != "user"})

    with pytest.raises(QuotaExceeded) as refused:
        asked(world.act, world.bob, also=list(ids.items()), now=NOON)

    assert refused.value.extra["reason"] == f"{short}_queries_not_included"
    with scope(SERVICE):
        assert not Hold.objects.exists()
        assert not Bucket.objects.exclude(held=0).exists()
    prove(world)


def test_an_account_beside_has_no_cap_of_answers_at_once_but_its_own(world, settings):
    settings.CONCURRENT_TURNS = {"member": 9, "brand": 9}
    ids = beside(world, {"network": None})
    agent = uuid7()
    grants = [ledger.Grant("queries", "day", None)]
    ledger.entitle(world.act, kind="agent", owner_id=agent, grants=grants, features={"concurrent_turns": 2}, now=NOON)
    on_plan(world, 9)
    also = [("agent", agent), ("network", ids["network"])]
    for _ in range(2):
        asked(world.act, world.bob, also=also, now=NOON)

    with pytest.raises(TooManyRunning) as refused:
        asked(world.act, world.bob, also=also, now=NOON)

    assert refused.value.extra["reason"] == "agent_concurrent_turns"
    asked(world.act, world.bob, also=also[1:], now=NOON)
    prove(world)


def test_a_visitor_asks_with_the_own_account_the_network_and_the_brand(world):
    """A visitor is an asker like a member; what a plan says of overage means nothing without a payment method."""
    ids = beside(world, {"visitor": 2, "network": 1})
    entitle_brand(world, 9)
    asking = {"asker": ("visitor", ids["visitor"]), "also": [("network", ids["network"])], "now": NOON}

    assert ledger.reserve(world.act, amounts={"queries": 1}, reservation=uuid7(), **asking) == "plan"

    with pytest.raises(QuotaExceeded) as refused:
        ledger.reserve(world.act, amounts={"queries": 1}, reservation=uuid7(), **asking)
    assert refused.value.extra["reason"] == "network_queries_used_up"
    assert [numbers(world.act, ids[kind], "queries")[2] for kind in ("visitor", "network")] == [1, 1]
    prove(world)
