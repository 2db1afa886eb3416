"""Packs are bought once and taken back only as far as they are left; a refund is another line, never an edit."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from lib.db import SERVICE, scope
from lib.errors import Invalid
from quotas import ledger
from quotas.errors import QuotaExceeded
from quotas.models import Account, Entry, Pack
from quotas.standing import standings
from tests.factories import member
from tests.quotas.proofs import ask, balance, entitle, numbers, pack, prove, together
from tests.quotas.test_pockets import PRICE, on_plan, pay, spent

NOON = datetime(2030, 6, 12, 12, tzinfo=UTC)
FIVE_DOLLARS = 5_000_000


def take_back(bought, amount):
    return ledger.take_back_pack(bought, amount=amount, reason="refunded", actor_id=None)


def owed(world):
    with scope(SERVICE):
        return Account.objects.get(kind="user", owner_id=world.bob.pk, brand=world.act).arrears_microusd


def test_one_source_gives_one_pack_however_often_and_at_once_it_is_asked(live_world):
    """Two tabs, a webhook and its replays: twenty at once."""
    world = live_world

    outcomes = together(20, lambda _: pack(world.act, world.bob, 100, source="checkout:cs_1"))

    assert len({one.pk for one in outcomes}) == 1
    assert balance(outcomes[0]) == (100, 0, 0)
    with scope(SERVICE):
        assert Pack.objects.count() == 1
    prove(world)


def test_one_source_never_gives_two_members_a_pack(world):
    pack(world.act, world.bob, 100, source="checkout:cs_1")

    with pytest.raises(Invalid, match="nothing is given twice"):
        pack(world.act, world.alice, 100, source="checkout:cs_1")
    pack(world.globex, world.charlie, 7, source="checkout:cs_1")  # another brand's till counts for itself

    prove(world)


@pytest.mark.parametrize(
    "fields",
    [
        {"amount": 0},
        {"amount": -5},
        {"amount": 10**15 + 1},
        {"price": -1},
        {"meter": "overage_microusd"},
        {"meter": "gold"},
        {"source": " "},
        {"expires_at": NOON},
    ],
    ids=str,
)
def test_a_pack_that_makes_no_sense_is_refused(world, fields):
    fields = {"amount": 5, "now": NOON} | fields

    with pytest.raises(Invalid):
        pack(world.act, world.bob, fields.pop("amount"), **fields)

    with scope(SERVICE):
        assert not Pack.objects.exists()


def test_a_whole_pack_is_taken_back_and_can_be_used_no_more(world):
    on_plan(world, 0, features={})
    bought = pack(world.act, world.bob, 100, price=FIVE_DOLLARS, now=NOON)

    assert take_back(bought, 100) == ledger.TakenBack(100, 0)

    assert balance(bought) == (0, 0, 0)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)
    assert take_back(bought, 100) == ledger.TakenBack(0, 0), "it is all taken back"
    prove(world)


def test_what_was_used_of_a_pack_whose_money_went_back_is_owed(world):
    """Q-19: the pack never goes below nothing, history stays, and overage waits until nothing is owed."""
    on_plan(world, 0)
    bought = pack(world.act, world.bob, 10, price=FIVE_DOLLARS, now=NOON)
    for _ in range(3):
        pay(world)
    held = ask(world.act, world.bob, now=NOON)
    with scope(SERVICE):
        before = list(Entry.objects.filter(kind="use").order_by("pk").values())

    assert take_back(bought, 10) == ledger.TakenBack(6, 2_000_000)

    assert (balance(bought), owed(world)) == ((4, 3, 1), 2_000_000)
    with scope(SERVICE):
        uses = Entry.objects.filter(kind="use").exclude(bucket__pocket="arrears").order_by("pk")
        assert list(uses.values()) == before, "history is untouched"
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)
    ledger.settle(held, amounts={"queries": 1, "tokens": 1}, now=NOON)
    assert balance(bought) == (4, 4, 0)
    clear(world, 1_999_999)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)
    clear(world, 1)
    assert pay(world) == "overage"
    with pytest.raises(Invalid, match=r"\$0.00 is owed"):
        clear(world, 1)
    prove(world)


def clear(world, microusd):
    return ledger.clear_arrears(world.act, world.bob.pk, amount_microusd=microusd, reason="paid by card")


def test_halves_taken_back_come_to_the_whole(world):
    on_plan(world, 0, features={})
    bought = pack(world.act, world.bob, 3, price=1_000_000, now=NOON)
    for _ in range(3):
        pay(world)

    for _ in range(4):
        take_back(bought, 1)

    assert owed(world) == 1_000_002  # each third rounded up to the micro-dollar, and not a fourth
    prove(world)


def test_taking_back_while_questions_begin_and_end_never_overdraws(live_world):
    """Q-19 under concurrency."""
    world = live_world
    on_plan(world, 0, features={})
    bought = pack(world.act, world.bob, 20, price=FIVE_DOLLARS, now=NOON)

    def act(number):
        if number % 4 == 0:
            return take_back(bought, 3)
        return ledger.settle(ask(world.act, world.bob, now=NOON), amounts={"queries": 1, "tokens": 1}, now=NOON)

    outcomes = together(24, act)

    assert not [one for one in outcomes if isinstance(one, Exception) and not isinstance(one, QuotaExceeded)]
    cut = sum(one.units for one in outcomes if isinstance(one, ledger.TakenBack))
    used = outcomes.count(True)
    assert balance(bought) == (20 - cut, used, 0)
    assert owed(world) == (18 - cut) * 250_000
    prove(world)


def test_a_use_is_given_back_once_by_another_line(live_world):
    """Q-19, refund of one answer: ten at once give back one."""
    world = live_world
    on_plan(world, 0)
    reservation = ask(world.act, world.bob, now=NOON)
    ledger.settle(reservation, amounts={"queries": 1, "tokens": 1}, now=NOON)
    with scope(SERVICE):
        use = Entry.objects.get(reservation=reservation, bucket__pocket="overage")

    outcomes = together(10, lambda _: ledger.reverse(use.pk, reason="wrong answer", actor_id=None))

    assert len({line.pk for line in outcomes}) == 1
    assert (outcomes[0].used_delta, outcomes[0].rate) == (-PRICE, PRICE)
    assert spent(world)[1:] == (0, 0)
    with pytest.raises(Invalid, match="Only a use that was charged"):
        ledger.reverse(outcomes[0].pk, reason="again", actor_id=None)
    assert ask(world.act, world.bob, reservation=reservation, now=NOON) == reservation, "it is no new question"
    prove(world)


def test_what_is_given_back_below_a_limit_that_sank_is_not_asked_again(world):
    on_plan(world, 5)
    for _ in range(5):
        pay(world)
    on_plan(world, 2, features={})
    with scope(SERVICE):
        use = Entry.objects.filter(kind="use", bucket__owner_id=world.bob.pk).first()

    ledger.reverse(use.pk, reason="wrong answer", actor_id=None)

    assert numbers(world.act, world.bob.pk, "queries") == (2, 4, 0)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)
    prove(world)


def test_the_database_itself_refuses_a_second_pack_of_one_source(world):
    first = pack(world.act, world.bob, 1, source="checkout:cs_1")
    other = pack(world.act, world.bob, 1, source="checkout:cs_2")

    with scope(SERVICE), pytest.raises(IntegrityError), transaction.atomic(using="service"):
        Pack.objects.filter(pk=other.pk).update(source=first.source)


# Overrides: one member's other limit, until a date.


def let(world, limit, *, until=NOON + timedelta(days=3), now=NOON, **fields):
    fields = {"meter": "queries", "reason": "a rough week", "actor_id": world.staff.pk} | fields
    return ledger.override(world.act, world.bob.pk, limit=limit, until=until, now=now, **fields)


def test_an_override_counts_at_once_and_ends_by_itself(world):
    """Q-18: no job has to run; whoever asks first finds the plan's limit again."""
    on_plan(world, 1, features={})
    pay(world)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)

    let(world, 3, until=NOON + timedelta(hours=2))

    assert numbers(world.act, world.bob.pk, "queries") == (3, 1, 0)
    held = ask(world.act, world.bob, now=NOON + timedelta(hours=2, seconds=-1))
    with pytest.raises(QuotaExceeded) as refused:
        ask(world.act, world.bob, now=NOON + timedelta(hours=2))
    assert (refused.value.extra["limit"], refused.value.extra["left"]) == (1, 0)
    ledger.settle(held, amounts={"queries": 1, "tokens": 1}, now=NOON + timedelta(hours=3))
    assert numbers(world.act, world.bob.pk, "queries") == (1, 2, 0)
    tomorrow = NOON + timedelta(days=1)
    ask(world.act, world.bob, now=tomorrow)
    assert numbers(world.act, world.bob.pk, "queries", at=tomorrow) == (1, 0, 1)
    prove(world)


def test_standings_say_what_an_override_allows_before_and_after_anybody_asked(world):
    on_plan(world, 1, features={})
    over = NOON + timedelta(hours=2)
    let(world, 3, until=over)

    def limit(now):
        with scope(member(world.act, world.bob)):
            (row,) = standings(world.act, kind="user", owner_id=world.bob.pk, now=now)
        return row.limit, row.left

    assert [limit(NOON), limit(over)] == [(3, 3), (1, 1)], "before the window is open"
    pay(world)
    assert [limit(NOON), limit(over)] == [(3, 2), (1, 0)], "while the bucket still has the override's limit"
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=over)
    assert limit(over) == (1, 0)
    prove(world)


def test_an_override_survives_a_change_of_plan_in_the_plans_window(world):
    on_plan(world, 1, features={})
    let(world, 50)

    entitle(world.act, world.bob, ("queries", "month", 2), now=NOON)

    ask(world.act, world.bob, queries=50, now=NOON)
    assert numbers(world.act, world.bob.pk, "queries", window="month") == (50, 0, 50)
    later = NOON + timedelta(days=4)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=later)
    assert numbers(world.act, world.bob.pk, "queries", window="month") == (2, 0, 50)
    prove(world)


def test_another_override_takes_the_place_of_the_first_and_both_stay_on_record(world):
    on_plan(world, 1, features={})
    first = let(world, 50)

    let(world, None)

    for _ in range(9):
        ask(world.act, world.bob, now=NOON)
    with scope(SERVICE):
        first.refresh_from_db()
        account = Account.objects.get(kind="user", owner_id=world.bob.pk, brand=world.act)
        assert (first.ends_at, first.overrides_until, first.reason) == (NOON, None, "a rough week")
        assert account.entitlements.exclude(reason="").count() == 2
    prove(world)


@pytest.mark.parametrize(
    "fields",
    [{"limit": -1}, {"limit": 10**16}, {"until": NOON}, {"reason": " "}, {"meter": "tokens"}],
    ids=str,
)
def test_an_override_that_makes_no_sense_is_refused(world, fields):
    on_plan(world, 1)

    with pytest.raises(Invalid):
        let(world, **{"limit": 5} | fields)

    assert pay(world) == "plan"
    prove(world)
