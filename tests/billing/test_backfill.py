"""The data migration of an installation that was there before subscriptions had a life."""

from datetime import UTC, datetime
from importlib import import_module
from types import SimpleNamespace

from django.apps import apps
from django.db import connections

from billing import lifecycle
from billing.models import Plan, Subscription, SubscriptionHistory
from lib.db import SERVICE, scope
from quotas.models import Account
from tests.factories import make_user

SINCE = datetime(2026, 5, 1, tzinfo=UTC)


def fill():
    module = import_module("billing.migrations.0008_fill_what_is_new")
    with scope(SERVICE):
        module.fill(apps, SimpleNamespace(connection=connections["service"]))


def as_before(brand, code, user):
    """What the release before left of a member on a plan."""
    with scope(SERVICE):
        plan = Plan.objects.get(brand=brand, code=code)
        Account.objects.create(
            brand=brand,
            kind="user",
            owner_id=user.pk,
            plan_code=code,
            features={"byok_allowed": True, "retention_days": 7},
        )
        return Subscription.objects.create(brand=brand, owner_id=user.pk, plan=plan, started_at=SINCE)


def test_what_was_there_before_gets_what_is_new_and_a_second_run_changes_nothing(world):
    dora, emil = make_user("dora@example.com"), make_user("emil@example.com")
    with scope(SERVICE):
        Plan.objects.filter(brand=world.act).update(is_offered=False, overage_by_default=False)
        Plan.objects.filter(brand=world.act, code="basic").update(is_active=False)
    as_before(world.act, "usage_only", dora)
    ended = as_before(world.act, "pro", emil)
    with scope(SERVICE):
        Subscription.objects.filter(pk=ended.pk).update(ended_at=SINCE.replace(month=6))
        lines = SubscriptionHistory.objects.count()

    for _ in range(2):
        fill()

    with scope(SERVICE):
        offered = Plan.objects.filter(brand=world.act, is_offered=True).values_list("code", flat=True)
        assert set(offered) == {"free", "pro", "usage_only"}, "what is switched off stays off, pools are not for sale"
        features = Account.objects.get(owner_id=dora.pk).features
        assert features["retention_days"] == 7, "what stands there is right"
        assert (features["unit"], features["overage_by_default"], features["is_billable"]) == ("queries", True, False)
        assert "unit" not in Account.objects.get(owner_id=emil.pk).features, "nothing is in force there"
        assert SubscriptionHistory.objects.count() == lines + 2, "who has a history keeps it"
        line = SubscriptionHistory.objects.get(owner_id=dora.pk)
        assert (line.code, line.plan_in_force, line.effective_at, line.billing_cycle) == (
            "started", "usage_only", SINCE, "month",
        )  # fmt: skip
        assert SubscriptionHistory.objects.get(owner_id=emil.pk).monthly_price_microusd == 29_990_000
        row = Subscription.objects.get(owner_id=dora.pk)
        lifecycle.entitle(world.act, dora.pk, row, now=SINCE)
        assert Account.objects.get(owner_id=dora.pk).features["unit"] == "queries"
