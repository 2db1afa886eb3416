"""Who pays for one question: the plan, a pack, overage, one's own key; always exactly one of them."""

from datetime import UTC, datetime, timedelta

import pytest

from lib.db import SERVICE, scope
from lib.errors import Invalid
from quotas import ledger
from quotas.errors import QuotaExceeded, TooManyRunning
from quotas.models import Account, Bucket, Entry, Hold
from tests.factories import member
from tests.quotas.proofs import ask, asked, balance, bucket, entitle, numbers, pack, prove

NOON = datetime(2030, 6, 12, 12, tzinfo=UTC)
TOMORROW = NOON + timedelta(days=1)
PRICE, CAP = 25_000, 10_000_000
BILLED = {
    "overage_allowed": True,
    "overage_by_default": True,
    "overage_price_microusd": PRICE,
    "overage_cap_microusd": CAP,
    "is_billable": True,
}


def on_plan(world, queries, *, features=BILLED, now=NOON, **fields):
    return entitle(world.act, world.bob, ("queries", "day", queries), features=features, now=now, **fields)


def spent(world, **which):
    """Limit, used and held of this month's overage, in micro-dollars."""
    return numbers(world.act, world.bob.pk, "overage_microusd", pocket="overage", **which)


def pay(world, **fields):
    """Ask and settle one question; returns the pocket that paid."""
    reservation, pocket = asked(world.act, world.bob, now=NOON, **fields)
    assert ledger.settle(reservation, amounts={"queries": 1, "tokens": 9}, now=NOON)
    return pocket


def test_the_plan_pays_first_then_the_packs_by_their_end_then_overage_then_nobody(world):
    """Q-20: soonest end first, those without one last, the oldest of them first."""
    on_plan(world, 1, features=BILLED | {"overage_cap_microusd": 2 * PRICE})
    forever_later = pack(world.act, world.bob, 1, now=NOON)
    forever = pack(world.act, world.bob, 1, now=NOON - timedelta(days=9))
    next_week = pack(world.act, world.bob, 1, expires_at=NOON + timedelta(days=7), now=NOON)
    next_hour = pack(world.act, world.bob, 1, expires_at=NOON + timedelta(hours=1), now=NOON)

    assert pay(world) == "plan"
    for one in (next_hour, next_week, forever, forever_later):
        assert balance(one) == (1, 0, 0)
        assert pay(world) == "pack"
        assert balance(one) == (1, 1, 0)
    assert [pay(world), pay(world)] == ["overage", "overage"]
    with pytest.raises(QuotaExceeded) as refused:
        ask(world.act, world.bob, now=NOON)

    assert refused.value.extra["reason"] == "plan_cap_reached"
    assert numbers(world.act, world.bob.pk, "queries") == (1, 1, 0)
    assert spent(world) == (2 * PRICE, 2 * PRICE, 0)
    prove(world)


def test_one_question_is_never_split_over_two_pockets(world):
    """Three units: two are left in the plan, two in a pack, and six in another, which pays for all three."""
    on_plan(world, 2, features={})
    small, large = pack(world.act, world.bob, 2, now=NOON), pack(world.act, world.bob, 6, now=NOON)

    assert asked(world.act, world.bob, queries=3, now=NOON)[1] == "pack"

    assert numbers(world.act, world.bob.pk, "queries") == (2, 0, 0)
    assert (balance(small), balance(large)) == ((2, 0, 0), (6, 0, 3))
    prove(world)


def test_a_pack_stands_for_the_unit_of_the_plan_only_and_every_other_meter_needs_room(world):
    """An account that counts messages (S3): a pack of queries is no help, and tokens must be in the plan."""
    entitle(
        world.act, world.bob, ("messages", "day", 0), ("tokens", "day", 50), features={"unit": "messages"}, now=NOON
    )
    asking = {"asker": ("user", world.bob.pk), "now": NOON}
    pack(world.act, world.bob, 5, now=NOON)
    with pytest.raises(QuotaExceeded):
        ledger.reserve(world.act, amounts={"messages": 1, "tokens": 9}, reservation=member_id(1), **asking)
    pack(world.act, world.bob, 5, meter="messages", now=NOON)
    pack(world.act, world.bob, 500, meter="tokens", now=NOON)
    with pytest.raises(QuotaExceeded) as refused:
        ledger.reserve(world.act, amounts={"messages": 1, "tokens": 51}, reservation=member_id(2), **asking)
    assert refused.value.extra["reason"] == "user_tokens_used_up"

    pocket = ledger.reserve(world.act, amounts={"messages": 1, "tokens": 50}, reservation=member_id(3), **asking)

    assert pocket == "pack"
    with scope(SERVICE):
        assert set(Hold.objects.values_list("meter", "bucket__pocket", "amount")) == {
            ("messages", "pack", 1),
            ("tokens", "plan", 50),
        }
    prove(world)


def member_id(number):
    return f"00000000-0000-7000-8000-{number:012}"


@pytest.mark.parametrize(
    "features",
    [
        {"overage_allowed": False},
        {"overage_by_default": False},
        {"is_billable": False},
        {"overage_price_microusd": 0},
        {"overage_price_microusd": None},
        {"overage_cap_microusd": None},
        {"overage_cap_microusd": PRICE - 1},
    ],
    ids=lambda features: ",".join(f"{name}={value}" for name, value in features.items()),
)
def test_without_any_one_of_its_conditions_there_is_no_overage(world, features):
    on_plan(world, 0, features=BILLED | features)

    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)

    assert numbers(world.act, world.act.pk, "tokens", at=NOON)[2] == 0
    prove(world)


def test_overage_is_charged_for_what_arrived_and_nothing_else(world):
    on_plan(world, 0)
    void, half, whole = (ask(world.act, world.bob, queries=2, now=NOON) for _ in range(3))
    assert spent(world) == (CAP, 0, 6 * PRICE)

    ledger.settle(void, amounts={}, now=NOON)
    ledger.settle(half, amounts={"queries": 1, "tokens": 5}, now=NOON)
    ledger.settle(whole, amounts={"queries": 10**17, "tokens": 5}, now=NOON)

    assert spent(world) == (CAP, 3 * PRICE, 0)
    with scope(SERVICE):
        charged = Entry.objects.filter(bucket__pocket="overage", kind="use").order_by("used_delta")
        assert [(line.used_delta, line.rate) for line in charged] == [(0, PRICE), (PRICE, PRICE), (2 * PRICE, PRICE)]
    prove(world)


def test_a_price_that_changes_in_mid_month_is_each_questions_own(world):
    on_plan(world, 0)
    first = ask(world.act, world.bob, now=NOON)
    on_plan(world, 0, features=BILLED | {"overage_price_microusd": 40_000})
    second = ask(world.act, world.bob, now=NOON)

    for reservation in (first, second):
        ledger.settle(reservation, amounts={"queries": 1, "tokens": 1}, now=NOON)

    assert spent(world) == (CAP, 65_000, 0)
    prove(world)


def test_the_month_of_overage_is_the_subscriptions(world):
    """Q-16: the anchor's day; what was spent stays in its month, and the next begins with the whole cap."""
    anchor = datetime(2030, 5, 31, 9, tzinfo=UTC)
    on_plan(world, 0, features=BILLED | {"overage_cap_microusd": PRICE}, anchor_at=anchor, now=anchor)
    last = datetime(2030, 6, 30, 8, 59, 59, tzinfo=UTC)
    ledger.settle(ask(world.act, world.bob, now=last), amounts={"queries": 1, "tokens": 1}, now=last)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=last)

    ask(world.act, world.bob, now=last + timedelta(seconds=1))

    assert spent(world, at=last) == (PRICE, PRICE, 0)
    assert spent(world, at=last + timedelta(seconds=1)) == (PRICE, 0, PRICE)
    prove(world)


def test_a_member_switches_overage_on_and_sets_a_cap_of_their_own(world):
    on_plan(world, 0, features=BILLED | {"overage_by_default": False})
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)

    choose(world, on=True, cap=2 * PRICE)

    assert [pay(world), pay(world)] == ["overage", "overage"]
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)
    choose(world, on=True, cap=None)
    held = ask(world.act, world.bob, now=NOON)
    choose(world, on=True, cap=PRICE)  # below what is spent: only what is new is refused
    assert spent(world) == (PRICE, 2 * PRICE, PRICE)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)
    ledger.settle(held, amounts={"queries": 1, "tokens": 1}, now=NOON)
    choose(world, on=True, cap=CAP)
    assert spent(world) == (CAP, 3 * PRICE, 0)
    choose(world, on=False, cap=CAP)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)
    prove(world)


def choose(world, *, on, cap):
    return ledger.set_overage(world.act, world.bob.pk, on=on, cap_microusd=cap, actor_id=world.bob.pk, now=NOON)


@pytest.mark.parametrize("cap", [-1, CAP + 1, 2**63])
def test_a_cap_that_is_none_is_refused_and_changes_nothing(world, cap):
    on_plan(world, 0)

    with pytest.raises(Invalid, match=r"from \$0.00 to \$10.00"):
        choose(world, on=True, cap=cap)

    with scope(SERVICE):
        assert not Account.objects.filter(overage_on=True).exists()


def test_a_plan_without_overage_has_nothing_to_switch_on(world):
    on_plan(world, 0, features={})

    with pytest.raises(Invalid, match="nothing to switch on"):
        choose(world, on=True, cap=None)
    choose(world, on=False, cap=None)


def test_with_an_own_key_nothing_is_charged_and_the_ledger_says_so(world, settings):
    """Q-27: even where the plan has nothing left; it still counts among the answers at once."""
    settings.CONCURRENT_TURNS = {"member": 2, "brand": 9}
    on_plan(world, 1)
    ask(world.act, world.bob, now=NOON)
    reservation, pocket = asked(world.act, world.bob, now=NOON, own_key=True)
    assert pocket == "own_key"
    assert asked(world.act, world.bob, now=NOON, own_key=True, reservation=reservation) == (reservation, "own_key")
    with pytest.raises(TooManyRunning):
        ask(world.act, world.bob, now=NOON)

    ledger.settle(reservation, amounts={"queries": 1, "tokens": 700}, cost_microusd=3, now=NOON)

    assert numbers(world.act, world.bob.pk, "queries") == (1, 0, 1)
    assert numbers(world.act, world.act.pk, "tokens", at=NOON)[1:] == (0, 1000)
    with scope(SERVICE):
        lines = Entry.objects.filter(reservation=reservation)
        assert {(line.used_delta, line.own_key) for line in lines} == {(0, True)}
    assert asked(world.act, world.bob, reservation=reservation, own_key=True)[1] == "own_key", (
        "settled, and asked again"
    )
    prove(world)


def test_an_own_key_works_below_a_limit_that_sank(world):
    on_plan(world, 9)
    for _ in range(3):
        ask(world.act, world.bob, now=NOON)
    on_plan(world, 1)

    assert asked(world.act, world.bob, now=NOON, own_key=True)[1] == "own_key"

    prove(world)


@pytest.mark.parametrize("pocket", ["plan", "pack", "overage"])
def test_a_repeat_names_the_pocket_that_was_held_or_charged(world, pocket):
    """Q-12"""
    on_plan(world, 1 if pocket == "plan" else 0)
    if pocket == "pack":
        pack(world.act, world.bob, 1, now=NOON)
    first = asked(world.act, world.bob, now=NOON)
    assert first[1] == pocket

    assert asked(world.act, world.bob, now=NOON, reservation=first[0]) == first
    ledger.settle(first[0], amounts={"queries": 1, "tokens": 1}, now=NOON)
    assert asked(world.act, world.bob, now=NOON, reservation=first[0]) == first

    prove(world)


def test_a_pack_that_ends_while_a_question_runs_pays_for_it_and_for_nothing_after(world):
    """Q-20"""
    on_plan(world, 0, features={})
    ends = NOON + timedelta(minutes=1)
    bought = pack(world.act, world.bob, 5, expires_at=ends, now=NOON)
    reservation = ask(world.act, world.bob, now=NOON)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=ends)

    ledger.settle(reservation, amounts={"queries": 1, "tokens": 1}, now=ends + timedelta(minutes=2))

    assert balance(bought) == (5, 1, 0)
    prove(world)


def test_a_lifetime_counter_beyond_32_bits_goes_on_into_a_pack_and_overage(world):
    """Q-25"""
    almost = 2_147_483_640
    entitle(world.act, world.bob, ("queries", "lifetime", almost), features=BILLED, now=NOON)
    ledger.settle(ask(world.act, world.bob, queries=almost, now=NOON), amounts={"queries": almost, "tokens": 1})
    large = pack(world.act, world.bob, 2**40, now=NOON)

    assert pay(world) == "pack"
    ledger.settle(ask(world.act, world.bob, queries=2**33, now=NOON), amounts={"queries": 2**33, "tokens": 1})

    assert numbers(world.act, world.bob.pk, "queries") == (almost, almost, 0)
    assert balance(large) == (2**40, 2**33 + 1, 0)
    prove(world)


def test_ten_dollars_are_exactly_four_hundred_questions(world):
    """Q-21: 400 accepted, the 401st refused."""
    on_plan(world, 0)
    for queries in [39] * 10 + [1] * 10:
        reservation, pocket = asked(world.act, world.bob, queries=queries, tokens=9, now=NOON)
        assert pocket == "overage"
        ledger.settle(reservation, amounts={"queries": queries, "tokens": 9}, now=NOON)

    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)
    assert spent(world) == (CAP, CAP, 0)
    prove(world)


def test_more_than_any_cap_could_pay_is_refused_and_overflows_nothing(world):
    """INV6: what it would cost does not fit into a BIGINT."""
    on_plan(world, 0, features=BILLED | {"overage_price_microusd": 10**9})

    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, queries=10**17, now=NOON)

    prove(world)


def test_members_see_their_own_packs_and_nobody_elses(world):
    own = pack(world.act, world.bob, 3)
    pack(world.act, world.alice, 4)

    with scope(member(world.act, world.bob)):
        assert [row.left for row in Bucket.objects.filter(pocket="pack").select_related("pack")] == [3]
        assert Bucket.objects.get(pack=own).pack.name == "3 queries"
    assert bucket(world.act, world.alice.pk, "queries", pocket="pack").limit == 4
