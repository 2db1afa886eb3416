"""I-27: with many rows of many brands, no statement of the hot path reads through a table or calls a function per row.

Decided by EXPLAIN, of the plan that is made once for all parameters; times are `make bench`'s. SOAK_ROWS is the number of
conversations, as many messages, turns and entries beside them; they belong to 200 brands.
"""

import json
import os
import re
from uuid import uuid4

import pytest
from django.db import connections

from conversations.chats import listing, reading
from conversations.engine import beginning, finishing, turns
from conversations.engine.turns import Question
from lib.db import SERVICE, scope
from providers import offers
from tests.crowd import BIG, fill
from tests.factories import member

ROWS = int(os.environ.get("SOAK_ROWS", "20000"))


@pytest.fixture
def crowded(live_world):
    offers.forget()
    fill(live_world, conversations=ROWS)
    yield live_world
    offers.forget()


def walk(plan):
    yield plan
    for part in plan.get("Plans", ()):
        yield from walk(part)


def live_a_turn(world):
    """Every statement that a member's day sends, with the log-in that sent it."""
    alice = member(world.act, world.alice)
    for alias in ("default", "service"):
        connections[alias].force_debug_cursor = True
        connections[alias].queries_log.clear()
    first = beginning.begin(alice, world.act, Question(text="First?"), key=str(uuid4()))
    turns.checkpoint([(first.turn_id, "Half", 1)])
    turns.unwelcome([first.turn_id])
    ended = {"offer": first.offer, "own_prompt_tokens": 5, "own_completion_tokens": 2, "started_at": first.started_at}
    finishing.finish(first.turn_id, status="done", text="Whole", held_tokens=first.held_tokens, **ended)
    finishing.as_ended(first.turn_id, text="")
    asked = Question(text="Second?", conversation_id=first.conversation_id)
    second = beginning.begin(alice, world.act, asked, key=str(uuid4()))
    finishing.finish(second.turn_id, status="stopped", text="", held_tokens=second.held_tokens, **ended)
    program = Question(messages=({"role": "user", "content": "Hello"},))
    third = beginning.begin(alice, world.act, program)
    finishing.finish(third.turn_id, status="done", text="Hi", held_tokens=third.held_tokens, **ended)
    decision = reading.decide(alice, world.act)
    with scope(alice):
        reading.conversation(alice, first.conversation_id)
        listing.sidebar(alice, world.act.zone)
        reading.messages(alice, first.conversation_id)
        reading.progress(alice, first.turn_id)
        reading.meters(decision, world.act)
        reading.member(alice, world.act, "owner", world.alice.email)
        reading.choices(alice)
    sent = []
    for alias in ("default", "service"):
        connections[alias].force_debug_cursor = False
        for query in connections[alias].queries_log:
            line = (alias, query["sql"])
            if line not in sent and re.match(r"\s*(select|insert|update|delete|with)\b", query["sql"], re.I):
                sent.append(line)
    return sent


def explained(sql: str) -> str:
    """Prepared statements with their parameters open, others as they were sent."""
    if "%(" not in sql:
        return f"explain (format json) {sql}"
    numbers: dict[str, int] = {}
    numbered = re.sub(r"%\((\w+)\)s", lambda found: f"${numbers.setdefault(found[1], len(numbers) + 1)}", sql)
    return f"explain (format json, generic_plan) {numbered.replace('%%', '%')}"


def prove_the_check():
    """What it looks for it would find: a statement without an index, and a policy in the form that is asked for each row."""
    with scope(SERVICE):
        cursor = connections["service"].connection.cursor()
        plain = "select id from conversations_message where content = 'nothing'"
        nodes = list(walk(cursor.execute(explained(plain).encode()).fetchone()[0][0]["Plan"]))
        assert any(node["Node Type"] == "Seq Scan" for node in nodes)
        per_row = (
            "select id from conversations_message where brand_id::text = current_setting('app.brand_id', true) || id"
        )
        told = json.dumps(cursor.execute(explained(per_row).encode()).fetchone()[0][0]["Plan"])
        assert "current_setting" in told


def test_no_statement_reads_through_a_table_or_calls_a_function_for_each_row(crowded):
    prove_the_check()
    alice = member(crowded.act, crowded.alice)
    sent = live_a_turn(crowded)
    assert len(sent) >= 20, "hardly anything was sent, so nothing was shown"
    wrong, seen = [], set()
    for alias, sql in sent:
        with scope(alice if alias == "default" else SERVICE):
            raw = connections[alias].connection
            plan = raw.cursor().execute(explained(sql).encode()).fetchone()[0][0]["Plan"]
        for node in walk(plan):
            seen.add(node.get("Relation Name"))
            if node["Node Type"] == "Seq Scan" and node["Relation Name"] in BIG:
                wrong.append(f"reads through {node['Relation Name']}: {sql}")
            conditions = " ".join(str(value) for name, value in node.items() if name.endswith(("Filter", "Cond")))
            # of a handful of turns at a time, by their ids: whether their askers still belong
            if re.search(r"current_setting|standing\(", conditions) and "lookup.standing(t.brand_id" not in sql:
                wrong.append(f"calls a function for each row ({conditions}): {sql}")
    assert not wrong, "\n\n".join(wrong)
    assert seen >= BIG - {"quotas_entry"}
