"""What operators type. Refusals are one sentence and exit code 1, never a traceback."""

import contextlib
import json
import logging
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from lib.db import SERVICE, scope
from quotas import ledger, tasks
from quotas.models import Account, Bucket, Entry, Hold
from tests.quotas.proofs import ask, asked, bucket, entitle, numbers, pack, prove
from tests.quotas.test_pockets import BILLED

POOL = 2_000_000


@pytest.fixture
def run(capsys):
    def run(*words):
        call_command(*words)
        return capsys.readouterr().out

    return run


def test_check_balances_says_what_it_proved(world, run):
    ledger.settle(ask(world.act, world.bob), amounts={"queries": 1, "tokens": 5})
    ask(world.act, world.bob)

    assert run("check_balances").startswith(
        "Proved 2 buckets and 0 packs against 4 entries and 2 open holds: every balance"
    )
    assert json.loads(run("check_balances", "--json")) == {
        "buckets": 2,
        "packs": 0,
        "entries": 4,
        "open_holds": 2,
        "ok": True,
        "drifts": [],
    }


@contextlib.contextmanager
def behind_the_back():
    """A connection that nothing holds back, as a superuser's would be."""
    tables = ("quotas_bucket", "quotas_pack", "quotas_account", "quotas_entry", "quotas_hold")
    with connections["owner"].cursor() as owner:
        for table in tables:
            owner.execute(f"alter table {table} no force row level security")
        try:
            yield owner
        finally:
            for table in tables:
                owner.execute(f"alter table {table} force row level security")


@pytest.fixture
def rich(live_world):
    """One question from each pocket, a pack whose money went back after it was used, one question that runs."""
    world = live_world
    entitle(world.act, world.bob, ("queries", "day", 1), features=BILLED)
    bought = pack(world.act, world.bob, 1, price=4_000_000)
    uses = [asked(world.act, world.bob) for _ in range(3)]
    assert [pocket for _, pocket in uses] == ["plan", "pack", "overage"]
    for reservation, _ in uses:
        ledger.settle(reservation, amounts={"queries": 1, "tokens": 5})
    ledger.take_back_pack(bought, amount=1, reason="refund", actor_id=None)
    held = ask(world.act, world.alice)
    prove(world)
    with scope(SERVICE):
        return {
            "pool": bucket(world.act, world.act.pk, "tokens").pk,
            "overage": bucket(world.act, world.bob.pk, "overage_microusd", pocket="overage").pk,
            "arrears": bucket(world.act, world.bob.pk, "overage_microusd", pocket="arrears").pk,
            "pack": bought.bucket_id,
            "account": Account.objects.get(owner_id=world.bob.pk, brand=world.act).pk,
            "used": uses[0][0],
            "held": held,
        }


AGAIN = """
insert into quotas_entry (id, brand_id, owner_id, bucket_id, kind, limit_delta, used_delta, reservation, cost_microusd,
                          reason, created_at)
select gen_random_uuid(), brand_id, owner_id, {bucket}, 'use', 0, 0, %(row)s, 0, '', now()
"""


@pytest.mark.parametrize(
    ("row", "of", "sql"),
    [
        ("bucket", "pool", 'update quotas_bucket set "limit" = "limit" + 1 where id = %(row)s'),
        ("bucket", "pool", "update quotas_bucket set used = used + 1 where id = %(row)s"),
        ("bucket", "pool", "update quotas_bucket set held = held - 1 where id = %(row)s"),
        ("bucket", "pool", "update quotas_bucket set excess = 1 where id = %(row)s"),
        ("bucket", "overage", "update quotas_bucket set used = used + 1 where id = %(row)s"),
        ("bucket", "arrears", "update quotas_bucket set used = 1 where id = %(row)s"),
        ("bucket", "pack", "update quotas_bucket set used = 0 where id = %(row)s"),
        ("pack", "pack", "update quotas_pack set amount = 2 where bucket_id = %(row)s"),
        ("pack", "pack", "delete from quotas_pack where bucket_id = %(row)s"),
        ("account", "account", "update quotas_account set arrears_microusd = 0 where id = %(row)s"),
        (
            "reservation",
            "used",
            AGAIN.format(bucket="bucket_id") + "from quotas_entry where reservation = %(row)s limit 1",
        ),
        (
            "reservation",
            "held",
            AGAIN.format(bucket="bucket_id") + "from quotas_hold where reservation = %(row)s limit 1",
        ),
    ],
)
def test_check_balances_names_exactly_the_row_that_was_changed_behind_its_back(rich, capsys, row, of, sql):
    """Q-33"""
    with behind_the_back() as owner:
        owner.execute(sql, {"row": rich[of]})

    with pytest.raises(SystemExit) as ended:
        call_command("check_balances", "--json")

    assert ended.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert not found["ok"]
    assert {(drift["row"], drift["row_id"]) for drift in found["drifts"]} == {(row, str(rich[of]))}
    with pytest.raises(SystemExit):
        call_command("check_balances")
    said = capsys.readouterr().out
    assert f"{row} {rich[of]} (" in said
    assert said.rstrip().endswith("drifted.")


def test_the_nightly_job_logs_each_drift(live_world, caplog):
    """Q-33"""
    ask(live_world.act, live_world.bob)
    wrong = bucket(live_world.act, live_world.bob.pk, "queries")
    assert tasks.prove_balances() == 0
    with connections["owner"].cursor() as owner:
        owner.execute("alter table quotas_bucket no force row level security")
        owner.execute("update quotas_bucket set used = 3 where id = %s", [wrong.pk])
        owner.execute("alter table quotas_bucket force row level security")

    with caplog.at_level(logging.ERROR):
        assert tasks.prove_balances() == 1

    assert str(wrong.pk) in caplog.text


def test_the_sweep_gives_each_turn_back_in_a_transaction_of_its_own(live_world):
    """INV10: a sweep in one transaction would hold locks of many brands, and close a circle with their turns."""
    past = datetime(2026, 1, 1, tzinfo=UTC)
    for user in (live_world.alice, live_world.bob):
        ask(live_world.act, user, now=past)

    assert tasks.void_expired_holds() == 2

    with scope(SERVICE), connections["service"].cursor() as cursor:
        cursor.execute("select count(distinct xmin::text) from quotas_entry where reason = 'expired'")
        assert cursor.fetchone() == (2,)
        assert not Hold.objects.exists()
    prove(live_world)


def test_top_up_takes_s0s_name_of_the_tokens(world, run):
    said = run("top_up", "--brand", "act", "--meter", "prompt_tokens", "--amount", "500", "--reason", "goodwill")

    assert said.startswith("500 tokens added for act: 2,000,500 of 2,000,500 are left, until ")
    assert numbers(world.act, world.act.pk, "tokens") == (POOL + 500, 0, 0)
    with scope(SERVICE):
        assert Entry.objects.get(kind="top_up").reason == "goodwill"
    prove(world)


def test_top_up_prints_json(world, run):
    printed = run("top_up", "--brand", "act", "--meter", "tokens", "--amount", "5", "--reason", "why", "--json")

    found = json.loads(printed)
    assert (found["brand"], found["meter"], found["added"], found["left"]) == ("act", "tokens", 5, POOL + 5)


@pytest.mark.parametrize(
    ("brand", "meter", "amount", "reason", "words"),
    [
        ("nobody", "tokens", "5", "why", "There is no brand nobody. There are: act, globex."),
        ("act", "tokens", "0", "why", "above 0"),
        ("act", "tokens", "-3", "why", "above 0"),
        ("act", "tokens", "5", " ", "needs a reason"),
        ("act", "queries", "5", "why", "no limit of queries"),
        ("act", "beans", "5", "why", "invalid choice: 'beans'"),
        ("act", "tokens", "1.5", "why", "invalid int value"),
    ],
)
def test_top_up_refuses_in_words(world, brand, meter, amount, reason, words):
    with pytest.raises(CommandError, match=words):
        call_command("top_up", f"--brand={brand}", f"--meter={meter}", f"--amount={amount}", f"--reason={reason}")
    with scope(SERVICE):
        assert not Bucket.objects.filter(limit__gt=POOL).exists()


@pytest.mark.parametrize("command", ["check_balances", "top_up", "assign_plan"])
def test_every_command_explains_itself(command, capsys):
    with pytest.raises(SystemExit) as ended:
        call_command(command, "--help")

    assert ended.value.code == 0
    assert "--json" in capsys.readouterr().out
