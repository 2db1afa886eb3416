"""What a member hears about plan and payments: from the stream, once for each event, and three days before a trial ends."""

from datetime import timedelta

import pytest

from billing import lifecycle, telling
from billing.lifecycle import Facts
from billing.models import Plan, Subscription
from billing.tasks import tell_of_billing
from events import stream
from events.catalogue import KINDS
from events.models import Notification
from lib import clock
from lib.db import SERVICE, scope
from lib.ids import uuid7
from tests.factories import make_member, make_user
from tests.post import arrived

pytestmark = pytest.mark.django_db


@pytest.fixture
def member(world):
    """Bob pays for pro, and has heard so."""
    take(world, "pro")
    tell_of_billing()
    arrived().clear()
    return world


def take(world, code, **facts):
    now = clock.now()
    with scope(SERVICE):
        plan = Plan.objects.get(brand=world.act, code=code)
    paid = {
        "provider": "stripe", "provider_subscription_id": "sub_1", "period_starts_at": now - timedelta(days=1),
        "period_ends_at": now + timedelta(days=29), "is_billable": True,
    }  # fmt: skip
    lifecycle.take(world.act, world.bob.pk, Facts(plan, **{**paid, **facts}))


def heard(user):
    with scope(SERVICE):
        return [(row.title, row.message) for row in Notification.objects.filter(owner_id=user.pk).order_by("pk")]


def test_who_joins_hears_nothing_and_who_buys_hears_once(world):
    newcomer = make_user("dora@example.com")
    make_member(world.act, newcomer)
    take(world, "pro")
    for _ in range(3):
        tell_of_billing()

    assert heard(newcomer) == []
    assert [title for title, _ in heard(world.bob)] == ["You are on Pro"]
    assert [(mail.to, mail.subject) for mail in arrived() if "bob" in mail.to[0]] == [
        (["bob@example.com"], "You are on Pro")
    ]


@pytest.mark.parametrize(
    ("facts", "title", "words", "is_mailed"),
    [
        ({"code": "basic"}, "Your plan changes to Basic", "You keep Pro until", True),
        ({"cancel_at_period_end": True}, "Pro ends on", "nothing more is charged", True),
        ({"status": "past_due"}, "Your payment failed", "Check your payment method", True),
        ({"status": "cancelled"}, "Pro has ended", "You can choose a plan any time", True),
    ],
    ids=["smaller plan", "cancel", "not paid", "over"],
)
def test_each_turn_of_a_subscription_is_told_with_what_follows_and_what_to_do(member, facts, title, words, is_mailed):
    take(member, **{"code": "pro", **facts})
    for _ in range(2):
        tell_of_billing()

    ((told, message),) = heard(member.bob)[1:]
    assert told.startswith(title)
    assert words in message
    assert len(arrived()) == is_mailed


def test_who_takes_a_cancellation_back_reads_so_without_a_mail(member):
    take(member, "pro", cancel_at_period_end=True)
    tell_of_billing()
    take(member, "pro")
    tell_of_billing()

    assert [title for title, _ in heard(member.bob)][2:] == ["Pro goes on"]
    assert len(arrived()) == 1


def test_a_pack_that_was_paid_and_money_that_went_back_are_told_in_money(world):
    def say(name, **data):
        with scope(SERVICE):
            data = {"currency": "USD", **data}
            stream.publish(
                world.act.pk, name, subject=("billing_transaction", uuid7()), owner_id=world.bob.pk, data=data
            )

    say("billing.paid", type="one_time", total_amount_microusd=5_000_000)
    say("billing.paid", type="subscription", total_amount_microusd=29_990_000)
    say("billing.refunded", type="refund", total_amount_microusd=-5_000_000)
    tell_of_billing()

    assert [title for title, _ in heard(world.bob)] == ["Your pack is here", "$5.00 went back to you"]
    assert "You paid $5.00" in heard(world.bob)[0][1]


def test_a_trial_s_end_is_told_three_days_before_and_once(world):
    now = clock.now()
    ends = now + timedelta(days=10)
    take(world, "pro", status="trialing", trial_ends_at=ends, period_ends_at=ends)
    telling.look(now)
    assert [title for title, _ in heard(world.bob)] == ["Your trial of Pro has begun"]

    for hours in (0, 1, 24, 71):
        telling.look(ends - telling.BEFORE_TRIAL_ENDS + timedelta(hours=hours))

    ((title, message),) = heard(world.bob)[1:]
    assert title.startswith("Your trial of Pro ends on")
    assert "Then $29.99 a month is charged, unless you cancel before." in message
    assert arrived()[-1].subject == title


def test_a_trial_that_was_cancelled_or_is_the_brand_s_is_left_in_peace(world):
    now = clock.now()
    ends = now + timedelta(days=1)
    take(world, "pro", status="trialing", trial_ends_at=ends, period_ends_at=ends, cancel_at_period_end=True)
    with scope(SERVICE):
        Subscription.objects.filter(owner_id=world.act.pk).update(status="trialing", trial_ends_at=ends)

    assert telling.tell_of_trials(now) == 0


def test_everything_that_a_subscription_publishes_has_words():
    """A name that is new in the catalogue is missing here."""
    names = {name for name in KINDS if name.startswith("subscription.")}

    assert len(names) == 13
    assert names == {name for name in telling.SAID if name.startswith("sub")}
