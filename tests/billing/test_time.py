"""What time does to subscriptions: their months, and what is written down when nobody says anything (Q-16, Q-17)."""

import json
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from django.core.management import CommandError, call_command
from django.db import transaction

from accounts.models import Membership
from billing import lifecycle, plans
from billing.lifecycle import Facts
from billing.models import Cycle, Plan, PlanLimit, Subscription, SubscriptionHistory
from chatsite.members import joining
from lib.db import SERVICE, scope
from lib.errors import Invalid
from quotas import ledger
from quotas.errors import QuotaExceeded
from quotas.models import Account, Entitlement
from tests.factories import make_member, make_user
from tests.quotas.proofs import ask, bucket, numbers, prove, together

HOUR = timedelta(hours=1)
START = datetime(2031, 1, 31, 10, tzinfo=UTC)

# What Stripe bills: the start of each period of a monthly subscription, written from its documentation of billing cycles
# ("the last day of the month, if the day is not in it"), year by year, by hand.
STRIPES_PERIODS = {
    "2027-01-29": ["2027-02-28", "2027-03-29", "2027-04-29", "2027-05-29"],
    "2027-01-30": ["2027-02-28", "2027-03-30", "2027-04-30", "2027-05-30"],
    "2027-01-31": ["2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31"],
    "2028-01-29": ["2028-02-29", "2028-03-29", "2028-04-29", "2028-05-29"],
    "2028-01-30": ["2028-02-29", "2028-03-30", "2028-04-30", "2028-05-30"],
    "2028-01-31": ["2028-02-29", "2028-03-31", "2028-04-30", "2028-05-31"],
    "2028-02-29": ["2028-03-29", "2028-04-29", "2028-05-29", "2028-06-29"],
    "2027-12-31": ["2028-01-31", "2028-02-29", "2028-03-31", "2028-04-30"],
    "2026-08-31": ["2026-09-30", "2026-10-31", "2026-11-30", "2026-12-31"],
}


def at(day):
    return datetime.fromisoformat(day).replace(hour=16, minute=20, tzinfo=UTC)


def plan_of(brand, code):
    with scope(SERVICE):
        return Plan.objects.get(brand=brand, code=code)


def monthly(brand, code="basic", limit=5):
    """The plan, by the month."""
    with scope(SERVICE):
        PlanLimit.objects.filter(plan__brand=brand, plan__code=code).update(window="month", limit=limit)
    return plan_of(brand, code)


def paid(plan, starts, ends, **changes):
    fields = {"provider": "stripe", "provider_subscription_id": "sub_1", **changes}
    return Facts(plan, period_starts_at=starts, period_ends_at=ends, **fields)


@pytest.mark.parametrize(("begins", "periods"), STRIPES_PERIODS.items())
def test_windows_of_a_paid_month_are_stripes_periods(world, begins, periods):
    """Q-16: whatever the day, heard a little late each time; the anchor of the 31st survives February."""
    plan = monthly(world.act)
    starts = [at(begins), *map(at, periods)]

    for opens, closes in pairwise(starts):
        lifecycle.take(world.act, world.bob.pk, paid(plan, opens, closes), now=opens + HOUR)
        ask(world.act, world.bob, now=opens + HOUR)
        ask(world.act, world.bob, now=closes - timedelta(seconds=1))
        window = bucket(world.act, world.bob.pk, "queries", window="month", at=opens + HOUR)
        assert (window.opens_at, window.closes_at, window.held) == (opens, closes, 2)
    prove(world)


def test_months_of_a_yearly_plan_are_counted_from_its_anchor(world):
    """Q-16: 31 August for a year; the limit is for each month, and the next year goes on with the same days."""
    plan = monthly(world.act)
    year = at("2027-08-31")
    lifecycle.take(world.act, world.bob.pk, paid(plan, at("2026-08-31"), year, cycle=Cycle.YEAR), now=at("2026-08-31"))

    for day in ("2026-08-31", "2026-09-30", "2027-02-28", "2027-03-31"):
        assert numbers_at(world, at(day)) == (at(day), 5, 5)

    lifecycle.take(world.act, world.bob.pk, paid(plan, year, at("2028-08-31"), cycle=Cycle.YEAR), now=year + HOUR)
    assert numbers_at(world, at("2028-02-29")) == (at("2028-02-29"), 5, 5)
    prove(world)


def numbers_at(world, opens):
    """Use all that there is in the month that opens then: its start, limit and what was held."""
    for _ in range(5):
        ask(world.act, world.bob, now=opens + HOUR)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=opens + HOUR)
    window = bucket(world.act, world.bob.pk, "queries", window="month", at=opens + HOUR)
    return window.opens_at, window.limit, window.held


def test_what_is_paid_after_a_trial_begins_with_a_fresh_month(world):
    plan = monthly(world.act)
    ends = START + timedelta(days=14)
    trial = paid(plan, START, ends, status="trialing", trial_ends_at=ends)
    lifecycle.take(world.act, world.bob.pk, trial, now=START)
    for _ in range(5):
        ask(world.act, world.bob, now=START + HOUR)
    with pytest.raises(QuotaExceeded) as refused:
        ask(world.act, world.bob, now=START + HOUR)
    assert refused.value.extra["resets_at"] == ends.isoformat()

    lifecycle.take(world.act, world.bob.pk, paid(plan, ends, at("2031-03-14")), now=ends + HOUR)

    ask(world.act, world.bob, now=ends + HOUR)
    assert bucket(world.act, world.bob.pk, "queries", window="month", at=ends).held == 1
    prove(world)


def test_who_pays_nobody_counts_calendar_months(world):
    plan = monthly(world.act)
    with scope(SERVICE):
        plans.assign_plan(world.act, plan, user_id=world.bob.pk, now=START)

    ask(world.act, world.bob, now=START)
    assert bucket(world.act, world.bob.pk, "queries", window="month").closes_at == datetime(2031, 2, 1, tzinfo=UTC)


def test_a_dearer_plan_in_mid_month_keeps_what_was_used_and_what_is_in_flight_settles(world):
    """Q-18: 20 holds in flight, up and then down again."""
    basic, pro = monthly(world.act, "basic", 30), monthly(world.act, "pro", 90)
    ends = at("2031-02-28")
    lifecycle.take(world.act, world.bob.pk, paid(basic, START, ends), now=START)
    holds = [ask(world.act, world.bob, now=START + HOUR) for _ in range(10)]
    ledger.settle(holds.pop(), amounts={"queries": 1}, now=START + HOUR)

    lifecycle.take(world.act, world.bob.pk, paid(pro, START, ends), now=START + 2 * HOUR)
    assert numbers(world.act, world.bob.pk, "queries", window="month") == (90, 1, 9)

    lifecycle.take(world.act, world.bob.pk, paid(basic, START, ends), now=START + 3 * HOUR)
    assert numbers(world.act, world.bob.pk, "queries", window="month") == (90, 1, 9), "a cheaper one waits"
    for hold in holds:
        ledger.settle(hold, amounts={"queries": 1}, now=START + 3 * HOUR)
    lifecycle.take(world.act, world.bob.pk, paid(basic, ends, at("2031-03-31")), now=ends + HOUR)
    assert numbers(world.act, world.bob.pk, "queries", window="month", at=START) == (90, 10, 0)
    ask(world.act, world.bob, now=ends + HOUR)
    assert numbers(world.act, world.bob.pk, "queries", window="month", at=ends + HOUR) == (30, 0, 1)
    prove(world)


def test_a_card_that_is_stored_outlives_the_plan_it_paid_for(world):
    lifecycle.take(world.act, world.bob.pk, paid(plan_of(world.act, "basic"), START, at("2031-02-28")), now=START)
    lifecycle.set_billable(world.act, world.bob.pk, True, now=START)

    lifecycle.take(
        world.act,
        world.bob.pk,
        paid(plan_of(world.act, "basic"), START, at("2031-02-28"), status="cancelled"),
        now=START,
    )

    with scope(SERVICE):
        features = Account.objects.get(brand=world.act, owner_id=world.bob.pk).features
        assert (features["unit"], features["overage_allowed"]) == ("queries", False)
        assert lifecycle.current(world.act, world.bob.pk).is_billable
        assert not features["is_billable"], "nobody writes invoices, so nothing may go beyond the plan"
    lifecycle.set_billable(world.act, world.bob.pk, False, now=START)
    with scope(SERVICE):
        assert not lifecycle.current(world.act, world.bob.pk).is_billable


# Time alone


def trials(world, count=3):
    """Members on a trial that staff gave, which ends on 14 February; and one whose payment failed on 2 February."""
    with scope(SERVICE):
        Plan.objects.filter(brand=world.act, code="pro").update(trial_days=14)
    pro, people = plan_of(world.act, "pro"), []
    for number in range(count):
        user = make_user(f"tries{number}@example.com")
        make_member(world.act, user)
        with scope(SERVICE):
            plans.assign_plan(world.act, pro, user_id=user.pk, on_trial=True, now=START)
        people.append(user)
    failed = paid(pro, START, at("2031-02-28"), status="past_due")
    lifecycle.take(world.act, world.bob.pk, failed, now=START + timedelta(days=2))
    return people


def everything():
    with scope(SERVICE):
        return (
            list(
                Subscription.objects.order_by("owner_id", "started_at", "plan__code").values(
                    "owner_id", "plan__code", "status", "started_at", "ended_at", "grace_ends_at"
                )
            ),
            list(
                SubscriptionHistory.objects.order_by("owner_id", "effective_at", "code").values(
                    "owner_id", "code", "effective_at", "plan__code", "plan_in_force", "status", "ended_at"
                )
            ),
            list(
                Entitlement.objects.filter(ends_at=None)
                .order_by("owner_id", "meter")
                .values("owner_id", "meter", "window", "limit", "anchor_at")
            ),
        )


def test_late_or_twice_leaves_the_rows_of_on_time(world):
    """Q-17: the job of every five minutes, against one that comes three days late, from the same start."""
    trials(world)
    found = []
    for runs in (
        [START + timedelta(days=day, minutes=5) for day in range(20)],  # on time
        [START + timedelta(days=17), START + timedelta(days=17)],  # three days late, twice
        [START + timedelta(days=19)],
    ):
        with scope(SERVICE), transaction.atomic("service"):
            done = [lifecycle.advance(now) for now in runs]
            assert sum(one["trial_ended"] for one in done) == 3
            assert sum(one["lapsed"] for one in done) == 1
            found.append(everything())
            transaction.set_rollback(True, "service")

    assert found[0] == found[1] == found[2]


def test_before_its_instant_nothing_ends_and_at_it_everything_does(world):
    """Q-17"""
    people = trials(world, 1)
    ends = START + timedelta(days=14)

    lifecycle.advance(START + timedelta(days=9) - timedelta(microseconds=1))
    assert in_force(world, world.bob) == "pro"
    lifecycle.advance(START + timedelta(days=9))
    assert in_force(world, world.bob) == "free"
    lifecycle.advance(ends - timedelta(microseconds=1))
    assert in_force(world, people[0]) == "pro"
    lifecycle.advance(ends)
    assert in_force(world, people[0]) == "free"
    prove(world)


def in_force(world, user):
    with scope(SERVICE):
        return Account.objects.get(brand=world.act, owner_id=user.pk).plan_code


def test_facts_that_come_before_the_job_find_what_time_has_done(world):
    """The trial ended on the 14th; the job never ran, and on the 20th its member subscribes."""
    (user,) = trials(world, 1)
    late = START + timedelta(days=20)

    facts = paid(plan_of(world.act, "pro"), late, late + timedelta(days=28), provider_subscription_id="sub_2")
    lifecycle.take(world.act, user.pk, facts, now=late)

    with scope(SERVICE):
        lines = SubscriptionHistory.objects.filter(owner_id=user.pk, effective_at__gte=START).order_by("id")
        assert [(line.code, line.plan_in_force, line.effective_at) for line in lines][-3:] == [
            ("trial_ended", "", START + timedelta(days=14)),
            ("started", "free", START + timedelta(days=14)),
            ("started", "pro", late),
        ]


def test_one_that_cannot_go_on_keeps_no_other_from_it(world, monkeypatch, capsys):
    people = trials(world)
    real = lifecycle.ledger.entitle

    def sometimes(brand, *, owner_id, **rest):
        if owner_id == people[1].pk:
            raise RuntimeError("the disk is full")
        return real(brand, owner_id=owner_id, **rest)

    monkeypatch.setattr(lifecycle.ledger, "entitle", sometimes)
    monkeypatch.setattr(lifecycle.clock, "now", lambda: START + timedelta(days=15))

    with pytest.raises(SystemExit) as ended:
        call_command("advance_subscriptions", "--json")

    assert ended.value.code == 1
    assert json.loads(capsys.readouterr().out) == {"trial_ended": 2, "cancelled": 0, "lapsed": 1, "failed": 1}
    monkeypatch.setattr(lifecycle.ledger, "entitle", real)
    call_command("advance_subscriptions")
    assert capsys.readouterr().out == "Ended: 1 trials, 0 agreements, 0 graces.\n"
    assert [in_force(world, user) for user in people] == ["free"] * 3


@pytest.mark.django_db(transaction=True)
def test_ten_runs_at_once_end_each_thing_once(live_world):
    """Q-17"""
    people = trials(live_world)

    outcomes = together(10, lambda _: lifecycle.advance(START + timedelta(days=15)))

    assert sum(one["trial_ended"] for one in outcomes) == 3
    assert sum(one["lapsed"] for one in outcomes) == 1
    assert not sum(one["failed"] for one in outcomes)
    with scope(SERVICE):
        for user in people:
            codes = SubscriptionHistory.objects.filter(owner_id=user.pk).order_by("id").values_list("code", flat=True)
            assert list(codes)[-2:] == ["trial_ended", "started"]
    prove(live_world)


@pytest.mark.django_db(transaction=True)
def test_two_subscriptions_that_begin_at_once_are_one_and_the_other_is_refused(live_world):
    """S-14"""
    basic = plan_of(live_world.act, "basic")

    def subscribe(number):
        facts = paid(basic, START, at("2031-02-28"), provider_subscription_id=f"sub_{number}")
        return lifecycle.take(live_world.act, live_world.bob.pk, facts, now=START).provider_subscription_id

    outcomes = together(6, subscribe)

    assert sum(isinstance(outcome, lifecycle.AlreadySubscribed) for outcome in outcomes) == 5
    with scope(SERVICE):
        assert Subscription.objects.filter(owner_id=live_world.bob.pk, ended_at=None).count() == 1
    prove(live_world)


# Who begins with what


def test_a_new_member_of_a_brand_whose_default_is_a_trial_tries_it_once_and_falls_back_to_what_is_free(world):
    with scope(SERVICE):
        Plan.objects.filter(brand=world.act, code="pro").update(trial_days=14)
        world.act.default_plan = "pro"
        world.act.save()
    user = make_user("dora@example.com")

    make_member(world.act, user)
    with scope(SERVICE):
        row = Subscription.objects.get(owner_id=user.pk, ended_at=None)
        assert (row.plan.code, row.status) == ("pro", "trialing")
    lifecycle.advance(row.trial_ends_at)
    assert in_force(world, user) == "free"
    with scope(SERVICE):
        plans.assign_default_plan(world.act, user.pk)
    assert in_force(world, user) == "free", "nobody tries twice"


def test_a_default_plan_that_is_paid_first_is_given_to_nobody_for_nothing(world):
    """Neither to who comes new nor to who cancels, whatever the form let pass before."""
    with scope(SERVICE):
        world.act.default_plan = "basic"
        world.act.save()
    user, pro = make_user("dora@example.com"), plan_of(world.act, "pro")

    make_member(world.act, user)
    assert in_force(world, user) == "free"
    lifecycle.take(world.act, world.bob.pk, paid(pro, START, at("2031-02-28")), now=START)
    over = paid(pro, START, at("2031-02-28"), status="cancelled")
    lifecycle.take(world.act, world.bob.pk, over, now=START + HOUR)

    assert in_force(world, world.bob) == "free"


def test_who_comes_back_and_pays_still_has_all_of_the_plan(world):
    """The membership is a new one; the calls a minute that stand on it are the plan's, as before."""
    with scope(SERVICE):
        Plan.objects.filter(brand=world.act, code="basic").update(rate_limit_per_minute=7)
    basic = plan_of(world.act, "basic")
    lifecycle.take(world.act, world.bob.pk, paid(basic, START, at("2031-02-28")), now=START)
    with scope(SERVICE):
        Membership.objects.filter(brand=world.act, user=world.bob).delete()

        joining.join(world.act, world.bob)

        back = Membership.objects.get(brand=world.act, user=world.bob)
        assert back.rate_limit_per_minute == 7
        assert Subscription.objects.filter(owner_id=world.bob.pk, ended_at=None).get().provider != ""
    assert in_force(world, world.bob) == "basic"


def test_a_brand_without_anything_free_leaves_who_ends_without_a_plan(world):
    with scope(SERVICE):
        world.act.default_plan = ""
        world.act.save()
    basic = plan_of(world.act, "basic")
    lifecycle.take(world.act, world.bob.pk, paid(basic, START, at("2031-02-28")), now=START)

    ended = lifecycle.take(world.act, world.bob.pk, paid(basic, START, at("2031-02-28"), status="cancelled"), now=START)

    assert ended is None
    assert in_force(world, world.bob) == ""
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=START + HOUR)


def test_a_plan_of_another_brand_or_one_that_is_off_is_refused(world, capsys):
    with pytest.raises(Invalid):
        lifecycle.take(world.act, world.bob.pk, Facts(plan_of(world.globex, "pro")), now=START)
    with scope(SERVICE):
        Plan.objects.filter(brand=world.act, code="pro").update(is_active=False)

    with pytest.raises(CommandError, match="The plan pro is switched off"):
        call_command("assign_plan", "--brand=act", "--user=bob@example.com", "--plan=pro")
    with pytest.raises(CommandError, match="The plan basic has no trial"):
        call_command("assign_plan", "--brand=act", "--user=bob@example.com", "--plan=basic", "--trial")

    assert in_force(world, world.bob) == "free"


def test_another_members_subscription_is_never_taken_over(world):
    basic = plan_of(world.act, "basic")
    lifecycle.take(world.act, world.bob.pk, paid(basic, START, at("2031-02-28")), now=START)

    with pytest.raises(Invalid, match="somebody else's"):
        lifecycle.take(world.act, world.alice.pk, paid(basic, START, at("2031-02-28")), now=START)

    assert in_force(world, world.alice) == "pro"


def test_the_reason_for_leaving_stands_on_the_line_of_the_end_too(world):
    basic, ends = plan_of(world.act, "basic"), at("2031-02-28")
    lifecycle.take(world.act, world.bob.pk, paid(basic, START, ends), now=START)
    asked = paid(basic, START, ends, cancel_at_period_end=True, reason="too_expensive", comment="x" * 2000)
    lifecycle.take(world.act, world.bob.pk, asked, now=START + HOUR)
    lifecycle.take(world.act, world.bob.pk, paid(basic, START, ends, status="cancelled"), now=ends + HOUR)

    with scope(SERVICE):
        lines = SubscriptionHistory.objects.filter(owner_id=world.bob.pk, cancellation_reason="too_expensive").order_by(
            "id"
        )
        assert [(line.code, line.cancelled_at) for line in lines] == [
            ("cancel_planned", START + HOUR), ("cancelled", ends),
        ]  # fmt: skip
        assert {len(line.cancellation_comment) for line in lines} == {1000}
        assert {(line.monthly_price_microusd, line.billing_cycle) for line in lines} == {(9_990_000, "month")}
