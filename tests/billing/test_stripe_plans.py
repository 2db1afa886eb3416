"""Plans bought, changed, ended, paid late: what Stripe says is what our rows say."""

import itertools
import os

import pytest
from django.db import transaction

from billing import till
from billing.errors import NotForSale, NotNow, PaymentRefused
from billing.models import Customer, Plan, SubscriptionHistory
from billing.standin import cards, customers, renewals, store
from lib.db import SERVICE, scope
from lib.errors import Invalid, NotFound
from quotas.models import Account
from tests.billing import shop

pytestmark = pytest.mark.django_db
DAY = 24 * 3600
ORDERS = int(os.environ.get("STRIPE_ORDERS", "20"))


def later(brand, user, days):
    """Let time pass at Stripe for this member."""
    whose = till.customer(brand, user).stripe_customer_id
    with store.changing():
        renewals.advance(whose, customers.own_time(whose) + days * DAY)


def edit(plan, **fields):
    with scope(SERVICE):
        Plan.objects.filter(pk=plan.pk).update(**fields)


def features_of(brand, user):
    with scope(SERVICE):
        return Account.objects.get(brand=brand, kind="user", owner_id=user.pk).features


def standing(brand, user):
    row = shop.subscription_of(brand, user)
    return row.plan.code, row.status


def test_a_plan_that_is_paid_for_is_in_force(world):
    session = shop.subscribe(world.act, world.bob, "basic")

    assert till.outcome(world.act, world.bob, session) == "waiting"
    outcomes = shop.deliver()

    assert set(outcomes.values()) == {"applied", "ignored"}
    row = shop.subscription_of(world.act, world.bob)
    assert (row.plan.code, row.status, row.provider, row.is_billable) == ("basic", "active", "stand_in", True)
    assert row.period_ends_at > row.period_starts_at
    assert shop.books_of(world.act, world.bob) == [("subscription", "paid", 999)]
    assert till.outcome(world.act, world.bob, session) == "done"
    assert features_of(world.act, world.bob)["is_billable"]


def test_five_events_of_one_life_end_the_same_in_every_order(world):
    """S-05."""
    shop.subscribe(world.act, world.bob, "basic")
    with store.changing():
        whose = till.customer(world.act, world.bob).stripe_customer_id
    row = till.stripe().v1.subscriptions.list(params={"customer": whose}).data[0]
    till.stripe().v1.subscriptions.update(row.id, params={"metadata": {"touched": "1"}})
    till.stripe().v1.subscriptions.cancel(row.id)
    wanted = [
        "checkout.session.completed",
        "customer.subscription.created",
        "customer.subscription.updated",
        "invoice.paid",
        "customer.subscription.deleted",
    ]
    told = {event["type"]: event for event in shop.news()}
    ends = set()
    orders = list(itertools.permutations(wanted))
    for order in orders[:: max(1, len(orders) // ORDERS)]:
        before = transaction.savepoint("service")
        shop.deliver(told[name] for name in order)
        ends.add((standing(world.act, world.bob), tuple(shop.books_of(world.act, world.bob)), bool(shop.parked())))
        transaction.savepoint_rollback(before, "service")

    assert ends == {(("free", "active"), (("subscription", "paid", 999),), False)}


@pytest.mark.parametrize("seed", range(2))
def test_a_life_told_late_twice_and_shuffled_ends_where_stripe_says(world, seed):
    """S-04, S-05: events arrive while the things they tell of go on changing."""
    shop.subscribe(world.act, world.bob, "basic")
    first = shop.news()
    shop.deliver(first[: seed * 2], shuffled=seed)
    later(world.act, world.bob, 32)
    shop.deliver(shop.news(), shuffled=seed)
    till.change_plan(world.act, world.bob, shop.plan_of(world.act, "pro"), cycle="month", key="up")

    shop.deliver([*first, *shop.news(), *shop.news()], shuffled=seed + 10)

    assert standing(world.act, world.bob) == ("pro", "active")
    paid = shop.books_of(world.act, world.bob)
    assert [line[:2] for line in paid] == [("subscription", "paid")] * 3
    assert not shop.parked()


def test_a_dearer_plan_is_at_once_and_its_price_is_said_before(world):
    shop.subscribe(world.act, world.bob, "basic")
    shop.deliver()
    pro = shop.plan_of(world.act, "pro")

    before = till.preview_change(world.act, world.bob, pro, cycle="month")
    change = till.change_plan(world.act, world.bob, pro, cycle="month", key="up")
    shop.deliver()

    assert before.is_upgrade
    assert before.due_microusd == pytest.approx(20_000_000, abs=20_000)
    assert (change.plan, str(before)) == (pro, str(change))
    assert "is charged now" in str(before)
    assert standing(world.act, world.bob) == ("pro", "active")
    assert shop.books_of(world.act, world.bob)[-1][2] * 10_000 == before.due_microusd


def test_a_cheaper_plan_waits_for_the_end_of_what_is_paid(world):
    """S-13."""
    shop.subscribe(world.act, world.bob, "pro")
    shop.deliver()
    basic = shop.plan_of(world.act, "basic")

    change = till.change_plan(world.act, world.bob, basic, cycle="month", key="down")
    shop.deliver()

    row = shop.subscription_of(world.act, world.bob)
    assert not change.is_upgrade
    assert change.starts_at == row.period_ends_at
    assert (row.plan.code, row.next_plan.code) == ("pro", "basic")
    assert [line[2] for line in shop.books_of(world.act, world.bob)] == [2999]
    later(world.act, world.bob, 32)
    shop.deliver()
    assert standing(world.act, world.bob) == ("basic", "active")
    assert [line[2] for line in shop.books_of(world.act, world.bob)] == [2999, 999]


def test_to_take_a_cheaper_plan_back_charges_nothing_twice(world):
    """S-13: Stripe's line has the cheaper price already, but what is paid until the period's end is the dearer plan."""
    shop.subscribe(world.act, world.bob, "basic")
    shop.deliver()
    basic, pro = shop.plan_of(world.act, "basic"), shop.plan_of(world.act, "pro")
    till.change_plan(world.act, world.bob, pro, cycle="month", key="up")
    shop.deliver()
    paid = [line[2] for line in shop.books_of(world.act, world.bob)]
    till.change_plan(world.act, world.bob, basic, cycle="month", key="down")
    shop.deliver()
    assert shop.subscription_of(world.act, world.bob).next_plan.code == "basic"

    back = till.change_plan(world.act, world.bob, pro, cycle="month", key="back")
    shop.deliver()

    row = shop.subscription_of(world.act, world.bob)
    assert (row.plan.code, row.next_plan, back.due_microusd) == ("pro", None, 0)
    assert [line[2] for line in shop.books_of(world.act, world.bob)] == paid
    later(world.act, world.bob, 32)
    shop.deliver()
    assert [line[2] for line in shop.books_of(world.act, world.bob)] == [*paid, 2999]


def test_a_dearer_plan_is_not_begun_while_a_cheaper_one_is_planned(world):
    shop.subscribe(world.act, world.bob, "pro")
    shop.deliver()
    till.change_plan(world.act, world.bob, shop.plan_of(world.act, "basic"), cycle="month", key="down")
    shop.deliver()
    edit(shop.plan_of(world.act, "pro"), annual_price_microusd=299_900_000)

    with pytest.raises(NotNow, match="A change to Basic is planned"):
        till.change_plan(world.act, world.bob, shop.plan_of(world.act, "pro"), cycle="year", key="up")

    assert [line[2] for line in shop.books_of(world.act, world.bob)] == [2999]


def test_cancelling_keeps_the_plan_until_the_end_and_can_be_taken_back(world):
    shop.subscribe(world.act, world.bob, "basic")
    shop.deliver()

    till.cancel(world.act, world.bob, reason="too_expensive", comment="Over my budget.")
    shop.deliver()
    assert shop.subscription_of(world.act, world.bob).cancel_at_period_end
    till.resume(world.act, world.bob)
    shop.deliver()
    assert not shop.subscription_of(world.act, world.bob).cancel_at_period_end
    till.cancel(world.act, world.bob, reason="unused")
    shop.deliver()
    assert standing(world.act, world.bob) == ("basic", "active")
    later(world.act, world.bob, 32)
    shop.deliver()

    assert standing(world.act, world.bob) == ("free", "active")
    with scope(SERVICE):
        asked = SubscriptionHistory.objects.filter(owner_id=world.bob.pk, code="cancel_planned").order_by("pk")
        assert [(row.cancellation_reason, row.cancellation_comment) for row in asked] == [
            ("too_expensive", "Over my budget."),
            ("unused", ""),
        ]


def test_a_renewal_that_fails_is_past_due_without_overage_until_it_is_paid(world):
    """S-13."""
    shop.subscribe(world.act, world.bob, "basic", card="fails-later")
    shop.deliver()
    later(world.act, world.bob, 32)
    shop.deliver()

    row = shop.subscription_of(world.act, world.bob)
    assert (row.plan.code, row.status) == ("basic", "past_due")
    assert row.grace_ends_at
    assert not features_of(world.act, world.bob)["overage_allowed"]
    assert shop.books_of(world.act, world.bob)[-1][:2] == ("subscription", "failed")
    shop.pay(till.store_payment_method(world.act, world.bob, origin=shop.ORIGIN))
    shop.deliver()
    whose = till.customer(world.act, world.bob).stripe_customer_id
    (owed,) = till.stripe().v1.invoices.list(params={"customer": whose, "status": "open"}).data
    till.stripe().v1.invoices.pay(owed.id)
    shop.deliver()
    assert standing(world.act, world.bob) == ("basic", "active")
    assert features_of(world.act, world.bob)["overage_allowed"]
    assert shop.books_of(world.act, world.bob) == [("subscription", "paid", 999)] * 2


def test_a_trial_costs_nothing_once_and_ends_without_a_card(world):
    edit(shop.plan_of(world.act, "basic"), trial_days=14)

    shop.subscribe(world.act, world.bob, "basic", card="none")
    shop.deliver()
    row = shop.subscription_of(world.act, world.bob)
    assert (row.plan.code, row.status, row.is_billable) == ("basic", "trialing", False)
    assert shop.books_of(world.act, world.bob) == []
    later(world.act, world.bob, 15)
    shop.deliver()
    assert standing(world.act, world.bob) == ("free", "active")

    shop.subscribe(world.act, world.bob, "basic", key="again")
    shop.deliver()
    assert standing(world.act, world.bob) == ("basic", "active")
    assert shop.books_of(world.act, world.bob) == [("subscription", "paid", 999)]


def test_a_second_subscription_from_another_tab_is_ended_and_refunded(world):
    """S-14: both pages were open before either was paid, and Stripe took both payments."""
    brand, bob = world.act, world.bob
    first = till.start_subscription(
        brand, bob, shop.plan_of(brand, "basic"), cycle="month", key="1", origin=shop.ORIGIN
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(till, "_close_older", lambda *_: None)
        second = till.start_subscription(
            brand, bob, shop.plan_of(brand, "pro"), cycle="month", key="2", origin=shop.ORIGIN
        )
    shop.pay(first)
    shop.pay(second)

    shop.deliver(shuffled=3)
    shop.deliver(shuffled=4)

    assert standing(brand, bob) == ("basic", "active")
    assert sorted(shop.books_of(brand, bob)) == [
        ("refund", "paid", -2999),
        ("subscription", "paid", 999),
        ("subscription", "refunded", 2999),
    ]


def test_an_older_page_for_a_plan_is_closed_by_a_newer_one(world):
    """S-14."""
    brand, bob = world.act, world.bob
    first = till.start_subscription(
        brand, bob, shop.plan_of(brand, "basic"), cycle="month", key="1", origin=shop.ORIGIN
    )
    same = till.start_subscription(brand, bob, shop.plan_of(brand, "basic"), cycle="month", key="1", origin=shop.ORIGIN)
    till.start_subscription(brand, bob, shop.plan_of(brand, "pro"), cycle="month", key="2", origin=shop.ORIGIN)

    assert first == same
    assert till.outcome(brand, bob, shop.session_of(first)) == "failed"
    shop.deliver()
    shop.subscribe(brand, bob, "pro", key="2")
    shop.deliver()
    with pytest.raises(NotNow, match="You pay for Pro already"):
        shop.subscribe(brand, bob, "basic", key="3")


def test_what_a_browser_sends_is_checked(world):
    """Bad input of the issue: tampered codes, other brands' plans, currencies that do not fit; nothing was charged."""
    brand, bob = world.act, world.bob

    def start(plan, cycle="month"):
        return till.start_subscription(brand, bob, plan, cycle=cycle, key="k", origin=shop.ORIGIN)

    for plan, cycle in (
        (shop.plan_of(world.globex, "basic"), "month"),
        (shop.plan_of(brand, "free"), "month"),
        (shop.plan_of(brand, "pool"), "month"),
        (shop.plan_of(brand, "basic"), "year"),
        (shop.plan_of(brand, "basic"), "week"),
        (shop.plan_of(brand, "basic"), ""),
    ):
        with pytest.raises(NotForSale):
            start(plan, cycle)
    edit(shop.plan_of(brand, "basic"), is_offered=False)
    with pytest.raises(NotForSale):
        start(shop.plan_of(brand, "basic"))
    edit(shop.plan_of(brand, "basic"), is_offered=True, currency="EUR")
    with pytest.raises(NotForSale, match="EUR"):
        start(shop.plan_of(brand, "basic"))
    for refused in (
        lambda: till.cancel(brand, bob, reason="unused"),
        lambda: till.resume(brand, bob),
        lambda: till.change_plan(brand, bob, shop.plan_of(brand, "pro"), cycle="month", key="k"),
    ):
        with pytest.raises(NotNow):
            refused()
    with pytest.raises(Invalid):
        till.cancel(brand, bob, reason="because")


def test_another_members_payment_is_not_found(world):
    session = shop.subscribe(world.act, world.bob, "basic")
    till.customer(world.act, world.alice)

    for brand, user, asked in (
        (world.act, world.alice, session),
        (world.globex, world.charlie, session),
        (world.act, world.bob, "cs_test_nothing"),
    ):
        with pytest.raises(NotFound):
            till.outcome(brand, user, asked)


def test_a_card_that_is_declined_changes_nothing(world):
    shop.subscribe(world.act, world.bob, "basic")
    shop.deliver()
    whose = till.customer(world.act, world.bob).stripe_customer_id
    with store.changing():
        bad = cards.attach(whose, "declined").pk
    (row,) = till.stripe().v1.subscriptions.list(params={"customer": whose}).data
    till.stripe().v1.subscriptions.update(row.id, params={"default_payment_method": bad})

    with pytest.raises(PaymentRefused, match="try another card"):
        till.change_plan(world.act, world.bob, shop.plan_of(world.act, "pro"), cycle="month", key="up")

    shop.deliver()
    assert standing(world.act, world.bob) == ("basic", "active")


def test_a_member_is_one_customer_however_many_tabs_ask(world):
    """S-11: the same call carries the same key."""
    first, second = (till.customer(world.act, world.bob) for _ in range(2))
    with scope(SERVICE):  # as if the process had died before it wrote the answer down
        Customer.objects.filter(pk=first.pk).update(provider="stripe", stripe_customer_id="cus_other")
    third = till.customer(world.act, world.bob)

    assert first.stripe_customer_id == second.stripe_customer_id == third.stripe_customer_id
    assert till.customer(world.act, world.alice).stripe_customer_id != third.stripe_customer_id
