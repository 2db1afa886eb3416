"""What people see of prices, plans and usage: alice is on Pro and owns act, bob is on Free, charlie is elsewhere."""

import re
from datetime import UTC, datetime, timedelta

import pytest
from django.test import Client

from accounts import brands
from accounts.models import Brand
from billing import lifecycle
from billing.models import BillingTransaction, CreditPackOffer, Plan, Subscription
from lib import clock
from lib.db import SERVICE, scope
from lib.ids import uuid7
from quotas import ledger
from quotas.models import Account, UsageLog

PERIOD_END = datetime(2030, 12, 4, 12, tzinfo=UTC)


@pytest.fixture(autouse=True)
def only_s1(world):
    """What `make_brand` gives on top (the pool) is no plan for members."""
    with scope(SERVICE):
        Plan.objects.filter(code="pooled").update(is_offered=False)


def browser(user=None, host="act.localhost"):
    client = Client(headers={"host": host})
    if user:
        client.force_login(user)
    return client


def text_of(response):
    """The page as it reads, without marks and doubled spaces."""
    body = response.content.decode().split("<main", 1)[1]
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", body))


def read(path, user=None, host="act.localhost", status=200):
    response = browser(user, host).get(path)
    assert response.status_code == status
    return text_of(response)


def set_plan(brand, code, **fields):
    with scope(SERVICE):
        Plan.objects.filter(brand=brand, code=code).update(**fields)


def subscribe(brand, user, **fields):
    """The member's subscription as somebody who collects money would have left it."""
    fields = {"provider": "stand_in", "provider_subscription_id": "sub_1", **fields}
    with scope(SERVICE):
        Subscription.objects.filter(brand=brand, owner_id=user.pk, ended_at=None).update(**fields)


def account(brand, user):
    return Account.objects.get(brand=brand, kind="user", owner_id=user.pk)


def test_a_stranger_reads_every_plan_its_price_and_what_is_in_it(world):
    said = read("/pricing/")

    for words in (
        "Free", "$0", "10 questions in total", "No extra questions", "No own model key",
        "Basic", "$9.99 a month", "15 questions a day", "Chats are kept 30 days",
        "Pro", "$29.99 a month", "40 questions a day", "Chats are kept 90 days",
        "Extra questions at $0.025 a question if you allow them, at most $10 a month",
    ):  # fmt: skip
        assert words in said, words
    assert "Token pool" not in said
    assert "Your plan" not in said


def test_what_is_not_offered_is_not_shown_and_another_brand_has_its_own_prices(world):
    set_plan(world.act, "basic", is_offered=False)
    set_plan(world.act, "pro", is_active=False)
    set_plan(world.globex, "basic", price_microusd=12_500_000, currency="EUR", overage_price_microusd=30_000)

    here, there = read("/pricing/"), read("/pricing/", host="globex.localhost")

    assert "Basic" not in here
    assert "Pro" not in here
    assert "€12.50 a month" in there
    assert "€0.03 a question" in there
    assert "€12.50" not in here


def test_a_brand_that_sells_nothing_says_so(world):
    with scope(SERVICE):
        Plan.objects.filter(brand=world.act).update(is_offered=False)
        CreditPackOffer.objects.filter(brand=world.act).update(is_active=False)

    said = read("/pricing/")

    assert "Act sells no plans" in said
    assert "Before you pay" not in said


@pytest.mark.parametrize(
    ("basic", "pro", "words"),
    [
        (99_900_000, 299_900_000, "Yearly, 2 months free"),
        (109_890_000, None, "Yearly, 1 month free"),
        (99_900_000, 329_890_000, "Yearly"),
        (100_000_000, None, "Yearly"),
        (None, None, None),
    ],
)
def test_the_year_claims_only_the_months_that_every_plan_gives(world, basic, pro, words):
    set_plan(world.act, "basic", annual_price_microusd=basic)
    set_plan(world.act, "pro", annual_price_microusd=pro)

    body = browser().get("/pricing/").content.decode()
    found = re.search(r'id="annual"[^>]*>([^<]*)<', body)

    assert (found and found[1]) == words


def test_a_member_sees_the_plan_they_have_and_a_guest_of_another_brand_is_a_stranger(world):
    own, guest = browser(world.bob).get("/pricing/"), browser(world.charlie).get("/pricing/")

    assert text_of(own).count("Your plan") == 1
    assert 'id="plan-free"' in own.content.decode().split("Your plan")[0].rsplit("<section", 1)[1]
    assert "Your plan" not in text_of(guest)


def test_promises_follow_the_rows_and_not_the_names(world):
    with scope(SERVICE):
        plan = Plan.objects.get(brand=world.act, code="pro")
        plan.limits.update(limit=None)
    set_plan(world.act, "pro", byok_allowed=False, retention_days=None, overage_allowed=False, trial_days=14)
    set_plan(world.act, "basic", unit="messages")

    said = read("/pricing/")

    for words in ("As many questions as you like", "14 days for free first", "Chats are kept until you delete them"):
        assert words in said, words
    assert "$0.025 a message" in said


def test_the_brands_own_retention_and_a_trial_that_was_had_change_what_is_promised(world):
    """What the brand keeps counts before what the plan says, and nobody is promised a second trial."""
    set_plan(world.act, "pro", trial_days=14)
    with scope(SERVICE):
        Brand.objects.filter(pk=world.act.pk).update(retention_days=7)
        brands.forget()
        lifecycle.take(
            world.act,
            world.bob.pk,
            lifecycle.Facts(
                plan=Plan.objects.get(brand=world.act, code="pro"),
                status="trialing",
                trial_ends_at=clock.now() + timedelta(days=14),
            ),
        )

    stranger, had_it = read("/pricing/"), read("/pricing/", world.bob)

    assert stranger.count("Chats are kept 7 days") == stranger.count("Chats are kept") == 4
    assert "14 days for free first" in stranger
    assert "for free first" not in had_it


def test_packs_on_offer_say_how_much_and_how_long(world):
    with scope(SERVICE):
        CreditPackOffer.objects.all().delete()
        common = {"brand": world.act, "meter": "queries", "currency": "USD"}
        CreditPackOffer.objects.create(code="a", name="A", amount=1000, price_microusd=25_000_000, **common)
        CreditPackOffer.objects.create(
            code="b", name="B", amount=200, price_microusd=5_000_000, expires_after_days=90, **common
        )
        CreditPackOffer.objects.create(code="c", name="C", amount=1, price_microusd=1, is_active=False, **common)

    said = read("/pricing/")

    assert "1,000 questions, $25, never expires" in said
    assert "200 questions, $5, expires after 90 days" in said
    assert "expires" not in read("/pricing/", host="globex.localhost")


STANDS = {
    "renews": ({"period_ends_at": PERIOD_END}, ["Renews on 4 December 2030 for $29.99 a month."]),
    "yearly": (
        {"period_ends_at": PERIOD_END, "cycle": "year"},
        ["Renews on 4 December 2030 for $299.90 a year.", "$299.90 a year"],
    ),
    "trial": (
        {"status": "trialing", "trial_ends_at": PERIOD_END, "is_billable": True},
        ["Free until 4 December 2030, then $29.99 a month. Cancel before, and nothing is charged.", "Trial"],
    ),
    "trial without a card": (
        {"status": "trialing", "trial_ends_at": PERIOD_END},
        ["Free until 4 December 2030. Then it ends and nothing is charged, unless you store a card before.", "Trial"],
    ),
    "trial that staff gave": (
        {"status": "trialing", "trial_ends_at": PERIOD_END, "provider_subscription_id": ""},
        ["Free until 4 December 2030. Then it ends, and nothing is charged. Choose the plan to go on with it."],
    ),
    "cancelled": (
        {"cancel_at_period_end": True, "period_ends_at": PERIOD_END},
        ["Ends on 4 December 2030. Until then everything stays as it is, and you can take it back."],
    ),
    "past_due": (
        {"status": "past_due", "grace_ends_at": PERIOD_END, "period_ends_at": PERIOD_END},
        ["The last payment failed. Your plan stays until 4 December 2030, without extra questions.", "Payment failed"],
    ),
    "grace over": (
        {"status": "past_due", "grace_ends_at": datetime(2026, 1, 1, tzinfo=UTC)},
        ["The last payment failed. Your plan is out of force until it is paid."],
    ),
}


@pytest.mark.parametrize("name", STANDS)
def test_the_page_says_how_the_plan_stands_and_what_to_do(world, name):
    set_plan(world.act, "pro", annual_price_microusd=299_900_000)
    fields, sentences = STANDS[name]
    if "period_ends_at" in fields:
        fields = {"period_starts_at": PERIOD_END - timedelta(days=30), **fields}
    subscribe(world.act, world.alice, **fields)

    said = read("/settings/plan/", world.alice)

    for sentence in sentences:
        assert sentence in said, sentence


def test_a_downgrade_that_waits_is_named_with_its_day(world):
    with scope(SERVICE):
        basic = Plan.objects.get(brand=world.act, code="basic")
    subscribe(
        world.act,
        world.alice,
        next_plan=basic,
        period_starts_at=PERIOD_END - timedelta(days=30),
        period_ends_at=PERIOD_END,
    )

    assert "Becomes Basic on 4 December 2030." in read("/settings/plan/", world.alice)


def test_what_costs_nothing_by_itself_does_not_renew_for_a_price(world):
    set_plan(world.act, "pro", price_microusd=0)
    subscribe(world.act, world.alice, period_starts_at=PERIOD_END - timedelta(days=30), period_ends_at=PERIOD_END)

    said = read("/settings/plan/", world.alice)

    assert "A new month begins on 4 December 2030." in said
    assert "Renews" not in said


def test_who_tries_a_plan_that_nobody_charges_for_can_buy_it(world):
    subscribe(world.act, world.alice, status="trialing", trial_ends_at=PERIOD_END, provider_subscription_id="")
    assert "Choose Pro" in read("/pricing/", world.alice)

    subscribe(world.act, world.alice, status="trialing", trial_ends_at=PERIOD_END)
    assert "Choose Pro" not in read("/pricing/", world.alice)


def test_a_failed_payment_is_why_there_is_nothing_extra(world):
    subscribe(world.act, world.alice, status="past_due", grace_ends_at=PERIOD_END)
    with scope(SERVICE):
        lifecycle.entitle(world.act, world.alice.pk, lifecycle.current(world.act, world.alice.pk), now=clock.now())

    said = read("/settings/plan/", world.alice)

    assert "Extra off until the failed payment is made" in said
    assert "Extra questions are off until the failed payment is made." in said
    assert "Your plan has no extra questions" not in said
    assert "not part of your plan" not in said


def test_a_plan_that_includes_nothing_shows_no_meter_of_nothing(world):
    """Pay per use: "0 of 0 left, starts again on 21 December" would say that nothing can be asked until then."""
    with scope(SERVICE):
        ledger.entitle(
            world.act,
            kind="user",
            owner_id=world.alice.pk,
            plan_name="Pay per use",
            grants=[ledger.Grant("queries", "month", 0)],
            features={"overage_allowed": True, "overage_by_default": True, "is_billable": True,
                      "overage_price_microusd": 25_000, "overage_cap_microusd": 10_000_000},
        )  # fmt: skip

    said = read("/settings/plan/", world.alice)

    assert "of 0 left" not in said
    assert "Plan nothing included" in said
    assert "On your plan you pay $0.025 a question, up to the cap below." in said


def test_what_was_not_sent_is_not_said_to_be_kept(world):
    ledger.reserve(world.act, asker=("user", world.bob.pk), amounts={"queries": 10}, reservation=uuid7())

    said = read("/settings/plan/", world.bob)

    assert "All 10 questions of your plan are used." in said
    assert "Your text is kept" not in said
    assert "When it has nothing left, a pack or a larger plan gives more." in said


def test_somebody_without_a_plan_is_led_to_the_prices(world):
    with scope(SERVICE):
        Subscription.objects.filter(owner_id=world.bob.pk).update(ended_at=clock.now())

    said = read("/settings/plan/", world.bob)

    assert "You have no plan here yet" in said
    assert "See plans" in said


def test_what_is_used_and_held_and_left_is_told_with_the_hour_of_the_reset(world):
    ledger.reserve(world.act, asker=("user", world.alice.pk), amounts={"queries": 3}, reservation=uuid7())
    held = uuid7()
    ledger.reserve(world.act, asker=("user", world.alice.pk), amounts={"queries": 2}, reservation=held)
    ledger.settle(held, amounts={"queries": 2})

    said = read("/settings/plan/", world.alice)

    assert "Questions today 35 of 40 left" in said
    assert "2 used, 3 held for answers that are running. Starts again" in said
    assert "35 questions left, starts again" in said


def test_the_last_thirty_days_are_drawn_and_told_as_a_table(world):
    now = clock.now()
    with scope(SERVICE):
        for pocket in ("plan", "plan", "pack", "overage", "own_key"):
            UsageLog.objects.create(
                brand=world.act, owner_id=world.alice.pk, usage_type="message", reservation=uuid7(), pocket=pocket,
                model="demo", counted_against_quota=pocket in ("plan", "pack"), overage=pocket == "overage",
                byok=pocket == "own_key", total_cost_microusd=25_000 if pocket == "overage" else 0,
            )  # fmt: skip

    response = browser(world.alice).get("/settings/plan/")
    said, body = text_of(response), response.content.decode()

    assert "5 questions in all; the most on one day were 5" in said
    assert body.count("<rect class=") == 4
    assert f"{now:%-d %b} 2 1 1 1" in said
    assert said.count("demo") == 5
    assert "$0.025" in said
    assert "demo" not in read("/settings/plan/", world.bob)


def test_single_uses_are_paged_by_where_the_last_page_ended(world):
    with scope(SERVICE):
        for number in range(45):
            UsageLog.objects.create(
                brand=world.act,
                owner_id=world.alice.pk,
                usage_type="message",
                reservation=uuid7(),
                model=f"paged-{number:03}",
            )

    client, path, seen = browser(world.alice), "/settings/plan/", []
    for _ in range(3):
        body = client.get(path).content.decode()
        seen += re.findall(r"paged-\d{3}", body)
        older = re.search(r'href="(\?before=[0-9a-f-]+)#usage"', body)
        path = f"/settings/plan/{older[1]}" if older else ""

    assert seen == [f"paged-{number:03}" for number in reversed(range(45))]
    assert path == ""
    assert client.get("/settings/plan/?before=nonsense").status_code == 400


def test_payments_stand_with_number_sum_status_and_link(world):
    common = {
        "brand": world.act, "owner_id": world.alice.pk, "currency": "USD", "payment_provider": "stand_in",
        "happened_at": PERIOD_END,
    }  # fmt: skip
    with scope(SERVICE):
        BillingTransaction.objects.create(
            type="subscription", status="paid", description="Pro", amount_microusd=29_990_000, tax_amount_microusd=6_000_000,
            total_amount_microusd=35_990_000, provider_transaction_id="in_1", invoice_number="A-1",
            invoice_url="https://invoice.example.com/1", **common,
        )  # fmt: skip
        BillingTransaction.objects.create(
            type="refund", status="paid", description="Refund", amount_microusd=-5_000_000, total_amount_microusd=-5_000_000,
            provider_transaction_id="re_1", invoice_url="javascript:alert(1)", **common,
        )  # fmt: skip

    response = browser(world.alice).get("/settings/plan/")
    said = text_of(response)

    assert "4 December 2030 Pro A-1 $35.99 with $6 tax Paid" in said
    assert "-$5 Paid" in said
    assert 'href="https://invoice.example.com/1"' in response.content.decode()
    assert "javascript:" not in response.content.decode()
    assert "A-1" not in read("/settings/plan/", world.bob)


def test_admins_see_the_brands_pool_what_was_added_and_who_used_what(world):
    ledger.top_up(world.act, meter="tokens", amount=500_000, reason="ticket 7")
    with scope(SERVICE):
        for user, tokens in ((world.alice, 100), (world.bob, 2500)):
            UsageLog.objects.create(
                brand=world.act, owner_id=user.pk, usage_type="message", reservation=uuid7(), total_tokens=tokens,
                model_cost_microusd=1_500,
            )  # fmt: skip
        UsageLog.objects.create(
            brand=world.act, owner_id=uuid7(), usage_type="message", reservation=uuid7(), total_tokens=1
        )
        UsageLog.objects.create(
            brand=world.globex,
            owner_id=world.charlie.pk,
            usage_type="message",
            reservation=uuid7(),
            total_tokens=77_777,
        )

    said = read("/manage/plan/", world.alice)

    assert "Token pool" in said
    assert "500,000 tokens ticket 7" in said
    assert "bob@example.com 1 2,500 $0.0015 $0 alice@example.com 1 100" in said
    assert "A visitor, or somebody who left 1 1 $0" in said
    assert "77,777" not in said
    assert "charlie" not in said
    assert browser(world.bob).get("/manage/plan/").status_code == 404
