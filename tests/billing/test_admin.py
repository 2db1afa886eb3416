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


def form_of(plan, *limits, **fields):
    """What the browser sends for a plan with these (id, meter, window, limit) lines."""
    sent = {
        "name": plan.name if plan else "Gold", "price_microusd": 9_990_000, "currency": "USD", "period": "month",
        "trial_days": 0, "overage_price_microusd": 25_000, "overage_cap_microusd": 10_000_000, "position": 5,
        "is_active": "on", "limits-TOTAL_FORMS": len(limits), "limits-INITIAL_FORMS": sum(bool(row[0]) for row in limits),
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
        sent = form_of(plan, (line.pk, "queries", "lifetime", 12))
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
