"""What operators type. Refusals are one sentence and exit code 1, never a traceback."""

import json
import logging
from datetime import UTC, datetime

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from lib.db import SERVICE, scope
from quotas import ledger, tasks
from quotas.models import Bucket, Entry, Hold
from tests.quotas.proofs import ask, bucket, numbers, prove

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

    assert run("check_balances").startswith("Proved 2 buckets against 4 entries and 2 open holds: every balance")
    assert json.loads(run("check_balances", "--json")) == {
        "buckets": 2,
        "entries": 4,
        "open_holds": 2,
        "ok": True,
        "drifts": [],
    }


@pytest.mark.parametrize("column", ["used", "held", "limit"])
def test_check_balances_names_exactly_the_row_that_was_changed_behind_its_back(live_world, capsys, column):
    """Q-33"""
    world = live_world
    ledger.settle(ask(world.act, world.bob), amounts={"queries": 1, "tokens": 5})
    ask(world.act, world.alice)
    wrong = bucket(world.act, world.act.pk, "tokens")
    with connections["owner"].cursor() as owner:
        owner.execute("alter table quotas_bucket no force row level security")
        owner.execute(f'update quotas_bucket set "{column}" = "{column}" + 1 where id = %s', [wrong.pk])
        owner.execute("alter table quotas_bucket force row level security")

    with pytest.raises(SystemExit) as ended:
        call_command("check_balances", "--json")

    assert ended.value.code == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["ok"], [drift["bucket_id"] for drift in found["drifts"]]) == (False, [str(wrong.pk)])
    claims, proves = found["drifts"][0]["claims"], found["drifts"][0]["proves"]
    assert [a - b for a, b in zip(claims, proves, strict=True)] == [
        int(column == name) for name in ("limit", "used", "held")
    ]
    with pytest.raises(SystemExit):
        call_command("check_balances")
    said = capsys.readouterr().out
    assert str(wrong.pk) in said
    assert said.rstrip().endswith("1 drifted.")


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
