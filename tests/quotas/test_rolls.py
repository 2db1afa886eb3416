"""Months roll by themselves; the jobs open them early and say what was used, and may be as late as they like (Q-17)."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from django.core.management import call_command

from lib.db import SERVICE, scope
from quotas import ledger, rolls
from quotas.models import Account, Bucket, Entry
from tests.quotas.proofs import ask, bucket, entitle, prove, together

JUNE, JULY, AUGUST = (datetime(2030, month, 1, tzinfo=UTC) for month in (6, 7, 8))
MAY = datetime(2030, 5, 20, 12, tzinfo=UTC)


def zone_of(brand, zone):
    with scope(SERVICE):
        brand.zone = zone
        brand.save()


def used_in_may(world, *, anchor_at=None):
    entitle(world.act, world.bob, ("queries", "month", 9), anchor_at=anchor_at, now=MAY - timedelta(days=1))
    ledger.settle(ask(world.act, world.bob, now=MAY), amounts={"queries": 1, "tokens": 30}, now=MAY)


def months(world):
    """Every month there is, as it would read in the books, without ids."""
    with scope(SERVICE):
        rows = Bucket.objects.filter(window="month").order_by("owner_id", "meter", "opens_at")
        return [
            (row.owner_id, row.meter, row.pocket, row.opens_at, row.closes_at, row.limit, row.used, row.held)
            for row in rows
        ]


def test_a_month_is_opened_when_the_brands_midnight_has_come_and_not_before(world):
    """Q-14, Q-17"""
    zone_of(world.act, "America/Toronto")
    used_in_may(world)
    midnight = datetime(2030, 6, 1, 4, tzinfo=UTC)

    assert rolls.reset_monthly_usage(midnight - timedelta(seconds=1)).opened == 0
    done = rolls.reset_monthly_usage(midnight)

    assert done.opened == 2, "bob's questions and the brand's pool"
    assert done.used[world.act.pk, "queries"] == 1
    assert done.used[world.act.pk, "tokens"] == 30
    opened = bucket(world.act, world.bob.pk, "queries", window="month", at=midnight)
    assert (opened.opens_at, opened.limit, opened.used, opened.held) == (midnight, 9, 0, 0)
    prove(world)


@pytest.mark.parametrize("late", [timedelta(0), timedelta(days=3), timedelta(days=29, hours=23)])
def test_late_twice_or_never_leaves_the_same_balances(world, late):
    """Q-17: the next window is not shifted by a job that is late."""
    used_in_may(world)
    at = JUNE + late

    assert rolls.reset_monthly_usage(at).opened == 2
    assert rolls.reset_monthly_usage(at).opened == 0

    by_the_job = months(world)
    ask(world.act, world.bob, now=at)
    assert [row[:-1] for row in months(world)] == [row[:-1] for row in by_the_job], "asking opened nothing more"
    assert {row[3:5] for row in by_the_job if row[3] >= JUNE} == {(JUNE, JULY)}
    prove(world)


def test_never_is_the_same_as_late(world):
    """Q-17: charlie asks before any job has run, bob after one that is nine days late."""
    people = ((world.act, world.bob), (world.globex, world.charlie))
    for brand, user in people:
        entitle(brand, user, ("queries", "month", 9), now=MAY)
        ledger.settle(ask(brand, user, now=MAY), amounts={"queries": 1}, now=MAY)
    later = JULY + timedelta(days=9)

    ask(world.globex, world.charlie, now=later)
    assert rolls.reset_monthly_usage(later).windows == {(world.act.pk, "queries"): 1}
    ask(world.act, world.bob, now=later)

    found = [bucket(brand, user.pk, "queries", window="month", at=later) for brand, user in people]
    assert {(row.limit, row.used, row.held, row.opens_at, row.closes_at) for row in found} == {(9, 0, 1, JULY, AUGUST)}
    prove(world)


def test_months_of_a_subscription_begin_on_its_own_day(world):
    """Q-16"""
    anchor = datetime(2030, 1, 31, 10, tzinfo=UTC)
    used_in_may(world, anchor_at=anchor)
    end = datetime(2030, 5, 31, 10, tzinfo=UTC)

    assert rolls.reset_monthly_usage(end - timedelta(seconds=1)).windows[world.act.pk, "queries"] == 0
    assert rolls.reset_monthly_usage(end).windows[world.act.pk, "queries"] == 1

    opened = bucket(world.act, world.bob.pk, "queries", window="month", at=end)
    assert (opened.opens_at, opened.closes_at) == (end, datetime(2030, 6, 30, 10, tzinfo=UTC))


def test_who_used_nothing_or_counts_by_the_day_gets_no_window_of_the_job(world):
    used_in_may(world)
    entitle(world.act, world.bob, ("queries", "day", 9), now=MAY)

    assert rolls.reset_monthly_usage(JUNE).windows == {(world.act.pk, "tokens"): 1}
    assert rolls.reset_monthly_usage(JULY).opened == 0, "June was opened, and nobody used it"
    prove(world)


def overage(world, *, now=MAY):
    with scope(SERVICE):
        Account.objects.filter(brand=world.act, owner_id=world.bob.pk).update(
            features={
                "unit": "queries", "overage_allowed": True, "overage_price_microusd": 25_000,
                "overage_cap_microusd": 10_000_000, "is_billable": True,
            },
            overage_on=True,
        )  # fmt: skip
    ledger.settle(ask(world.act, world.bob, now=now), amounts={"queries": 1}, now=now)


def test_overage_begins_at_nothing_on_the_first_and_the_job_says_what_was_charged(world, capsys):
    """Q-21"""
    entitle(world.act, world.bob, ("queries", "month", 0), now=MAY)
    overage(world)
    overage(world)

    done = rolls.reset_monthly_overages(JUNE)

    assert (done.opened, done.used[world.act.pk, "overage_microusd"]) == (1, 50_000)
    assert rolls.reset_monthly_overages(JUNE).opened == 0
    with scope(SERVICE):
        of_june = Bucket.objects.get(pocket="overage", opens_at=JUNE)
        assert (of_june.limit, of_june.used, of_june.held) == (10_000_000, 0, 0)
        assert Bucket.objects.get(pocket="overage", closes_at=JUNE).used == 50_000
    prove(world)


def test_overage_that_is_not_allowed_any_more_opens_nothing(world):
    entitle(world.act, world.bob, ("queries", "month", 0), now=MAY)
    overage(world)
    with scope(SERVICE):
        Account.objects.filter(owner_id=world.bob.pk).update(features={"overage_allowed": False})

    assert rolls.reset_monthly_overages(JUNE).opened == 0


def test_the_commands_say_what_they_did_in_words_and_as_json(world, capsys, monkeypatch):
    used_in_may(world)
    monkeypatch.setattr(rolls.clock, "now", lambda: JUNE)

    call_command("reset_monthly_usage")
    assert capsys.readouterr().out == (
        "2 windows opened.\nact: 1 months ended with 1 queries used.\nact: 1 months ended with 30 tokens used.\n"
    )
    call_command("reset_monthly_usage", "--json")
    assert json.loads(capsys.readouterr().out) == {"opened": 0, "failed": 0, "ended": []}
    call_command("reset_monthly_overages", "--json")
    assert json.loads(capsys.readouterr().out)["opened"] == 0


def test_one_that_cannot_be_opened_keeps_no_other_from_it_and_the_exit_code_says_so(world, monkeypatch, capsys):
    used_in_may(world)
    real = rolls.open_window

    def sometimes(account, meter, brand, now):
        if meter == "tokens":
            raise RuntimeError("the disk is full")
        return real(account, meter, brand, now)

    monkeypatch.setattr(rolls, "open_window", sometimes)
    monkeypatch.setattr(rolls.clock, "now", lambda: JUNE)

    with pytest.raises(SystemExit) as ended:
        call_command("reset_monthly_usage")

    assert ended.value.code == 1
    assert "1 could not be opened" in capsys.readouterr().out
    assert bucket(world.act, world.bob.pk, "queries", window="month", at=JUNE).used == 0


@pytest.mark.django_db(transaction=True)
def test_ten_runs_at_once_open_each_month_once(live_world):
    """Q-17"""
    used_in_may(live_world)

    outcomes = together(10, lambda _: rolls.reset_monthly_usage(JUNE).opened)

    assert sum(outcomes) == 2
    with scope(SERVICE):
        assert Entry.objects.filter(reason="window opened", bucket__opens_at=JUNE).count() == 2
    prove(live_world)
