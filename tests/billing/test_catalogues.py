"""Four catalogues, and what each seed says of it, written here by hand from the seeds."""

import json

import pytest
from django.core.management import CommandError, call_command

from accounts.models import Brand
from billing import plans
from billing.books import CreditPackOffer
from billing.models import Plan
from lib.db import SERVICE, scope
from lib.errors import NotFound
from tests.quotas.proofs import together

CENT = 10_000  # micro-dollars

# S1, "Pricing Tiers", number by number: price a month, questions, window, overage allowed, its price and cap, BYOK, history.
S1 = {
    "free": (0, 10, "lifetime", False, None, None, False, 0),
    "basic": (999 * CENT, 15, "day", True, 25_000, 1000 * CENT, True, 30),
    "pro": (2999 * CENT, 40, "day", True, 25_000, 1000 * CENT, True, 90),
    "usage_only": (0, 0, "month", True, 25_000, 1000 * CENT, True, 0),  # its cap is ours
}
# What S2 and S3 name: the plans, and of S2 what free includes.
S2 = {"free": 5, "starter": None, "pro": None, "business": None}
S3 = ["free", "starter", "professional", "enterprise"]
UNIT = {"s1": "queries", "s2": "conversations", "s3": "messages"}
# What no seed gives for any plan, so that it must be marked as ours wherever it stands in a fixture.
NEVER_GIVEN = {"description", "annual_price_microusd", "trial_days", "expires_after_days"}


def fixture(name):
    return json.loads((plans.CATALOGUES / f"{name}.json").read_text())


def installed(brand):
    with scope(SERVICE):
        return {plan.code: plan for plan in Plan.objects.filter(brand=brand).prefetch_related("limits")}


@pytest.fixture
def fresh(db):
    """A brand that nobody gave anything yet."""

    def give(*names):
        with scope(SERVICE):
            brand = Brand.objects.create(slug="initech", name="Initech", domain="initech.localhost")
        for name in names:
            plans.install_catalogue(brand, name)
        return brand

    return give


def test_s1_is_what_the_seed_says_to_the_number(fresh):
    found = installed(fresh("s1"))

    assert found.keys() == S1.keys()
    for code, (price, questions, window, overage, overage_price, cap, byok, history) in S1.items():
        plan, (limit,) = found[code], found[code].limits.all()
        assert (plan.price_microusd, plan.currency, plan.unit, plan.trial_days) == (price, "USD", "queries", 0)
        assert plan.annual_price_microusd is None
        assert (limit.meter, limit.window, limit.limit) == ("queries", window, questions)
        assert (plan.byok_allowed, plan.overage_allowed, plan.retention_days) == (byok, overage, history)
        assert plan.overage_by_default == (code == "usage_only")
        if overage:
            assert (plan.overage_price_microusd, plan.overage_cap_microusd) == (overage_price, cap)
        assert plan.is_offered


def test_s2_counts_conversations_by_the_month(fresh):
    found = installed(fresh("s2"))

    assert found.keys() == S2.keys()
    for code, included in S2.items():
        (limit,) = found[code].limits.all()
        assert (found[code].unit, limit.meter, limit.window) == ("conversations", "conversations", "month")
        assert included is None or limit.limit == included


def test_s3_counts_messages_by_the_month_with_a_trial_and_a_year_for_ten_months(fresh):
    found = installed(fresh("s3"))

    assert list(found) == S3
    for code in S3:
        plan, (limit,) = found[code], found[code].limits.all()
        assert (plan.unit, limit.meter, limit.window) == ("messages", "messages", "month")
        if code != "free":
            assert plan.annual_price_microusd == 10 * plan.price_microusd > 0
            assert plan.trial_days > 0


def test_s0_is_a_pool_of_tokens_by_the_month_for_the_brand(fresh):
    found = installed(fresh("s0"))

    (limit,) = found["pool"].limits.all()
    assert found["pool"].subject == Plan.Subject.BRAND
    assert (limit.meter, limit.window) == ("tokens", "month")
    assert [line.limit for line in found["pooled"].limits.all()] == [None]


@pytest.mark.parametrize("name", ["s0", "s1", "s2", "s3"])
def test_what_a_seed_does_not_give_is_marked_as_ours(name):
    catalogue = fixture(name)

    for row in catalogue["plans"] + catalogue["packs"]:
        ours = set(row["ours"])
        assert ours <= row.keys() | {"limits"}, f"{row['code']} marks what it does not have"
        assert NEVER_GIVEN & row.keys() <= ours, row["code"]
    if name in ("s2", "s3"):
        for row in catalogue["plans"]:
            assert ("price_microusd" in row) == ("price_microusd" in row["ours"])
    assert all({"amount", "price_microusd"} <= set(pack["ours"]) for pack in catalogue["packs"])


@pytest.mark.parametrize("name", ["s0", "s1", "s2", "s3"])
def test_every_plan_of_a_catalogue_would_pass_staffs_own_form_and_has_a_limit_of_its_unit(fresh, name):
    brand = fresh(name)

    for plan in installed(brand).values():
        with scope(SERVICE):
            plan.full_clean()
            for limit in plan.limits.all():
                limit.full_clean()
        assert plan.unit in {limit.meter for limit in plan.limits.all()} or plan.subject == Plan.Subject.BRAND
    with scope(SERVICE):
        units = {plan.unit for plan in Plan.objects.filter(brand=brand)}
        for offer in CreditPackOffer.objects.filter(brand=brand):
            offer.full_clean()
            assert offer.meter in units


def test_packs_come_with_the_catalogue(fresh):
    brand = fresh("s1")

    with scope(SERVICE):
        offers = CreditPackOffer.objects.filter(brand=brand).order_by("position")
        assert [(offer.name, offer.meter, offer.amount, offer.price_microusd) for offer in offers] == [
            ("200 questions", "queries", 200, 500 * CENT),
            ("1,000 questions", "queries", 1000, 2500 * CENT),
        ]
        assert {offer.expires_after_days for offer in offers} == {None}


def test_a_brand_without_a_default_plan_gets_the_catalogues_and_keeps_one_it_has(fresh):
    brand = fresh("s3")
    assert brand.default_plan == "free"
    with scope(SERVICE):
        brand.default_plan = "starter"
        brand.save()

    plans.install_catalogue(brand, "s0")

    brand.refresh_from_db()
    assert brand.default_plan == "starter"


def test_a_second_catalogue_leaves_what_is_there_and_the_comparison_says_so(fresh):
    brand = fresh("s1")
    with scope(SERVICE):
        Plan.objects.filter(brand=brand, code="basic").delete()
        Plan.objects.filter(brand=brand, code="free").update(name="Taster")
        CreditPackOffer.objects.filter(brand=brand, code="200-questions").update(price_microusd=1)
        compared = plans.compare_catalogue(brand, "s1")

    assert [plan.code for plan in compared.new] == ["basic"]
    assert [plan.name for plan in compared.kept] == ["Taster", "Pro", "Pay per use"]
    assert compared.new_packs == []
    assert [plan.code for plan in plans.install_catalogue(brand, "s1")] == ["basic"]
    with scope(SERVICE):
        assert Plan.objects.get(brand=brand, code="free").name == "Taster"
        assert CreditPackOffer.objects.get(brand=brand, code="200-questions").price_microusd == 1


@pytest.mark.parametrize(
    ("has", "gets", "shared"), [("s1", "s2", "free"), ("s2", "s3", "starter"), ("s3", "s1", "free")]
)
def test_a_catalogue_that_would_mix_two_units_on_one_brand_is_refused_and_gives_nothing(
    fresh, has, gets, shared, capsys
):
    brand = fresh(has)
    before = installed(brand).keys()

    with pytest.raises(plans.MixedUnits, match=f"{shared} counts {UNIT[has]} here and {UNIT[gets]} there"):
        plans.install_catalogue(brand, gets)
    for apply in ([], ["--apply"]):
        with pytest.raises(CommandError, match="Nothing was given"):
            call_command("install_catalogue", "--brand=initech", f"--catalogue={gets}", *apply)

    assert installed(brand).keys() == before
    plans.install_catalogue(brand, "s0")  # which shares no code with it


def test_a_unit_that_staff_changed_themselves_keeps_nobody_from_what_would_bring_nothing_new(fresh):
    brand = fresh("s1")
    with scope(SERVICE):
        Plan.objects.filter(brand=brand, code="free").update(unit="messages")

    assert plans.install_catalogue(brand, "s1") == []


@pytest.mark.parametrize("name", ["s9", "../s1", ""])
def test_a_catalogue_that_is_none_is_refused_with_the_names(fresh, name):
    with pytest.raises(NotFound, match="There are: s0, s1, s2, s3"):
        fresh(name)


@pytest.mark.django_db(transaction=True)
def test_two_that_install_at_once_make_each_plan_once(live_world):
    with scope(SERVICE):
        Plan.objects.filter(brand=live_world.act, code__in=("basic", "usage_only")).delete()

    outcomes = together(4, lambda _: len(plans.install_catalogue(live_world.act, "s1")))

    assert sorted(outcomes) == [0, 0, 0, 2]
