"""What goes beyond a plan: used here, told to Stripe's meter once, on the next invoice. INV9, S-11, Q-21's other end."""

import json
from datetime import timedelta
from io import StringIO

import pytest
from django.core.management import call_command

from billing import plans, price_list, reports, till
from billing.errors import NotNow
from billing.models import OverageReport, Plan
from lib import clock
from lib.db import SERVICE, scope
from lib.ids import uuid7
from quotas import ledger, proof
from quotas.errors import QuotaExceeded
from quotas.models import Entry
from tests.billing import shop
from tests.billing.test_stripe_plans import later, standing

pytestmark = pytest.mark.django_db


@pytest.fixture
def act(world):
    with scope(SERVICE):
        Plan.objects.filter(brand=world.act, code="usage_only").update(overage_by_default=True, is_offered=True)
    return world.act


def ask(brand, user, times=1, *, now=None):
    """Questions that are answered; the pocket of the last. `now()` of a rolled-back test is when it began."""
    pocket, now = "", now or clock.now()
    for _ in range(times):
        reservation = uuid7()
        with scope(SERVICE):
            pocket = ledger.reserve(
                brand, asker=("user", user.pk), amounts={"queries": 1}, reservation=reservation, now=now
            )
            ledger.settle(reservation, amounts={"queries": 1}, now=now)
    return pocket


def pay_as_you_go(brand, user):
    shop.subscribe(brand, user, "usage_only")
    shop.deliver()
    assert standing(brand, user) == ("usage_only", "active")


def told(brand, user):
    """What Stripe's meter adds up for the member, in micro-units."""
    meters = till.stripe().v1.billing.meters
    (meter,) = (row for row in meters.list().data if row.event_name == price_list.METER)
    now = int(clock.now().timestamp())
    day = 24 * 3600
    whose = till.customer(brand, user).stripe_customer_id
    span = {"customer": whose, "start_time": (now - 40 * day) // day * day, "end_time": (now // day + 1) * day}
    return sum(int(row.aggregated_value) for row in meters.event_summaries.list(meter.id, params=span).data)


def overage_entries(brand):
    with scope(SERVICE):
        return list(Entry.objects.filter(brand=brand, bucket__pocket="overage", used_delta__gt=0).order_by("pk"))


def test_pay_as_you_go_is_asked_told_and_invoiced(act, world):
    """The seed's usage_only, end to end: $0.025 a question, forty of them are a dollar."""
    pay_as_you_go(act, world.bob)

    assert ask(act, world.bob, 40) == "overage"
    assert reports.report() == {"collected": 40, "sent": 40, "failed": 0}
    assert told(act, world.bob) == 1_000_000
    later(act, world.bob, 32)
    shop.deliver()

    assert shop.books_of(act, world.bob) == [("overage", "paid", 100)]


def test_each_entry_is_told_once_whatever_happens_in_between(act, world):
    """S-11, INV9: the answer of Stripe was lost, or the process died before it wrote it down."""
    pay_as_you_go(act, world.bob)
    ask(act, world.bob, 3)
    reports.report()
    with scope(SERVICE):
        OverageReport.objects.update(sent_at=None)

    assert reports.report() == {"collected": 0, "sent": 3, "failed": 0}
    assert reports.report() == {"collected": 0, "sent": 0, "failed": 0}

    assert told(act, world.bob) == 75_000
    with scope(SERVICE):
        assert {row.entry_id for row in OverageReport.objects.all()} == {entry.pk for entry in overage_entries(act)}


def test_what_was_reversed_is_not_charged(act, world):
    """Before it was told and afterwards: the sum at Stripe is the sum of the ledger."""
    pay_as_you_go(act, world.bob)
    ask(act, world.bob, 4)
    first, second, *_ = overage_entries(act)
    ledger.reverse(first.pk, reason="a broken answer", actor_id=world.staff.pk)
    reports.report()
    assert told(act, world.bob) == 75_000
    ledger.reverse(second.pk, reason="another", actor_id=world.staff.pk)
    reports.report()

    assert told(act, world.bob) == 50_000
    with scope(SERVICE):
        assert sum(Entry.objects.filter(bucket__pocket="overage").values_list("used_delta", flat=True)) == 50_000


def test_late_usage_counts_in_the_period_in_which_it_was_used(act, world):
    """The worker was away: what was used before the renewal is told after it, with its own time."""
    pay_as_you_go(act, world.bob)
    ask(act, world.bob, 2)
    reports.report()
    with scope(SERVICE):
        rows = list(OverageReport.objects.all())

    for row, entry in zip(rows, overage_entries(act), strict=True):
        assert row.used_at == entry.created_at


def test_what_could_not_be_told_is_named_by_check_balances(act, world):
    """INV9: nobody is billed for what Stripe does not know, and the nightly proof says whose it is."""
    pay_as_you_go(act, world.bob)
    ask(act, world.bob, 2, now=clock.now() - timedelta(hours=2))
    ask(act, world.bob, 1)
    said = StringIO()
    with pytest.raises(SystemExit):
        call_command("check_balances", "--json", stdout=said)

    (drift,) = json.loads(said.getvalue())["drifts"]
    assert drift["owner_id"] == str(world.bob.pk)
    assert "reported_microusd 0; its lines prove reported_microusd 50000" in drift["words"]
    reports.report()
    with scope(SERVICE):
        assert proof.drifts() == []


def test_what_nobody_can_be_charged_for_is_kept_with_its_reason(act, world):
    """A plan that staff gave, and no customer at Stripe: it stays in the outbox, and keeps nobody else from theirs."""
    pay_as_you_go(act, world.bob)
    ask(act, world.bob, 1)
    with scope(SERVICE):
        till.Customer.objects.update(provider="stripe")

    assert reports.report() == {"collected": 1, "sent": 0, "failed": 1}

    with scope(SERVICE):
        assert "no customer" in OverageReport.objects.get().error
        till.Customer.objects.update(provider="stand_in")
    assert reports.report() == {"collected": 0, "sent": 1, "failed": 0}


def test_a_plan_that_staff_gave_is_charged_for_what_goes_beyond_it(act, world):
    """Alice's Pro was given to her: storing a card is agreeing to the meter, and to nothing else."""
    session = shop.pay(till.store_payment_method(act, world.alice, origin=shop.ORIGIN))
    shop.deliver()

    row = shop.subscription_of(act, world.alice)
    assert till.outcome(act, world.alice, session) == "done"
    assert (row.plan.code, row.status, row.is_billable, row.provider) == ("pro", "active", True, "stand_in")
    assert shop.books_of(act, world.alice) == []
    with scope(SERVICE):
        ledger.set_overage(act, world.alice.pk, on=True, cap_microusd=None, actor_id=world.alice.pk)
    assert ask(act, world.alice, 40) == "plan"
    assert ask(act, world.alice, 1) == "overage"


def test_prices_follow_the_plans_and_nobodys_old_price_changes(act, world):
    """stripe_sync: dry run first; another sum is another price, to which the lookup key moves."""

    def sync(*options):
        said = StringIO()
        call_command("stripe_sync", "--brand=act", "--json", *options, stdout=said)
        return {step["key"]: step["did"] for step in json.loads(said.getvalue())["steps"]}

    shop.make_offer(act)
    wanted = {"act:basic:month", "act:pro:month", "act:small:once", "act:+overage:month"}
    assert set(sync()) >= wanted
    assert set(sync().values()) == {"made"}, "a dry run makes nothing"
    assert set(sync("--apply").values()) == {"made"}
    assert set(sync("--apply").values()) == {"kept"}
    shop.subscribe(act, world.bob, "basic")
    shop.deliver()
    with scope(SERVICE):
        Plan.objects.filter(brand=act, code="basic").update(price_microusd=12_990_000)

    changed = {key for key, did in sync("--apply").items() if did != "kept"}

    assert changed == {"act:basic:month"}
    (price,) = price_list.price_ids(act, "act:basic:month")
    assert till.stripe().v1.prices.retrieve(price).unit_amount == 1299
    later(act, world.bob, 32)
    shop.deliver()
    assert shop.books_of(act, world.bob) == [("subscription", "paid", 999)] * 2


def test_a_brand_with_two_currencies_and_a_sum_without_a_coin_are_refused(act, world):
    with scope(SERVICE):
        Plan.objects.filter(brand=act, code="pro").update(currency="EUR")
        Plan.objects.filter(brand=world.globex, code="pro").update(price_microusd=29_999_999)
    said = StringIO()

    with pytest.raises(SystemExit):
        call_command("stripe_sync", "--json", "--apply", stdout=said)

    refused = " ".join(json.loads(said.getvalue())["refused"])
    assert "Act sells in EUR and USD" in refused
    assert "globex: 29.999999 USD cannot be charged" in refused


def test_a_card_without_a_subscription_is_charged_by_nobody_so_nothing_goes_beyond_the_plan(act, world):
    """Stored on a plan without overage; then staff give one that has it: no invoice says what is used beyond."""
    shop.pay(till.store_payment_method(act, world.bob, origin=shop.ORIGIN))
    shop.deliver()
    assert shop.subscription_of(act, world.bob).is_billable
    with scope(SERVICE):
        plans.assign_plan(act, shop.plan_of(act, "basic"), user_id=world.bob.pk)
        ledger.set_overage(act, world.bob.pk, on=True, cap_microusd=None, actor_id=world.bob.pk)
    ask(act, world.bob, 15)

    with pytest.raises(QuotaExceeded) as refused:
        ask(act, world.bob)
    assert refused.value.extra["reason"] == "no_payment_method"
    shop.pay(till.store_payment_method(act, world.bob, origin=shop.ORIGIN))
    shop.deliver()

    assert ask(act, world.bob) == "overage"


def test_a_change_to_a_plan_with_overage_brings_the_meter_along(act, world):
    """What the new plan allows beyond it is on its invoices, though the old one had nothing of it."""
    with scope(SERVICE):
        Plan.objects.filter(brand=act, code="basic").update(overage_allowed=False)
    shop.subscribe(act, world.bob, "basic")
    shop.deliver()
    till.change_plan(act, world.bob, shop.plan_of(act, "pro"), cycle="month", key="up")
    shop.deliver()
    with scope(SERVICE):
        ledger.set_overage(act, world.bob.pk, on=True, cap_microusd=None, actor_id=world.bob.pk)
    ask(act, world.bob, 40)
    assert ask(act, world.bob, 4) == "overage"
    reports.report()

    later(act, world.bob, 31)
    shop.deliver()

    assert ("overage", "paid", 10) in shop.books_of(act, world.bob)


def test_whose_plan_was_given_pays_for_the_meter_alone_and_cannot_change_it(act, world):
    """Stripe has no line for the plan itself, so there is none that could be changed."""
    shop.pay(till.store_payment_method(act, world.alice, origin=shop.ORIGIN))
    shop.deliver()

    with pytest.raises(NotNow, match="was given to you"):
        till.preview_change(act, world.alice, shop.plan_of(act, "basic"), cycle="month")
