"""The table in docs/billing.md, row by row: the page is the test's data, so it cannot say what the code does not (S-13)."""

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from django.conf import settings

from billing import lifecycle, plans
from billing.lifecycle import AlreadySubscribed, Facts
from billing.models import Cycle, Plan, Subscription, SubscriptionHistory
from events.models import Event
from lib.db import SERVICE, scope
from quotas.models import Account, Entitlement
from tests.quotas.proofs import ask, prove

START = datetime(2031, 1, 31, 10, tzinfo=UTC)
NEXT = datetime(2031, 2, 28, 10, tzinfo=UTC)
TRIAL_ENDS = START + timedelta(days=14)
LATER = START + timedelta(days=3)  # when what the row says happens
GRACE_ENDS = START + timedelta(days=9)  # a payment failed two days after the start
UNTIL = datetime(2031, 2, 10, tzinfo=UTC)

ACTIVE, TRIALING, PAST_DUE, CANCELLED = Subscription.Status
CODES = {"Free": "free", "Basic": "basic", "Pro": "pro", "Pay per use": "usage_only"}
SINCE = {"at once": None, "the trial's end": TRIAL_ENDS, "the period's end": NEXT, "grace's end": GRACE_ENDS}


def table():
    page = (settings.BASE_DIR / "docs" / "billing.md").read_text()
    rows = re.search(r"\| stands as .*?\n\|-.*?\n((?:\|.*\n)+)", page)[1]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in rows.splitlines()]


class Member:
    """Bob of act, and what Stripe would say of him."""

    def __init__(self, world):
        self.act, self.bob = world.act, world.bob
        with scope(SERVICE):
            plans.take(self.act, self.bob.pk, Facts(self.plan("free")), now=START - timedelta(days=9))

    def plan(self, code):
        with scope(SERVICE):
            return Plan.objects.get(brand=self.act, code=code)

    def paid(self, code="basic", **changes):
        facts = Facts(
            self.plan(code), provider="stripe", provider_subscription_id="sub_1", period_starts_at=START,
            period_ends_at=NEXT, is_billable=True,
        )  # fmt: skip
        return replace(facts, **changes)

    def tried(self, code="basic", **changes):
        return self.paid(code, status=TRIALING, trial_ends_at=TRIAL_ENDS, period_ends_at=TRIAL_ENDS, **changes)

    def hears(self, facts, now):
        return lifecycle.take(self.act, self.bob.pk, facts, now=now)

    def given(self, code, now, **how):
        with scope(SERVICE):
            return plans.assign_plan(self.act, self.plan(code), user_id=self.bob.pk, now=now, **how)

    def stands(self, name):
        two_days = START + timedelta(days=2)
        match name:
            case "trial":
                self.hears(self.tried(), START)
            case "trial that staff gave":
                with scope(SERVICE):
                    Plan.objects.filter(brand=self.act, code="basic").update(trial_days=14)
                self.given("basic", START, on_trial=True)
            case "given by staff":
                self.given("basic", START)
            case "given until a day":
                self.hears(
                    Facts(self.plan("basic"), period_starts_at=START, period_ends_at=NEXT, cancel_at_period_end=True),
                    START,
                )
            case "active" | "change planned" | "ending" | "in grace" | "grace over" | "over":
                self.hears(self.paid(), START)
        match name:
            case "change planned":
                self.hears(self.paid("usage_only"), two_days)
            case "ending":
                self.hears(self.paid(cancel_at_period_end=True, reason="too_dear", comment="Ouch."), two_days)
            case "in grace":
                self.hears(self.paid(status=PAST_DUE), two_days)
            case "grace over":
                self.hears(self.paid(status=PAST_DUE), two_days)
                lifecycle.advance(GRACE_ENDS)
            case "over":
                self.hears(self.paid(status=CANCELLED), two_days)

    def happens(self, what, name):
        """Returns when it was heard."""
        now = GRACE_ENDS + timedelta(days=1) if name == "grace over" else LATER
        in_march = datetime(2031, 3, 31, 10, tzinfo=UTC)
        match what:
            case "subscribes":
                self.hears(self.paid(provider_subscription_id="sub_2"), now)
            case "subscribes with a trial":
                self.hears(self.tried(), now)
            case "subscribes a second time":
                self.hears(self.paid(provider_subscription_id="sub_2"), now)
            case "staff give Basic":
                self.given("basic", now)
            case "staff give Pro":
                self.given("pro", now)
            case "staff give Basic on trial":
                with scope(SERVICE):
                    Plan.objects.filter(brand=self.act, code="basic").update(trial_days=14)
                self.given("basic", now, on_trial=True)
            case "pays" if name == "trial":
                now = TRIAL_ENDS + timedelta(hours=1)
                self.hears(self.paid(period_starts_at=TRIAL_ENDS, period_ends_at=TRIAL_ENDS + timedelta(days=28)), now)
            case "pays":
                self.hears(self.paid(), now)
            case "payment fails":
                self.hears(self.paid(status=PAST_DUE), now)
            case "takes Pro" | "takes Pay per use" | "takes Basic":
                code = CODES[what.removeprefix("takes ")]
                self.hears(self.tried(code) if name == "trial" else self.paid(code), now)
            case "takes Basic by the year":
                year = self.paid(cycle=Cycle.YEAR, period_starts_at=now, period_ends_at=now.replace(year=2032))
                self.hears(year, now)
            case "asks to cancel":
                self.hears(self.paid(cancel_at_period_end=True), now)
            case "takes that back":
                self.hears(self.paid(), now)
            case "a new period begins":
                now = NEXT + timedelta(hours=1)
                code = "usage_only" if name == "change planned" else "basic"
                self.hears(self.paid(code, period_starts_at=NEXT, period_ends_at=in_march), now)
            case "the subscription is over" if name == "ending":
                now = NEXT + timedelta(hours=1)
                self.hears(self.paid(status=CANCELLED), now)
            case "the subscription is over":
                self.hears(self.paid(status=CANCELLED), now)
            case "late news: it was active":
                self.hears(self.paid(), now)
            case "7 days pass":
                now = GRACE_ENDS + timedelta(days=3)
                lifecycle.advance(now)
            case "the trial's days pass":
                now = TRIAL_ENDS + timedelta(days=3)
                lifecycle.advance(now)
            case "that day comes":
                now = NEXT + timedelta(days=3)
                lifecycle.advance(now)
            case _:
                raise AssertionError(f"docs/billing.md knows something that this test does not: {what}")
        return now

    def history(self):
        with scope(SERVICE):
            lines = SubscriptionHistory.objects.filter(brand=self.act, owner_id=self.bob.pk).order_by("id")
            return list(lines.select_related("plan"))

    def account(self):
        with scope(SERVICE):
            return Account.objects.get(brand=self.act, owner_id=self.bob.pk)

    def row(self):
        with scope(SERVICE):
            rows = Subscription.objects.select_related("plan", "next_plan")
            return rows.get(brand=self.act, owner_id=self.bob.pk, ended_at=None)


@pytest.fixture
def member(world):
    return Member(world)


@pytest.mark.parametrize(
    ("stands", "happens", "plan", "status", "overage", "since", "said"), table(), ids=lambda cell: str(cell) or "no"
)
def test_the_table_is_what_happens(world, member, stands, happens, plan, status, overage, since, said):
    """S-13"""
    member.stands(stands)
    before = len(member.history())

    if said == "refused":
        with pytest.raises(AlreadySubscribed, match="being paid for already"):
            member.happens(happens, stands)
    else:
        now = member.happens(happens, stands)

    account, row, new = member.account(), member.row(), member.history()[before:]
    assert account.plan_code == CODES[plan]
    assert row.status == status
    assert account.features["overage_allowed"] == (overage == "allowed")
    if said in ("-", "refused"):
        assert new == []
        assert since == ""
    else:
        assert new[0].code == said
        assert [line.code for line in new[1:]] == (["started"] if plan == "Free" and status == "active" else [])
        assert {line.effective_at for line in new} == {SINCE[since] or now}
    with scope(SERVICE):
        told = Event.objects.filter(type__startswith="subscription.", owner_id=world.bob.pk).order_by("id")
        assert [event.type for event in told] == [f"subscription.{line.code}" for line in member.history()]
    ask(world.act, world.bob, queries=0)
    prove(world)


@pytest.mark.parametrize("row", table(), ids=lambda row: f"{row[0]}-{row[1]}")
def test_to_hear_the_same_again_changes_nothing(member, row):
    """S-04, S-05"""
    stands, happens, *_, said = row
    member.stands(stands)
    if said == "refused":
        return
    member.happens(happens, stands)

    def everything():
        with scope(SERVICE):
            return (
                list(Subscription.objects.filter(brand=member.act).order_by("id").values()),
                SubscriptionHistory.objects.count(),
                Event.objects.count(),
                list(Entitlement.objects.order_by("id").values()),
            )

    before = everything()
    if happens not in ("subscribes", "subscribes a second time") or stands != "over":
        member.happens(happens, stands)
    lifecycle.advance(member.history()[-1].effective_at + timedelta(minutes=1))

    assert everything() == before
