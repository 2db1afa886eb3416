from datetime import UTC, datetime, timedelta

import pytest
from django.db import IntegrityError, transaction

from lib.db import SERVICE, scope
from lib.ids import uuid7
from quotas import ledger, proof
from quotas.errors import QuotaExceeded
from quotas.models import Bucket, Entry, Hold
from tests.factories import make_world

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def ask(world, user, *, queries=1, tokens=1000, now=NOON):
    reservation = uuid7()
    ledger.reserve(
        world.act,
        asker=("user", user.pk),
        amounts={"queries": queries, "tokens": tokens},
        reservation=reservation,
        now=now,
    )
    return reservation


def bucket(world, owner_id, meter):
    with scope(SERVICE):
        return Bucket.objects.get(brand=world.act, owner_id=owner_id, meter=meter, pocket="plan")


def test_reserve_holds_on_the_member_and_on_the_brand(world):
    reservation = ask(world, world.bob)

    assert bucket(world, world.bob.pk, "queries").held == 1
    assert bucket(world, world.act.pk, "tokens").held == 1000
    with scope(SERVICE):
        assert Hold.objects.filter(reservation=reservation).count() == 2
    assert proof.drifts() == []


def test_reserve_refuses_the_eleventh_question_of_free_and_holds_nothing(world):
    for _ in range(10):
        ledger.settle(ask(world, world.bob), amounts={"queries": 1, "tokens": 10})

    with pytest.raises(QuotaExceeded) as refused:
        ask(world, world.bob)

    assert refused.value.extra["reason"] == "user_queries_used_up"
    assert refused.value.extra["requires_payment"] is True
    with scope(SERVICE):
        assert not Hold.objects.exists()
    assert bucket(world, world.act.pk, "tokens").held == 0
    assert proof.drifts() == []
