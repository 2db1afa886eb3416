"""What `make run` shows on its first start, and on every other."""

import json

import pytest
from django.core.management import call_command

from accounts.models import Brand, User
from billing.models import CreditPackOffer, Plan, Subscription
from billing.tasks import tell_of_billing
from conversations.models import Conversation, Message
from events.models import Notification
from lib.db import SERVICE, scope
from lib.ids import uuid7
from quotas import ledger
from quotas.models import Account


@pytest.fixture
def shown(db, settings, tmp_path, capsys):
    settings.VAR_DIR = str(tmp_path)

    def show():
        call_command("demo_data", "--force", "--json")
        return json.loads(capsys.readouterr().out)

    return show


def codes(brand):
    with scope(SERVICE):
        return set(Plan.objects.filter(brand=brand, subject="member", is_offered=True).values_list("code", flat=True))


def test_act_sells_questions_with_packs_and_globex_messages_with_a_trial(shown):
    shown()

    act, globex = Brand.objects.get(slug="act"), Brand.objects.get(slug="globex")
    assert (act.default_plan, globex.default_plan) == ("free", "free")
    assert codes(act) == {"free", "basic", "pro", "usage_only"}
    assert codes(globex) == {"free", "starter", "professional", "enterprise"}
    charlie = User.objects.get(email="charlie@example.com")
    with scope(SERVICE):
        assert CreditPackOffer.objects.filter(brand=act).count() == 2
        trial = Subscription.objects.select_related("plan").get(owner_id=charlie.pk)
        assert (trial.plan.code, trial.status) == ("professional", "trialing")
        assert (trial.trial_ends_at - trial.started_at).days == 14
        for brand in (act, globex):
            assert Account.objects.get(brand=brand, kind="brand").plan_code == "pool"


def test_a_second_start_changes_nothing_and_prints_the_same_key(shown):
    first = shown()
    with scope(SERVICE):
        Plan.objects.filter(code="basic").update(name="Plain")
        before = Plan.objects.count(), Subscription.objects.count(), CreditPackOffer.objects.count()

    again = shown()

    assert again["api_key"] == first["api_key"]
    with scope(SERVICE):
        assert (Plan.objects.count(), Subscription.objects.count(), CreditPackOffer.objects.count()) == before
        assert Plan.objects.get(code="basic").name == "Plain"


def test_charlie_may_ask(shown):
    shown()
    globex, charlie = Brand.objects.get(slug="globex"), User.objects.get(email="charlie@example.com")

    asked = {"queries": 1, "messages": 1, "conversations": 1, "tokens": 500}
    pocket = ledger.reserve(globex, asker=("user", charlie.pk), amounts=asked, reservation=uuid7())

    assert pocket == "plan"


def test_nobody_is_mailed_of_the_plan_that_the_demo_gave_them(shown):
    shown()
    tell_of_billing()

    with scope(SERVICE):
        assert list(Notification.objects.all()) == []


def test_the_chats_shown_are_whole_and_one_is_pinned(shown):
    """Each answer follows its question, or asking again and editing would begin beside it."""
    shown()

    with scope(SERVICE):
        assert Conversation.objects.filter(pinned_at__isnull=False).count() == 1
        questions = set(Message.objects.filter(role="user").values_list("pk", flat=True))
        assert set(Message.objects.filter(role="assistant").values_list("parent_id", flat=True)) == questions
