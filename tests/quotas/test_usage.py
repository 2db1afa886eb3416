"""What was used: the log, the day's view, the ledger by S0's name; who may read which line."""

from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

import pytest
from django.db import connections

from chatsite.isolation import trial
from lib.db import SERVICE, Principal, current_alias, scope, send
from quotas import ledger, usage
from quotas.models import UsageLog
from tests.factories import member


def use(brand, user, *, pocket="plan", usage_type="message", tokens=120):
    """One question: held, settled and logged, as the engine does it."""
    turn = uuid4()
    ledger.reserve(brand, asker=("user", user.pk), amounts={"queries": 1, "tokens": 500}, reservation=turn)
    with scope(SERVICE):
        send(ledger.settling(turn, amounts={"queries": 1, "tokens": tokens}, cost_microusd=300))
        send(
            usage.logging(
                brand.pk,
                user.pk,
                usage_type=usage_type,
                reservation=turn,
                pocket=pocket,
                model="demo",
                prompt_tokens=100,
                completion_tokens=tokens - 100,
                model_cost_microusd=300,
            )
        )
    return turn


def read(sql, params=()):
    with connections[current_alias()].cursor() as cursor:
        cursor.execute(sql, params)
        return cursor.fetchall()


def test_a_use_is_logged_once_with_what_the_ledger_took(world):
    turn = use(world.act, world.bob)
    with scope(SERVICE):
        again = usage.logging(world.act.pk, world.bob.pk, usage_type="message", reservation=turn, pocket="overage")
        send(again)

        (line,) = UsageLog.objects.filter(reservation=turn)

    assert (line.total_tokens, line.prompt_tokens, line.completion_tokens) == (120, 100, 20)
    assert (line.counted_against_quota, line.overage, line.byok) == (True, False, False)
    assert (line.unit_cost_microusd, line.total_cost_microusd, line.model_cost_microusd) == (0, 0, 300)


def test_a_day_of_the_brand_ends_at_its_own_midnight(world, monkeypatch):
    """S1 daily_quota_usage: 23:30 in Toronto is not yet tomorrow, though it is in UTC."""
    world.act.zone = "America/Toronto"
    midnight = datetime(2026, 7, 9, 4, 0, tzinfo=UTC)
    with scope(SERVICE):
        world.act.save()
        for minutes, pocket in ((-30, "plan"), (0, "own_key")):
            monkeypatch.setattr("django.utils.timezone.now", lambda at=midnight + timedelta(minutes=minutes): at)
            line = UsageLog(
                brand=world.act, owner_id=world.bob.pk, usage_type="message", reservation=uuid4(), pocket=pocket
            )
            line.byok = pocket == "own_key"
            UsageLog.objects.bulk_create([line])

    with scope(member(world.act, world.bob)):
        days = usage.by_day(world.act.pk, world.bob.pk, since=date(2026, 7, 1))

    assert [(row.day, row.queries, row.plan_queries, row.own_key_queries) for row in days] == [
        (date(2026, 7, 8), 1, 1, 0),
        (date(2026, 7, 9), 1, 0, 1),
    ]


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("view", ["quotas_usagelog", "daily_quota_usage", "quota_transactions"])
def test_members_see_their_own_use_admins_their_brands_and_nobody_changes_it(live_world, view):
    """I-20, INV5: in plain SQL, with the real log-ins."""
    for brand, user in (
        (live_world.act, live_world.alice),
        (live_world.act, live_world.bob),
        (live_world.globex, live_world.charlie),
    ):
        use(brand, user)
    act, bob = live_world.act.pk, live_world.bob.pk
    owners = f"select distinct brand_id, owner_id from {view} where owner_id <> brand_id"

    with scope(member(live_world.act, live_world.bob)):
        assert read(owners) == [(act, bob)]
        assert read(f"select count(*) from {view} where owner_id = %s", [live_world.alice.pk]) == [(0,)]
    with scope(Principal("app_brand", act, live_world.alice.pk)):
        assert {owner for _, owner in read(owners)} == {live_world.alice.pk, bob}
    for principal in (
        SERVICE,
        member(live_world.act, live_world.bob),
        Principal("app_brand", act, live_world.alice.pk),
    ):
        with scope(principal):
            for sql in (f"delete from {view}", f"update {view} set owner_id = owner_id"):
                assert trial.attempt(sql).code in (trial.DENIED, "55000"), sql  # 55000: a view of sums takes no change
    with connections["default"].cursor():
        assert trial.attempt(f"select from {view}").code == trial.DENIED


def test_the_ledger_by_s0s_name_says_what_each_line_did_to_what_is_left(world):
    use(world.act, world.bob, tokens=130)

    with scope(member(world.act, world.bob)):
        own = read(
            "select transaction_type, quota_type, pocket, amount from quota_transactions order by created_at, amount"
        )
    with scope(SERVICE):
        pool = read(
            "select amount from quota_transactions where brand_id = %s and account_kind = 'brand' and quota_type = 'tokens'"
            " and transaction_type = 'use'",
            [world.act.pk],
        )

    assert sorted(own) == [("grant", "queries", "plan", 10), ("use", "queries", "plan", -1)]
    assert pool == [(-130,)]
