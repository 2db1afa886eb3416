"""Everybody at everybody's rows, with raw SQL on the log-ins of production, in every table that the models know."""

import json

import pytest
from django.core.management import call_command
from django.db import connections

from accounts.models import Brand, User
from chatsite.isolation import trial
from conversations.models import Message
from lib.db import SERVICE, scope

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sides():
    with scope(SERVICE):
        return trial.make_sides()


@pytest.mark.parametrize("role", trial.PERSONS)
def test_each_reaches_exactly_his_own_rows(role, sides):
    """I-22, over all tables behind the walls, as the log-in `web`; beside each denial the same act on his own row."""
    a, b = sides

    for mine, theirs in ((a, b), (b, a)):
        proof = trial.break_in(mine, theirs, role)

        assert proof.faults == []
        assert proof.count > 100


def test_no_child_hangs_on_a_foreign_parent(sides):
    """I-24, M3: over every key between two tables behind the walls, as the service, whom no policy stops."""
    proof = trial.hang_elsewhere(*sides)

    assert proof.faults == []
    assert proof.count >= 8


def test_web_without_a_scope_is_refused_everything(sides):
    assert trial.knock_without_a_name().faults == []


def test_a_hole_in_a_wall_is_found_and_named(sides):
    """The proof of the proof: the same attempts, with one policy too many."""
    with connections["owner"].cursor() as cursor:
        cursor.execute("create policy hole on conversations_message for select to app_user using (true)")
        try:
            faults = trial.break_in(*sides, "app_user").faults
        finally:
            cursor.execute("drop policy hole on conversations_message")

    assert faults == ["app_user reads conversations_message: 6 rows, where it must be exactly the 1 of its own"]


def test_check_isolation_says_what_was_proved_and_leaves_nothing(live_world, capsys):
    call_command("check_isolation")
    said = capsys.readouterr().out
    call_command("check_isolation", "--json")
    answer = json.loads(capsys.readouterr().out)

    assert "No brand reaches another" in said
    assert answer["ok"] is True
    assert sum(proof["count"] for proof in answer["proofs"]) > 800
    with scope(SERVICE):
        assert Brand.objects.count() == 2
        assert User.objects.count() == 4
        assert not Message.objects.exists()


def test_check_isolation_exits_1_and_names_the_fault(live_world, capsys):
    with connections["owner"].cursor() as cursor:
        cursor.execute("alter table agents_agent no force row level security")
        try:
            with pytest.raises(SystemExit) as exit_:
                call_command("check_isolation")
        finally:
            cursor.execute("alter table agents_agent force row level security")

    assert exit_.value.code == 1
    assert "agents_agent does not force row-level security on everybody" in capsys.readouterr().out
