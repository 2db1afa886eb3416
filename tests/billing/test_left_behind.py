"""Subscriptions that staff's own changes left behind: a plan that allows overage by now, another payment service. INV9"""

import json
from io import StringIO

import pytest
from django.core.management import call_command

from billing import left_behind, lifecycle, price_list, reports, tasks, till
from billing.models import Plan, Subscription, SubscriptionHistory
from chatsite.deployment import payments
from lib.db import SERVICE, scope
from quotas import ledger
from quotas.errors import QuotaExceeded
from tests.billing import shop
from tests.billing.test_stripe_overage import ask, told
from tests.billing.test_stripe_plans import later, standing

pytestmark = pytest.mark.django_db


def allow_overage(brand, code="basic", *, on):
    """As staff's page does it: the row, then everybody who is on it."""
    with scope(SERVICE):
        Plan.objects.filter(brand=brand, code=code).update(overage_allowed=on)
        plan = Plan.objects.get(brand=brand, code=code)
    if on:
        tasks.push_plan(str(plan.pk))


def wants_more(brand, user):
    with scope(SERVICE):
        ledger.set_overage(brand, user.pk, on=True, cap_microusd=None, actor_id=user.pk)


def meter_lines(brand, user):
    row = shop.subscription_of(brand, user)
    theirs = till.stripe().v1.subscriptions.retrieve(row.provider_subscription_id).to_dict()
    return [line["price"]["lookup_key"] for line in theirs["items"]["data"]]


def check(*options):
    said, code = StringIO(), 0
    try:
        call_command("check_billing", "--json", *options, stdout=said)
    except SystemExit as ended:
        code = ended.code
    return code, json.loads(said.getvalue())


@pytest.fixture
def early(world):
    """Bob subscribed to a plan that had no overage yet."""
    allow_overage(world.act, on=False)
    shop.subscribe(world.act, world.bob)
    shop.deliver()
    assert meter_lines(world.act, world.bob) == ["act:basic:month"]
    return world


def test_overage_that_staff_allow_reaches_who_subscribed_before_and_is_charged(early):
    """To the invoice: what bob asked beyond his plan, the plan having allowed it only after he paid for it."""
    act, bob = early.act, early.bob
    allow_overage(act, on=True)

    assert meter_lines(act, bob) == ["act:basic:month", "act:+overage:month"]
    shop.deliver()
    wants_more(act, bob)
    assert ask(act, bob, 15) == "plan"
    assert ask(act, bob, 4) == "overage"
    assert reports.report()["sent"] == 4
    assert told(act, bob) == 100_000
    later(act, bob, 31)
    shop.deliver()
    assert ("overage", "paid", 10) in shop.books_of(act, bob)


def test_nothing_goes_beyond_a_plan_before_its_subscription_has_the_meter(early, monkeypatch):
    """Else it would be used and charged by nobody: here Stripe is away when staff allow it."""
    act, bob = early.act, early.bob
    monkeypatch.setattr(price_list, "MOST_KEYS", 0)  # every question about prices fails

    allow_overage(act, on=True)

    assert left_behind.add_meter_lines().failed == 1
    wants_more(act, bob)
    ask(act, bob, 15)
    with pytest.raises(QuotaExceeded):
        ask(act, bob)
    assert "1 do not count what goes beyond" in " ".join(row.cause for row in payments.left_behind())
    monkeypatch.undo()
    assert tasks.add_meter_lines() == 1, "the next turn of the clock"
    assert ask(act, bob) == "overage"
    assert list(payments.left_behind()) == []


def test_the_meter_is_added_once_however_often_and_whatever_stripe_tells_late(early):
    """Repeats, an answer that was lost, and news from before the line."""
    act, bob = early.act, early.bob
    before = shop.news()
    allow_overage(act, on=True)

    for _ in range(3):
        with scope(SERVICE):
            Subscription.objects.filter(owner_id=bob.pk).update(has_meter=None)  # what was answered never arrived
        assert left_behind.add_meter_lines().mended == 1
    shop.deliver(before)

    assert meter_lines(act, bob) == ["act:basic:month", "act:+overage:month"]
    assert shop.subscription_of(act, bob).has_meter
    assert left_behind.add_meter_lines().mended == 0


def test_the_command_says_what_it_would_do_and_does_it(early):
    act, bob = early.act, early.bob
    with scope(SERVICE):
        Plan.objects.filter(brand=act, code="basic").update(overage_allowed=True)

    code, said = check()
    assert code == 1
    assert [(row["member"], row["plan"], row["what"]) for row in said["subscriptions"]] == [
        ("bob@example.com", "basic", "is given the meter")
    ]
    assert meter_lines(act, bob) == ["act:basic:month"], "without --apply nothing is changed"
    assert check("--apply")[0] == 0
    assert len(meter_lines(act, bob)) == 2
    assert check() == (0, {"is_done": False, "subscriptions": [], "refused": []})


def test_with_real_keys_what_was_bought_at_the_stand_in_is_named_and_ended(world, settings):
    """No money ever moved for it. Its member falls back, without a card, and the history says why."""
    act, bob = world.act, world.bob
    shop.subscribe(act, bob)
    shop.deliver()
    assert (check()[0], list(payments.left_behind())) == (0, []), "with the stand-in it is in order"
    settings.STRIPE_STAND_IN, settings.STRIPE_SECRET_KEY = False, "sk_live_1"

    assert "1 were begun at the stand-in" in " ".join(row.cause for row in payments.left_behind())
    code, said = check()
    assert code == 1
    assert [(row["member"], row["provider"], row["what"]) for row in said["subscriptions"]] == [
        ("bob@example.com", "local stand-in for Stripe", "ends")
    ]
    assert standing(act, bob) == ("basic", "active")
    assert check("--apply")[0] == 0

    assert standing(act, bob) == ("free", "active")
    row = shop.subscription_of(act, bob)
    assert (row.provider, row.is_billable) == ("", False)
    with scope(SERVICE):
        line = SubscriptionHistory.objects.filter(owner_id=bob.pk, code="cancelled").get()
    assert "where no money moves" in line.cancellation_comment
    assert check("--apply") == (0, {"is_done": True, "subscriptions": [], "refused": []})


@pytest.mark.parametrize(
    ("key", "kept", "ended"),
    [
        ("sk_live_1", {"stripe", ""}, {"stand_in", "stripe_test"}),
        ("sk_test_1", {"stripe", "stripe_test", ""}, {"stand_in"}),
        ("", {"stripe", "stripe_test", "stand_in", ""}, set()),
    ],
)
def test_what_people_pay_for_is_never_ended_by_another_key(world, settings, key, kept, ended):
    """Whoever tries a test key on a site that sells, or takes the key away, ends nothing."""
    settings.STRIPE_STAND_IN, settings.STRIPE_SECRET_KEY = False, key
    basic = shop.plan_of(world.act, "basic")
    for provider in kept | ended:
        its_id = f"sub_{provider}" if provider else ""
        owner = {"stripe": world.alice, "stripe_test": world.bob, "stand_in": world.charlie, "": world.staff}[provider]
        with scope(SERVICE):
            Subscription.objects.filter(brand=world.act, owner_id=owner.pk).update(ended_at="2026-01-01T00:00Z")
        facts = lifecycle.Facts(basic, provider=provider, provider_subscription_id=its_id, has_meter=True)
        lifecycle.take(world.act, owner.pk, facts)

    assert left_behind.end_those_of_another_service() == len(ended)

    with scope(SERVICE):
        rows = Subscription.objects.filter(brand=world.act, plan=basic, ended_at=None)
        assert set(rows.values_list("provider", flat=True)) == kept
