"""Staff's pages of plans and subscriptions."""

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from billing.models import Plan, PlanLimit, Subscription
from lib.db import SERVICE, scope
from quotas.models import Account
from tests.factories import make_member, make_user
from tests.quotas.proofs import ask, numbers, prove


@pytest.fixture
def staff(world, client):
    client.force_login(world.staff)
    client.defaults["HTTP_HOST"] = "act.localhost"
    return client


def plan_of(brand, code):
    with scope(SERVICE):
        return Plan.objects.get(brand=brand, code=code)


def limits_of(plan):
    with scope(SERVICE):
        return {(limit.meter, limit.window, limit.limit) for limit in PlanLimit.objects.filter(plan=plan)}


# What free says of itself, beside what form_of() sends.
AS_FREE = {"price_microusd": 0, "period": "none", "retention_days": 0}


def form_of(plan, *limits, **fields):
    """What the browser sends for a plan with these (id, meter, window, limit) lines."""
    sent = {
        "name": plan.name if plan else "Gold", "price_microusd": 9_990_000, "currency": "USD", "period": "month",
        "trial_days": 0, "overage_price_microusd": 25_000, "overage_cap_microusd": 10_000_000, "position": 5,
        "is_active": "on", "unit": plan.unit if plan else "queries",
        "limits-TOTAL_FORMS": len(limits), "limits-INITIAL_FORMS": sum(bool(row[0]) for row in limits),
    }  # fmt: skip
    for at, (pk, meter, window, limit) in enumerate(limits):
        line = {"id": pk or "", "plan": plan.pk if plan else "", "meter": meter, "window": window, "limit": limit}
        sent |= {f"limits-{at}-{name}": value for name, value in line.items()}
    return sent | fields


def test_lists_ask_the_same_number_of_questions_however_many_rows(staff, world):
    def questions():
        with CaptureQueriesContext(connections["service"]) as seen:
            for name in ("plan", "subscription"):
                assert staff.get(reverse(f"admin:billing_{name}_changelist")).status_code == 200
        return len(seen)

    before = questions()
    for number in range(10):
        make_member(world.act, make_user(f"member{number}@example.com"))

    assert questions() <= before


def test_a_plan_shows_its_price_in_dollars_its_limits_and_who_is_on_it(staff, world):
    shown = staff.get(
        reverse("admin:billing_plan_changelist"), {"brand__id__exact": str(world.act.pk)}
    ).content.decode()

    assert "$9.99 a month" in shown
    assert "15 queries per day" in shown
    row = shown[shown.index(f"/plan/{plan_of(world.act, 'pro').pk}/") :]
    assert '<td class="field-subscribers">1</td>' in row[: row.index("</tr>")]


def test_staff_make_a_plan_with_its_limits(staff, world):
    sent = form_of(
        None,
        (None, "queries", "day", 99),
        (None, "tokens", "month", ""),
        brand=world.act.pk,
        code="gold",
        subject="member",
    )

    response = staff.post(reverse("admin:billing_plan_add"), sent)

    assert response.status_code == 302, response.context and response.context["errors"]
    assert limits_of(plan_of(world.act, "gold")) == {("queries", "day", 99), ("tokens", "month", None)}


def test_a_changed_limit_reaches_those_who_are_on_the_plan(staff, world, django_capture_on_commit_callbacks):
    """Q-18"""
    plan = plan_of(world.act, "free")
    ask(world.act, world.bob)
    with scope(SERVICE):
        line = plan.limits.get()

    with django_capture_on_commit_callbacks(using="service", execute=True):
        sent = form_of(plan, (line.pk, "queries", "lifetime", 12), **AS_FREE, confirmed="on")
        assert staff.post(reverse("admin:billing_plan_change", args=[plan.pk]), sent).status_code == 302

    assert numbers(world.act, world.bob.pk, "queries") == (12, 0, 1)
    prove(world)


def test_a_plan_is_switched_off_never_deleted_and_keeps_its_code(staff, world):
    plan = plan_of(world.act, "pro")

    assert staff.post(reverse("admin:billing_plan_delete", args=[plan.pk]), {"post": "yes"}).status_code == 403
    staff.post(reverse("admin:billing_plan_change", args=[plan.pk]), form_of(plan, code="other", brand=world.globex.pk))

    assert plan_of(world.act, "pro").pk == plan.pk


def test_a_negative_limit_is_refused(staff, world):
    plan = plan_of(world.act, "free")
    with scope(SERVICE):
        line = plan.limits.get()

    response = staff.post(
        reverse("admin:billing_plan_change", args=[plan.pk]), form_of(plan, (line.pk, "queries", "lifetime", -1))
    )

    assert response.status_code == 200
    assert limits_of(plan) == {("queries", "lifetime", 10)}


def test_to_change_a_members_plan_is_to_add_a_subscription(staff, world):
    ask(world.act, world.bob)

    response = staff.post(
        reverse("admin:billing_subscription_add"),
        {"plan": plan_of(world.act, "basic").pk, "member": "bob@example.com"},
    )

    assert response.status_code == 302, response.context and response.context["errors"]
    with scope(SERVICE):
        history = Subscription.objects.filter(owner_id=world.bob.pk).order_by("id")
        assert [(row.plan.code, row.ended_at is None) for row in history] == [("free", False), ("basic", True)]
        assert Account.objects.get(brand=world.act, owner_id=world.bob.pk).plan_code == "basic"
        current = history.last()
    shown = staff.get(reverse("admin:billing_subscription_change", args=[current.pk])).content.decode()
    assert "bob@example.com" in shown
    assert staff.post(reverse("admin:billing_subscription_change", args=[current.pk]), {}).status_code == 403
    assert staff.post(reverse("admin:billing_subscription_delete", args=[current.pk]), {}).status_code == 403
    found = staff.get(reverse("admin:billing_subscription_changelist"), {"q": "bob@example.com"}).content.decode()
    assert "alice@example.com" not in found
    prove(world)


@pytest.mark.parametrize(
    ("code", "member", "words"),
    [
        ("basic", "", "a plan for a member: give the address"),
        ("basic", "charlie@example.com", "is not a member of Act"),
        ("pool", "bob@example.com", "for the brand as a whole: leave this empty"),
    ],
)
def test_a_plan_for_the_wrong_one_is_refused_beside_the_field(staff, world, code, member, words):
    response = staff.post(
        reverse("admin:billing_subscription_add"), {"plan": plan_of(world.act, code).pk, "member": member}
    )

    assert response.status_code == 200
    assert words in response.content.decode()


def test_the_brands_own_plan_is_assigned_without_a_member(staff, world):
    response = staff.post(reverse("admin:billing_subscription_add"), {"plan": plan_of(world.act, "pool").pk})

    assert response.status_code == 302
    with scope(SERVICE):
        assert Subscription.objects.get(owner_id=world.act.pk, ended_at=None).plan.code == "pool"


def change(staff, plan, *limits, **fields):
    return staff.post(reverse("admin:billing_plan_change", args=[plan.pk]), form_of(plan, *limits, **fields))


def said(response):
    """Every refusal of the page, form by form."""
    page = response.context["adminform"].form
    lines = [formset.formset for formset in response.context["inline_admin_formsets"]]
    return {
        **{name: list(words) for name, words in page.errors.items()},
        "lines": [words for formset in lines for words in formset.non_form_errors()],
    }


def test_a_change_says_first_whom_it_reaches_and_what_it_does(staff, world):
    plan = plan_of(world.act, "free")
    for number in range(2):
        make_member(world.act, make_user(f"m{number}@example.com"))
    with scope(SERVICE):
        line = plan.limits.get()
    shown = staff.get(reverse("admin:billing_plan_change", args=[plan.pk])).content.decode()
    assert "3 members are on this plan" in shown

    response = change(staff, plan, (line.pk, "queries", "day", 3), **AS_FREE | {"retention_days": 7})

    assert response.status_code == 200
    (told,) = said(response)["lines"]
    assert "3 members are on this plan, and the change is felt at once" in told
    assert "10 queries per lifetime becomes 3 queries per day" in told
    assert "days of history: 0 becomes 7" in told
    assert limits_of(plan) == {("queries", "lifetime", 10)}, "nothing was done"
    assert change(staff, plan, (line.pk, "queries", "day", 3), **AS_FREE, confirmed="on").status_code == 302
    assert limits_of(plan) == {("queries", "day", 3)}


def test_what_members_do_not_feel_asks_for_no_confirmation_and_nor_does_a_plan_without_members(staff, world):
    free, basic = plan_of(world.act, "free"), plan_of(world.act, "basic")
    with scope(SERVICE):
        line, other = free.limits.get(), basic.limits.get()

    assert change(staff, free, (line.pk, "queries", "lifetime", 10), **AS_FREE, name="Taster").status_code == 302
    assert change(staff, basic, (other.pk, "queries", "day", 1)).status_code == 302

    assert plan_of(world.act, "free").name == "Taster"
    assert limits_of(basic) == {("queries", "day", 1)}


def test_a_new_price_says_that_it_is_for_new_ones(staff, world):
    plan = plan_of(world.act, "pro")
    with scope(SERVICE):
        line = plan.limits.get()

    response = change(
        staff, plan, (line.pk, "queries", "day", 40), price_microusd=39_990_000, annual_price_microusd=399_900_000,
        byok_allowed="on", overage_allowed="on", retention_days=90,
    )  # fmt: skip

    (told,) = said(response)["lines"]
    assert told.count("becomes") == 0
    assert "$39.99 a month or $399.90 a year for who subscribes from now on; who pays already goes on at $29.99" in told


@pytest.mark.parametrize("priced", [0, 9_990_000])
def test_what_new_members_get_is_not_made_into_what_must_be_paid_first(staff, world, priced):
    """Who cancels would have it for nothing; a price behind a trial is another thing."""
    with scope(SERVICE):
        Plan.objects.filter(brand=world.act, code="free").update(
            price_microusd=priced, period="month", trial_days=14 if priced else 0
        )
        plan = Plan.objects.get(brand=world.act, code="free")
        line = plan.limits.get()
    dear = {"price_microusd": 9_990_000, "period": "month", "confirmed": "on"}

    refused = change(staff, plan, (line.pk, "queries", "lifetime", 10), **dear, trial_days=0)

    field = "trial_days" if priced else "price_microusd"
    assert "they would have it for nothing" in said(refused)[field][0]
    tried = change(staff, plan, (line.pk, "queries", "lifetime", 10), **dear, trial_days=7)
    assert tried.status_code == 302


@pytest.mark.parametrize(
    ("fields", "field", "words"),
    [
        ({"price_microusd": -1}, "price_microusd", "greater than or equal to 0"),
        ({"price_microusd": 9_995_000}, "price_microusd", "whole cents"),
        ({"price_microusd": 10_000}, "price_microusd", "Cards are charged $0.50 at least"),
        ({"period": "none"}, "period", "A price needs a period"),
        ({"annual_price_microusd": 120_000_000}, "annual_price_microusd", "at most twelve months: $119.88"),
        ({"annual_price_microusd": 0}, "annual_price_microusd", "at most twelve months"),
        ({"price_microusd": 0, "annual_price_microusd": 5_000_000}, "annual_price_microusd", "give that first"),
        ({"price_microusd": 0, "trial_days": 5}, "trial_days", "What is free needs no trial"),
        ({"currency": "EUR"}, "currency", "US dollars"),
        ({"overage_allowed": "on", "overage_price_microusd": 0}, "overage_price_microusd", "a price above 0"),
        ({"overage_allowed": "on", "overage_cap_microusd": 24_999}, "overage_cap_microusd", "lets nobody ask once"),
        ({"overage_by_default": "on"}, "overage_by_default", "has to be allowed"),
        ({"concurrent_turns": 0}, "concurrent_turns", "greater than or equal to 1"),
        ({"rate_limit_per_minute": 0}, "rate_limit_per_minute", "greater than or equal to 1"),
        ({"unit": "tokens"}, "unit", "not one of the available choices"),
        ({"code": "Gold Plan"}, "code", "valid"),
        ({"code": "basic"}, "__all__", "already exists"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused_beside_its_field(staff, world, fields, field, words):
    sent = form_of(None, (None, "queries", "day", 9), brand=world.act.pk, code="gold", subject="member") | fields

    response = staff.post(reverse("admin:billing_plan_add"), sent)

    assert response.status_code == 200
    assert any(words in sentence for sentence in said(response)[field]), said(response)


@pytest.mark.parametrize(
    ("unit", "lines", "words"),
    [
        ("messages", [("queries", "day", 9)], "counts in messages and says nothing of them"),
        ("queries", [], "add a line of queries"),
    ],
)
def test_a_plan_has_a_limit_of_what_it_counts_in(staff, world, unit, lines, words):
    sent = form_of(
        None, *[(None, *line) for line in lines], brand=world.act.pk, code="gold", subject="member", unit=unit
    )  # fmt: skip

    response = staff.post(reverse("admin:billing_plan_add"), sent)

    assert response.status_code == 200
    assert words in said(response)["lines"][0]


def test_money_is_no_limit_of_a_plan(staff, world):
    sent = form_of(
        None, (None, "queries", "day", 9), (None, "overage_microusd", "month", 9), brand=world.act.pk, code="gold",
        subject="member",
    )  # fmt: skip

    assert staff.post(reverse("admin:billing_plan_add"), sent).status_code == 200
    with scope(SERVICE):
        assert not Plan.objects.filter(code="gold").exists()


def test_the_plan_of_new_members_is_not_switched_off(staff, world):
    plan = plan_of(world.act, "free")
    with scope(SERVICE):
        line = plan.limits.get()

    response = change(staff, plan, (line.pk, "queries", "lifetime", 10), **AS_FREE, is_active="")

    assert "New members get this plan" in said(response)["is_active"][0]
    assert plan_of(world.act, "free").is_active


def test_a_plan_is_copied_with_its_limits_and_not_offered_before_staff_say_so(staff, world):
    pro = plan_of(world.act, "pro")
    address = reverse("admin:billing_plan_copy", args=[pro.pk])
    assert "not on the pricing page" in staff.get(address).content.decode()
    assert staff.post(address, {"code": "basic", "name": "Pro 2"}).status_code == 422

    assert staff.post(address, {"code": "pro-2", "name": "Pro 2"}).status_code == 302

    copy = plan_of(world.act, "pro-2")
    assert (copy.price_microusd, copy.byok_allowed, copy.is_offered, copy.is_active) == (29_990_000, True, False, True)
    assert limits_of(copy) == limits_of(pro) == {("queries", "day", 40)}
    assert plan_of(world.act, "pro").pk == pro.pk


def test_staff_cannot_give_a_plan_to_who_pays_for_one_nor_one_that_is_off(staff, world):
    with scope(SERVICE):
        Subscription.objects.filter(owner_id=world.bob.pk).update(provider="stripe", provider_subscription_id="sub_1")
        Plan.objects.filter(brand=world.act, code="basic").update(is_active=False)

    response = staff.post(
        reverse("admin:billing_subscription_add"), {"plan": plan_of(world.act, "pro").pk, "member": "bob@example.com"}
    )
    assert "pays for Free already" in response.content.decode()
    response = staff.post(
        reverse("admin:billing_subscription_add"),
        {"plan": plan_of(world.act, "basic").pk, "member": "alice@example.com"},
    )
    assert "Basic is switched off" in response.content.decode()
