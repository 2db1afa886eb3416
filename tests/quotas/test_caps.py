"""Q-34: how many answers may run at once, for a member and for a brand: exact, whichever window, meter or process."""

from datetime import UTC, datetime, timedelta

import pytest

from lib.db import SERVICE, scope
from lib.errors import Invalid
from lib.ids import uuid7
from quotas import ledger
from quotas.errors import QuotaExceeded, TooManyRunning
from quotas.models import Hold
from tests.factories import make_member
from tests.quotas.proofs import ask, entitle, numbers, prove, together

NOON = datetime(2030, 6, 12, 12, tzinfo=UTC)
MIDNIGHT = NOON.replace(day=13, hour=0)


@pytest.fixture(autouse=True)
def _caps(settings):
    settings.CONCURRENT_TURNS = {"member": 3, "brand": 5}


def let_ask(world, *users):
    for user in users:
        entitle(world.act, user, ("queries", "day", None), ("tokens", "month", None), now=NOON)


def running(brand, owner_id) -> int:
    with scope(SERVICE):
        return Hold.objects.filter(brand=brand, owner_id=owner_id).values("reservation").distinct().count()


def test_a_member_may_have_so_many_answers_running_and_is_told_how_many(world):
    """Also where the plan has no limit at all; what is refused holds nothing."""
    let_ask(world, world.bob)
    held = [ask(world.act, world.bob, now=NOON) for _ in range(3)]

    with pytest.raises(TooManyRunning) as refused:
        ask(world.act, world.bob, now=NOON)

    assert refused.value.status == 429
    told = {"reason": "user_concurrent_turns", "limit": 3, "retry_after": 5}
    assert refused.value.extra == told | {"requires_payment": False, "ways": ["wait"]}
    assert refused.value.detail.startswith("You have 3 answers running, which is all you may have at once.")
    assert "stop one" in refused.value.detail
    assert numbers(world.act, world.bob.pk, "queries") == (None, 0, 3)
    assert running(world.act, world.act.pk) == 3
    ledger.settle(held[0], amounts={"queries": 1, "tokens": 5}, now=NOON)
    ask(world.act, world.bob, now=NOON)
    prove(world)


def test_a_brand_may_have_so_many_answers_running_over_all_its_members(world):
    make_member(world.act, world.charlie)
    people = [world.alice, world.bob, world.charlie]
    let_ask(world, *people)
    for number in range(5):
        ask(world.act, people[number % 3], now=NOON)

    with pytest.raises(TooManyRunning) as refused:
        ask(world.act, world.charlie, now=NOON)

    assert refused.value.extra["reason"] == "brand_concurrent_turns"
    assert refused.value.detail.startswith("This brand has 5 answers running")
    assert running(world.act, world.charlie.pk) == 1
    prove(world)


def test_the_same_person_is_counted_on_each_brand_alone(world):
    make_member(world.globex, world.bob)
    let_ask(world, world.bob)
    entitle(world.globex, world.bob, ("queries", "day", None), now=NOON)
    for _ in range(3):
        ask(world.act, world.bob, now=NOON)

    ask(world.globex, world.bob, now=NOON)

    prove(world)


def test_what_billing_pushes_down_for_an_account_wins_over_the_default(world):
    """And a reservation that was made is not refused when it is asked for again."""
    grants = [("queries", "day", None)]
    entitle(world.act, world.bob, *grants, features={"concurrent_turns": 1}, now=NOON)
    only = ask(world.act, world.bob, now=NOON)
    assert ask(world.act, world.bob, now=NOON, reservation=only) == only
    with pytest.raises(TooManyRunning, match="You have one answer running"):
        ask(world.act, world.bob, now=NOON)

    entitle(world.act, world.bob, *grants, features={"concurrent_turns": 4}, now=NOON)

    for _ in range(3):
        ask(world.act, world.bob, now=NOON)
    with pytest.raises(TooManyRunning):
        ask(world.act, world.bob, now=NOON)
    for wrong in (0, -1, "5", 1.5, True, 10**9):
        with pytest.raises(Invalid, match="concurrent_turns must be a whole number"):
            entitle(world.act, world.bob, *grants, features={"concurrent_turns": wrong}, now=NOON)


def test_zero_in_the_settings_is_no_cap(world, settings):
    settings.CONCURRENT_TURNS = {"member": 0, "brand": 0}
    let_ask(world, world.bob)
    for _ in range(8):
        ask(world.act, world.bob, now=NOON)


def test_who_has_nothing_left_hears_that_and_not_that_too_many_run(world):
    """Waiting would not help."""
    entitle(world.act, world.bob, ("queries", "day", 3), now=NOON)
    for _ in range(3):
        ask(world.act, world.bob, now=NOON)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)


def test_answers_of_yesterdays_window_and_of_the_plan_before_are_still_counted(world):
    let_ask(world, world.bob)
    for _ in range(2):
        ask(world.act, world.bob, now=MIDNIGHT - timedelta(seconds=1))
    entitle(world.act, world.bob, ("messages", "month", 500), now=MIDNIGHT)
    reservation = uuid7()
    amounts = {"messages": 1, "tokens": 10}
    ledger.reserve(world.act, asker=("user", world.bob.pk), amounts=amounts, reservation=reservation, now=MIDNIGHT)

    with pytest.raises(TooManyRunning):
        ledger.reserve(world.act, asker=("user", world.bob.pk), amounts=amounts, reservation=uuid7(), now=MIDNIGHT)


def test_sixty_at_once_get_exactly_as_many_as_the_caps_let_through(live_world):
    """Three members of one brand, on both sides of midnight, so that not two of them need share a bucket."""
    world = live_world
    make_member(world.act, world.charlie)
    people = [world.alice, world.bob, world.charlie]
    let_ask(world, *people)
    ledger.entitle(
        world.act, kind="brand", owner_id=world.act.pk, grants=[ledger.Grant("tokens", "day", None)], now=NOON
    )

    for round_number in range(4):
        times = [MIDNIGHT - timedelta(seconds=1), MIDNIGHT + timedelta(seconds=1)]

        def one(number, times=times):
            return ask(world.act, people[number % 3], now=times[number // 3 % 2])

        outcomes = together(60, one)

        unexpected = [one for one in outcomes if isinstance(one, Exception) and not isinstance(one, TooManyRunning)]
        assert not unexpected, unexpected[:3]
        held = [one for one in outcomes if not isinstance(one, Exception)]
        assert len(held) == 5, f"round {round_number}"
        assert running(world.act, world.act.pk) == 5
        assert max(running(world.act, user.pk) for user in people) <= 3
        outcomes = together(
            5, lambda number, held=held: ledger.settle(held[number], amounts={"queries": 1, "tokens": 1})
        )
        assert outcomes == [True] * 5
    prove(world)


def test_answers_that_begin_and_end_in_sixteen_threads_never_exceed_the_cap(live_world):
    """Sampled from outside while it goes on; and nobody is refused when there is room."""
    world = live_world
    let_ask(world, world.alice, world.bob)
    over, seen, refused = [], set(), []

    def one(number):
        if number == 0:
            for _ in range(150):
                alice, brand = running(world.act, world.alice.pk), running(world.act, world.act.pk)
                seen.add(brand)
                if alice > 3 or brand > 5:
                    over.append((alice, brand))
            return
        for _ in range(25):
            try:
                reservation = ask(world.act, (world.alice, world.bob)[number % 2], now=NOON)
            except TooManyRunning:
                refused.append(number)
            else:
                assert ledger.settle(reservation, amounts={"queries": 1, "tokens": 1}, now=NOON)

    assert together(17, one) == [None] * 17
    assert not over
    assert refused
    assert max(seen) >= 2, "nothing ran at once, so nothing was shown"
    assert running(world.act, world.act.pk) == 0
    used = numbers(world.act, world.act.pk, "tokens")[1]
    assert used == 16 * 25 - len(refused)
    prove(world)
