"""Who is on which plan, and what that lets them use."""

import json
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command

from billing import plans, tasks
from billing.models import Plan, PlanLimit, Subscription
from events.models import Event
from lib.db import SERVICE, scope
from lib.errors import Invalid, NotFound
from quotas.errors import QuotaExceeded
from quotas.models import Account
from tests.quotas.proofs import ask, numbers, prove

NOON = datetime(2030, 6, 12, 12, tzinfo=UTC)


def plan_of(brand, code):
    with scope(SERVICE):
        return Plan.objects.get(brand=brand, code=code)


def in_force(brand, owner_id):
    with scope(SERVICE):
        return Subscription.objects.get(brand=brand, owner_id=owner_id, ended_at=None).plan.code


@pytest.mark.parametrize(("code", "questions"), [("free", 10), ("basic", 15), ("pro", 40), ("usage_only", 0)])
def test_s1s_four_plans_give_what_they_promise(world, code, questions):
    plans.assign_plan(world.act, plan_of(world.act, code), user_id=world.bob.pk, now=NOON)

    for _ in range(questions):
        ask(world.act, world.bob, now=NOON)
    with pytest.raises(QuotaExceeded):
        ask(world.act, world.bob, now=NOON)
    prove(world)


def test_assigning_a_plan_again_changes_nothing_and_publishes_nothing(world):
    plan = plan_of(world.act, "pro")
    first = plans.assign_plan(world.act, plan, user_id=world.alice.pk)
    with scope(SERVICE):
        before = Event.objects.count()

    again = plans.assign_plan(world.act, plan, user_id=world.alice.pk)

    assert again.pk == first.pk
    with scope(SERVICE):
        assert Event.objects.count() == before


def test_a_change_of_plan_ends_the_old_subscription_and_tells_the_stream(world):
    plans.assign_plan(world.act, plan_of(world.act, "basic"), user_id=world.bob.pk)

    assert in_force(world.act, world.bob.pk) == "basic"
    with scope(SERVICE):
        assert Subscription.objects.filter(owner_id=world.bob.pk).exclude(ended_at=None).get().plan.code == "free"
        told = Event.objects.filter(type="plan.changed", owner_id=world.bob.pk).order_by("id")
        assert [event.data for event in told] == [{"from": None, "to": "free"}, {"from": "free", "to": "basic"}]
        account = Account.objects.get(brand=world.act, owner_id=world.bob.pk)
        assert (account.plan_code, account.features["byok_allowed"], account.features["retention_days"]) == (
            "basic",
            True,
            30,
        )


def test_a_brands_plan_is_not_for_a_member_nor_the_other_way_round(world):
    with pytest.raises(Invalid, match="for the brand as a whole"):
        plans.assign_plan(world.act, plan_of(world.act, "pool"), user_id=world.bob.pk)
    with pytest.raises(Invalid, match="for a member"):
        plans.assign_plan(world.act, plan_of(world.act, "pro"))


def test_installing_a_catalogue_again_leaves_what_staff_made_of_it(world):
    with scope(SERVICE):
        PlanLimit.objects.filter(plan__brand=world.act, plan__code="basic").update(limit=99)

    assert plans.install_catalogue(world.act, "s1") == []

    with scope(SERVICE):
        assert PlanLimit.objects.get(plan__brand=world.act, plan__code="basic").limit == 99
    with pytest.raises(NotFound, match="There are: s0, s1"):
        plans.install_catalogue(world.act, "s9")


def test_a_limit_that_staff_change_reaches_everybody_on_the_plan_and_nobody_else(world):
    """Q-18"""
    ask(world.act, world.bob)
    ask(world.globex, world.charlie)
    with scope(SERVICE):
        PlanLimit.objects.filter(plan__brand=world.act, plan__code="free").update(limit=12)

    assert tasks.push_plan(str(plan_of(world.act, "free").pk)) == 1
    assert tasks.push_plan(str(plan_of(world.act, "free").pk)) == 1

    assert numbers(world.act, world.bob.pk, "queries") == (12, 0, 1)
    assert numbers(world.globex, world.charlie.pk, "queries")[0] == 40
    prove(world)


def test_assign_plan_puts_a_member_on_a_plan(world, capsys):
    call_command("assign_plan", "--brand=act", "--user=BOB@example.com", "--plan=basic")

    assert capsys.readouterr().out == "bob@example.com is on basic: 15 queries per day.\n"
    assert in_force(world.act, world.bob.pk) == "basic"


def test_assign_plan_installs_a_catalogue_first_and_prints_json(world, capsys):
    with scope(SERVICE):
        Plan.objects.filter(brand=world.globex, code="pooled").delete()

    call_command(
        "assign_plan", "--brand=globex", "--user=charlie@example.com", "--plan=pooled", "--catalogue=s0", "--json"
    )

    found = json.loads(capsys.readouterr().out)
    assert (found["user"], found["plan"], found["limits"]) == (
        "charlie@example.com",
        "pooled",
        ["no limit of queries per day"],
    )
    assert in_force(world.globex, world.charlie.pk) == "pooled"


def test_assign_plan_without_a_member_is_for_the_brand(world, capsys):
    call_command("assign_plan", "--brand=act", "--plan=pool")

    assert capsys.readouterr().out == "The brand act is on pool: 2000000 tokens per month.\n"


@pytest.mark.parametrize(
    ("brand", "user", "plan", "words"),
    [
        ("nobody", "bob@example.com", "pro", "There is no brand nobody"),
        ("act", "charlie@example.com", "pro", "charlie@example.com is not a member of Act"),
        ("act", "bob@example.com", "gold", "Act has no plan gold. There are: free, pool, basic"),
        ("act", "bob@example.com", "pool", "for the brand as a whole"),
        ("act", "", "pro", "for a member"),
    ],
)
def test_assign_plan_refuses_in_words_and_changes_nothing(world, brand, user, plan, words):
    with pytest.raises(CommandError, match=words):
        call_command("assign_plan", f"--brand={brand}", f"--user={user}", f"--plan={plan}")

    assert in_force(world.act, world.bob.pk) == "free"
