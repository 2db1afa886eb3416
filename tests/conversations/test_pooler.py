"""Behind pgbouncer in transaction mode a connection is everybody's: nothing may be left on it, and nothing be missed."""

import asyncio
import os
import subprocess
import sys
from contextlib import ExitStack, closing, suppress
from functools import partial

import psycopg
import pytest
from django.db import connections

from conversations.engine import reaper
from lib.db import SERVICE, db, scope
from tests import factories
from tests.conversations import rows
from tests.conversations.rows import charged, stored
from tests.pooler import pooler
from tests.server import Browser, copied_database, eventually, said
from tests.upstream import PROJECT

pytestmark = pytest.mark.pooler
# All of them, with the whole grid, take minutes.
WALLS = ["tests/isolation" if os.environ.get("SOAK_WALLS") else "tests/isolation/test_walls.py", "tests/lib/test_db.py"]


@pytest.mark.timeout(900)
def test_the_walls_stand_behind_a_pooler(transactional_db):
    """I-20, I-21, I-22, I-26: the isolation tests themselves, all of their log-ins but the owner through the pooler."""
    with copied_database("walls") as name, pooler(default_pool_size=5) as urls:
        command = [sys.executable, "-m", "pytest", "-n", "0", "-p", "no:cacheprovider", "--reuse-db", *WALLS]
        done = subprocess.run(
            command,
            cwd=PROJECT,
            env={**os.environ, **urls, "TEST_DB_NAME": name},
            capture_output=True,
            text=True,
        )

    assert done.returncode == 0, done.stdout[-6000:]
    assert "skipped" not in done.stdout


@pytest.fixture
def one_connection_for_all(transactional_db):
    """Every log-in has one connection at the pooler, whoever comes."""
    with pooler(default_pool_size=1) as urls:
        yield urls


def test_two_clients_that_share_a_connection_leave_nothing_to_each_other(one_connection_for_all):
    """I-21: whatever way a scope ends, the next client finds neither role, brand nor person, and no row."""
    world = factories.make_world()
    factories.make_conversation(world.act, world.alice, "Alice's")
    name = connections["default"].settings_dict["NAME"]
    web = psycopg.conninfo.make_conninfo(one_connection_for_all["DATABASE_URL"], dbname=name)
    connect = partial(psycopg.connect, web, autocommit=True, prepare_threshold=None)
    seen = "select pg_backend_pid(), current_user::text, current_setting('app.brand_id', true),"
    seen += " current_setting('app.owner_id', true), current_setting('app.standing', true)"
    become = "select set_config('role', 'app_user', true), set_config('app.brand_id', %s, true),"
    become += " set_config('app.owner_id', %s, true)"
    rows = "select count(*) from conversations_conversation"
    mine = [str(world.act.pk), str(world.alice.pk)]

    with closing(connect()) as one, closing(connect()) as other:
        before = other.execute(seen).fetchone()
        assert before is not None

        def commit():
            with one.transaction():
                one.execute(become, mine)
                assert one.execute(rows).fetchone() == (1,)

        def pipeline():
            with one.pipeline():
                one.execute(become, mine)
                counted = one.execute(rows)
            assert counted.fetchone() == (1,), "two statements of one pipeline were two transactions"

        def fail():
            with suppress(psycopg.errors.DivisionByZero), one.transaction():
                one.execute(become, mine)
                one.execute("select 1 / 0")

        def fail_in_a_pipeline():
            with suppress(psycopg.Error), one.pipeline():
                one.execute(become, mine)
                one.execute("select 1 / 0")

        for way in (commit, pipeline, fail, fail_in_a_pipeline):
            way()
            after = other.execute(seen).fetchone()
            assert after is not None
            assert after[0] == before[0], "they did not share a connection"
            assert after[1] == "web"
            assert not any(after[2:]), way
            with pytest.raises(psycopg.errors.InsufficientPrivilege):
                other.execute(rows)


async def test_a_web_process_behind_a_pooler_chats_streams_dies_and_is_reaped(site, http, person, settings):
    """Q-10, I-26: the whole life of an answer with five connections for each log-in, and the invariants after it."""
    settings.TURN_LOST_AFTER_S = 3.0
    with ExitStack() as at_end:
        urls = at_end.enter_context(pooler(default_pool_size=5))
        web = await asyncio.to_thread(at_end.enter_context, site.serve(**urls, PREPARE_STATEMENTS="0"))
        browser = Browser(http, web, person)
        asked = await asyncio.gather(*(browser.ask(f"{number}?", site.models["words"]) for number in range(20)))
        assert {one.status for one in asked} == {200}, {one.body for one in asked if one.status != 200}
        seen = await asyncio.gather(*(browser.read(one.turn_id) for one in asked))
        stopped = await browser.ask("Stop.", site.models["long"])
        await browser.read(stopped.turn_id, until=60)
        assert await browser.stop(stopped.turn_id) == 204
        await browser.read(stopped.turn_id)
        refused = await browser.ask("", site.models["words"])
        running = await asyncio.gather(*(browser.ask(f"{number}?", site.models["long"]) for number in range(5)))
        async with browser.get("/c/") as page:
            assert page.status == 200
        for one in running:
            await eventually(lambda turn=one.turn_id: db(rows.kept, turn), seconds=60)
        web.kill()

    async def all_over():
        await db(reaper.reap)
        return not await db(rows.running, person)

    await eventually(all_over, seconds=30, every=0.5)

    assert {its.text for its in seen} == {said(20)}
    assert refused.status == 400
    for one in [*asked, stopped, *running]:
        turn, answer = await db(stored, one.turn_id)
        ended = "done" if one in asked else "stopped" if one is stopped else "interrupted"
        assert (turn.status, answer.status) == (ended, ended)
        assert (await db(charged, one.turn_id))["queries"] == 1

    def left() -> int:
        with scope(SERVICE):
            return rows.leftovers(person)["holds"]

    assert await db(left) == 0
