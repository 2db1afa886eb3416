"""reserve, settle and what they must never do: one case each, in one transaction that is rolled back."""

from datetime import UTC, datetime, timedelta

import pytest
from django.db import DataError, IntegrityError, ProgrammingError, transaction

from lib.db import SERVICE, scope
from lib.ids import uuid7
from quotas import ledger
from quotas.errors import QuotaExceeded
from quotas.models import Bucket, Entry, Hold
from tests.factories import make_member, make_user, member
from tests.quotas.proofs import ask, bucket, entitle, numbers, prove

NOON = datetime(2030, 6, 12, 12, tzinfo=UTC)
POOL = 2_000_000


def test_reserve_holds_on_the_member_and_on_the_brand(world):
    reservation = ask(world.act, world.bob, now=NOON)

    assert numbers(world.act, world.bob.pk, "queries") == (10, 0, 1)
    assert numbers(world.act, world.act.pk, "tokens") == (POOL, 0, 1000)
    with scope(SERVICE):
        holds = Hold.objects.filter(reservation=reservation)
        assert {(hold.meter, hold.amount, hold.expires_at) for hold in holds} == {
            ("queries", 1, NOON + timedelta(minutes=15)),
            ("tokens", 1000, NOON + timedelta(minutes=15)),
        }
    prove(world, now=NOON)


def test_reserve_refuses_the_eleventh_question_of_free_and_holds_nothing(world):
    for _ in range(10):
        ledger.settle(ask(world.act, world.bob), amounts={"queries": 1, "tokens": 10})

    with pytest.raises(QuotaExceeded) as refused:
        ask(world.act, world.bob)

    assert refused.value.extra == {
        "reason": "user_queries_used_up",
        "requires_payment": True,
        "ways": ["pack", "plan"],
        "meter": "queries",
        "limit": 10,
        "left": 0,
        "wanted": 1,
        "resets_at": None,
    }
    assert numbers(world.act, world.bob.pk, "queries") == (10, 10, 0)
    assert numbers(world.act, world.act.pk, "tokens") == (POOL, 100, 0)
    prove(world)


def test_reserve_takes_the_very_last_of_a_limit(world):
    entitle(world.act, world.bob, ("queries", "lifetime", 3))

    ask(world.act, world.bob, queries=3)

    assert numbers(world.act, world.bob.pk, "queries") == (3, 0, 3)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, queries=1)
    prove(world)


def test_a_refusal_of_the_brand_holds_nothing_on_the_member(world):
    with pytest.raises(QuotaExceeded) as refused:
        ask(world.act, world.bob, tokens=POOL + 1, now=NOON)

    extra = refused.value.extra
    assert (extra["reason"], extra["left"], extra["wanted"]) == ("brand_tokens_used_up", POOL, POOL + 1)
    assert extra["resets_at"] == "2030-07-01T00:00:00+00:00"
    assert extra["requires_payment"] is False
    assert numbers(world.act, world.bob.pk, "queries") == (10, 0, 0)
    prove(world)


def test_when_both_are_short_the_member_hears_of_the_own_plan(world):
    entitle(world.act, world.bob, ("queries", "day", 1))
    ask(world.act, world.bob)

    with pytest.raises(QuotaExceeded) as refused:
        ask(world.act, world.bob, tokens=POOL)

    assert refused.value.extra["reason"] == "user_queries_used_up"


def test_a_member_without_a_plan_is_refused_in_words(world):
    dora = make_user("dora@example.com")
    with scope(SERVICE):
        world.act.default_plan = "none"
    make_member(world.act, dora)

    with pytest.raises(QuotaExceeded, match="no plan on this brand") as refused:
        ask(world.act, dora)

    assert refused.value.extra["reason"] == "no_plan"
    assert refused.value.extra["requires_payment"] is False
    assert numbers(world.act, world.act.pk, "tokens")[2] == 0
    prove(world)


def test_a_plan_that_includes_nothing_asks_for_payment_and_promises_no_reset(world):
    make_member(world.globex, world.bob, plan="usage_only")

    with pytest.raises(QuotaExceeded, match="includes no questions") as refused:
        ask(world.globex, world.bob)

    assert refused.value.extra["reason"] == "no_payment_method"
    assert refused.value.extra["requires_payment"] is True
    assert refused.value.extra["resets_at"] is None
    prove(world)


def test_a_limit_of_null_is_no_limit_and_is_still_counted(world):
    entitle(world.act, world.bob, ("queries", "day", None))

    for _ in range(30):
        ledger.settle(ask(world.act, world.bob, now=NOON), amounts={"queries": 1, "tokens": 1})

    assert numbers(world.act, world.bob.pk, "queries", window="day") == (None, 30, 0)
    prove(world)


def test_settle_frees_the_remainder_at_once(world):
    """Q-05"""
    reservation = ask(world.act, world.bob, tokens=POOL)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, tokens=1)

    ledger.settle(reservation, amounts={"queries": 1, "tokens": 40}, cost_microusd=7)

    ask(world.act, world.bob, tokens=POOL - 40)
    assert numbers(world.act, world.act.pk, "tokens") == (POOL, 40, POOL - 40)
    with scope(SERVICE):
        entries = Entry.objects.filter(reservation=reservation)
        assert {(entry.used_delta, entry.cost_microusd) for entry in entries} == {(1, 0), (40, 7)}
    prove(world)


def test_a_second_settle_changes_nothing(world):
    """Q-05"""
    reservation = ask(world.act, world.bob)
    assert ledger.settle(reservation, amounts={"queries": 1, "tokens": 300}) is True

    assert ledger.settle(reservation, amounts={"queries": 1, "tokens": 900}) is False
    assert ledger.settle(reservation, amounts={}) is False, "void after post"

    assert numbers(world.act, world.act.pk, "tokens") == (POOL, 300, 0)
    prove(world)


def test_a_void_gives_everything_back_and_cannot_be_posted_afterwards(world):
    """Q-08"""
    reservation = ask(world.act, world.bob)

    assert ledger.settle(reservation, amounts={}, reason="nothing arrived") is True
    assert ledger.settle(reservation, amounts={"queries": 1, "tokens": 500}) is False

    assert numbers(world.act, world.bob.pk, "queries") == (10, 0, 0)
    assert numbers(world.act, world.act.pk, "tokens") == (POOL, 0, 0)
    prove(world)


def test_settle_never_charges_more_than_was_held(world):
    reservation = ask(world.act, world.bob, tokens=100)

    ledger.settle(reservation, amounts={"queries": 5, "tokens": 10**15})

    assert numbers(world.act, world.bob.pk, "queries") == (10, 1, 0)
    assert numbers(world.act, world.act.pk, "tokens") == (POOL, 100, 0)
    prove(world)


def test_settling_what_was_never_reserved_changes_nothing(world):
    assert ledger.settle(uuid7(), amounts={"tokens": 5}) is False
    prove(world)


def test_the_same_reservation_again_holds_once_even_when_it_took_the_last(world):
    """Q-12"""
    entitle(world.act, world.bob, ("queries", "lifetime", 1))
    reservation = ask(world.act, world.bob)

    ask(world.act, world.bob, reservation=reservation)
    assert numbers(world.act, world.bob.pk, "queries") == (1, 0, 1)
    ledger.settle(reservation, amounts={"queries": 1, "tokens": 1})
    ask(world.act, world.bob, reservation=reservation)

    assert numbers(world.act, world.bob.pk, "queries") == (1, 1, 0)
    prove(world)


def test_a_day_ends_at_the_brands_midnight_and_the_old_bucket_stays(world):
    """Q-17"""
    world.act.zone = "Europe/Amsterdam"
    entitle(world.act, world.bob, ("queries", "day", 1))
    before, after = datetime(2030, 6, 12, 21, 59, 59, tzinfo=UTC), datetime(2030, 6, 12, 22, 0, tzinfo=UTC)
    ledger.settle(ask(world.act, world.bob, now=before), amounts={"queries": 1, "tokens": 1}, now=before)
    with pytest.raises(QuotaExceeded, match=r"New ones come on 13 June at 00:00 \(Europe/Amsterdam\)") as refused:
        ask(world.act, world.bob, now=before)
    assert refused.value.extra["resets_at"] == after.isoformat()

    ask(world.act, world.bob, now=after)

    assert numbers(world.act, world.bob.pk, "queries", at=before) == (1, 1, 0)
    assert numbers(world.act, world.bob.pk, "queries", at=after) == (1, 0, 1)
    prove(world)


def test_a_hold_is_settled_in_the_window_it_was_taken_in(world):
    """Q-17, INV7"""
    entitle(world.act, world.bob, ("queries", "day", 5))
    midnight = datetime(2030, 6, 13, tzinfo=UTC)
    reservation = ask(world.act, world.bob, now=midnight - timedelta(seconds=1))

    ledger.settle(reservation, amounts={"queries": 1, "tokens": 1}, now=midnight + timedelta(minutes=5))

    assert numbers(world.act, world.bob.pk, "queries", at=NOON) == (5, 1, 0)
    with scope(SERVICE):
        assert not Bucket.objects.filter(meter="queries", opens_at=midnight).exists()
    prove(world)


def test_a_brand_that_changes_its_zone_in_a_window_is_counted_once(world):
    entitle(world.act, world.bob, ("queries", "day", 2))
    ask(world.act, world.bob, now=NOON)
    world.act.zone = "America/Toronto"

    ask(world.act, world.bob, now=NOON + timedelta(hours=1))
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON + timedelta(hours=11))
    ask(world.act, world.bob, now=NOON + timedelta(hours=12))

    with scope(SERVICE):
        assert [row.held for row in Bucket.objects.filter(meter="queries", window="day").order_by("closes_at")] == [
            2,
            1,
        ]
    prove(world, zone_was_changed=True)


def test_a_lifetime_counter_passes_the_end_of_32_bits(world):
    """Q-25"""
    entitle(world.act, world.bob, ("queries", "lifetime", None))
    almost = 2_147_483_640
    ledger.settle(ask(world.act, world.bob, queries=almost), amounts={"queries": almost, "tokens": 1})

    ledger.settle(ask(world.act, world.bob, queries=100), amounts={"queries": 100, "tokens": 1})

    assert numbers(world.act, world.bob.pk, "queries") == (None, 2_147_483_740, 0)
    prove(world)


def test_void_expired_gives_back_what_outlived_every_turn_and_nothing_else(world):
    """INV10, Q-10"""
    old = ask(world.act, world.bob, now=NOON)
    young = ask(world.act, world.bob, now=NOON + timedelta(minutes=10))

    assert ledger.void_expired(NOON + timedelta(minutes=15, seconds=1)) == 1

    with scope(SERVICE):
        assert set(Hold.objects.values_list("reservation", flat=True)) == {young}
        assert set(Entry.objects.filter(reservation=old).values_list("used_delta", "reason")) == {(0, "expired")}
    assert ledger.void_expired(NOON + timedelta(minutes=16)) == 0
    assert ledger.settle(old, amounts={"queries": 1, "tokens": 9}) is False
    prove(world, now=NOON + timedelta(minutes=16))


def test_what_a_provider_reports_beyond_the_hold_is_booked_on_the_house_once(world):
    reservation = ask(world.act, world.bob, tokens=100)
    ledger.settle(reservation, amounts={"queries": 1, "tokens": 150})

    for _ in range(2):
        ledger.charge_house(world.act.pk, tokens=50, reservation=reservation)

    with scope(SERVICE):
        house = Bucket.objects.get(pocket="house")
        assert (house.limit, house.used, house.account.kind) == (None, 50, "house")
    assert numbers(world.act, world.act.pk, "tokens") == (POOL, 100, 0)
    prove(world)


@pytest.mark.parametrize("amount", [-1, 2**63, float("nan")])
def test_an_amount_that_is_not_one_holds_nothing(world, amount):
    """INV6, M8: the database refuses what a caller should have refused."""
    with pytest.raises((IntegrityError, DataError, ProgrammingError)):
        ask(world.act, world.bob, tokens=amount)

    with scope(SERVICE):
        assert not Hold.objects.exists()
    prove(world)


@pytest.mark.parametrize("amount", [-5, 2**63])
def test_a_usage_that_is_none_settles_nothing(world, amount):
    """Q-23: whoever reads a provider's numbers has judged them before; here they crash and the hold stays."""
    reservation = ask(world.act, world.bob)

    with pytest.raises((IntegrityError, DataError)):
        ledger.settle(reservation, amounts={"queries": 1, "tokens": amount})

    assert numbers(world.act, world.act.pk, "tokens") == (POOL, 0, 1000)
    prove(world)


def test_members_read_their_own_buckets_and_can_change_none(world):
    """INV5"""
    ask(world.act, world.bob)
    ask(world.act, world.alice)

    with scope(member(world.act, world.bob)):
        assert {row.owner_id for row in Bucket.objects.all()} == {world.bob.pk}
        for change in (
            lambda: Bucket.objects.update(limit=10**9),
            lambda: Hold.objects.all().delete(),
            lambda: Entry.objects.update(used_delta=0),
        ):
            with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
                change()
    assert bucket(world.act, world.bob.pk, "queries").limit == 10


def test_not_even_the_service_can_change_the_ledger(world):
    """INV5"""
    ledger.settle(ask(world.act, world.bob), amounts={"queries": 1, "tokens": 1})

    with scope(SERVICE):
        for change in (lambda: Entry.objects.update(used_delta=0), lambda: Entry.objects.all().delete()):
            with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
                change()
    prove(world)
