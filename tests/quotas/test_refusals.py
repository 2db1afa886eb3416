"""A limit that is met is told to the stream once for each window, and never twice by two at once."""

from datetime import timedelta

import pytest

from conversations.engine import beginning
from conversations.engine.turns import Question
from events import stream
from events.models import Event
from lib import clock
from lib.db import SERVICE, scope
from lib.ids import uuid7
from providers import offers
from quotas import refusals
from quotas.errors import QuotaExceeded
from quotas.models import Bucket
from tests import factories
from tests.quotas.proofs import entitle, prove, together


@pytest.fixture
def world(world):
    offers.forget()
    refusals._told.clear()
    yield world
    offers.forget()
    prove(world)


def refused(world):
    with pytest.raises(QuotaExceeded):
        beginning.begin(factories.member(world.act, world.bob), world.act, Question(text="Hello?"))


def told():
    with scope(SERVICE):
        return list(Event.objects.filter(type="quota.refused").order_by("id"))


def test_a_limit_is_told_once_for_each_window(world):
    """S2 usage_events, "limit enforcement events"."""
    entitle(world.act, world.bob, ("queries", "day", 0))
    refused(world)
    refused(world)
    refusals._told.clear()  # another process
    refused(world)
    (first,) = told()
    with scope(SERVICE):
        bucket = Bucket.objects.get(owner_id=world.bob.pk, meter="queries")
        Bucket.objects.filter(pk=bucket.pk).update(
            opens_at=bucket.opens_at - timedelta(days=2), closes_at=clock.now() - timedelta(minutes=1)
        )
    refused(world)

    assert (first.subject_kind, first.subject_id, first.owner_id) == ("bucket", bucket.pk, world.bob.pk)
    assert first.data == {"reason": "user_queries_not_included", "meter": "queries", "limit": 0, "resets_at": None}
    assert len(told()) == 2


def test_no_plan_is_no_limit_that_was_met(world):
    dora = factories.make_user("dora@example.com")
    with scope(SERVICE):
        factories.Membership.objects.create(brand=world.act, user=dora)
    with pytest.raises(QuotaExceeded):
        beginning.begin(factories.member(world.act, dora), world.act, Question(text="Hello?"))

    assert told() == []


@pytest.mark.django_db(transaction=True)
def test_eight_at_once_tell_it_once(live_world):
    subject, data = ("bucket", uuid7()), {"reason": "quota", "meter": None, "limit": 0, "resets_at": None}
    outcomes = together(
        8, lambda _: stream.publish_once(live_world.act.pk, "quota.refused", subject=subject, data=data)
    )

    assert sorted(outcomes, key=str) == [False] * 7 + [True]
    assert len(told()) == 1
