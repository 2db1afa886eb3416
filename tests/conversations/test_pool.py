"""The connections of a web process: given back whoever asked, and exchanged when the server hung up on them."""

import asyncio
from contextlib import suppress
from functools import partial

import psycopg
import pytest
from django.db import DatabaseError, connections

from lib.db import SERVICE, close_all, patient_for, scope
from lib.postgres.base import Connection, Pool
from tests.conversations.road import Road
from tests.server import Browser, eventually


@pytest.fixture
def pool(transactional_db):
    """The service's pool, of two."""
    connections["service"].close()
    before = connections.settings["service"]["OPTIONS"]
    connections.settings["service"]["OPTIONS"] = {
        "pool": {"min_size": 2, "max_size": 2, "timeout": 10, "reconnect_timeout": 1}
    }
    found = connections["service"].pool
    assert isinstance(found, Pool)
    found.open()
    found.wait(20)
    yield found
    connections["service"].close()
    found.wait(20)  # what is being made when it is closed would stay open
    connections["service"].close_pool()
    connections.settings["service"]["OPTIONS"] = before


def ask() -> int:
    """The process at the server's end that answered."""
    try:
        with scope(SERVICE), connections["service"].cursor() as cursor:
            cursor.execute("select pg_backend_pid()")
            return cursor.fetchone()[0]
    finally:
        close_all()


def hang_up() -> None:
    """As a restart of the server does; the log-in may end its own."""
    row = connections.settings["service"]
    home = {"host": row["HOST"], "port": row["PORT"], "user": row["USER"], "password": row["PASSWORD"]}
    with psycopg.connect(**home, dbname=row["NAME"]) as own:
        own.execute(
            "select pg_terminate_backend(pid, 5000) from pg_stat_activity"
            " where usename = session_user and datname = current_database() and pid <> pg_backend_pid()"
        )


def test_nobody_is_given_a_connection_that_was_hung_up(pool):
    """O-01: after a restart of the server the first to ask is answered, and so is everybody else."""
    before = {ask() for _ in range(4)}
    hang_up()

    after = [ask() for _ in range(4)]

    assert not before & set(after)


def test_a_server_that_says_nothing_is_given_up_and_all_connections_with_it(pool):
    before = {ask() for _ in range(4)}
    with pytest.raises(DatabaseError, match="said nothing"), patient_for(0.2), scope(SERVICE):
        connections["service"].cursor().execute("select pg_sleep(30)")
    close_all()

    assert ask() not in before


def test_a_statement_may_take_as_long_as_its_work_has_patience(pool):
    with patient_for(30), scope(SERVICE), connections["service"].cursor() as cursor:
        cursor.execute("select pg_sleep(0.3), 'answered'")
        assert cursor.fetchone()[1] == "answered"
    close_all()


async def test_while_no_connection_can_be_made_nobody_waits_for_one(transactional_db):
    """The pool would let each of them wait for its whole time limit."""
    row = connections.settings["service"]
    async with Road() as road:
        home = {"host": "127.0.0.1", "port": road.port, "user": row["USER"], "password": row["PASSWORD"]}
        kwargs = {**home, "dbname": row["NAME"], "autocommit": True}
        sizes = {"min_size": 0, "max_size": 4, "timeout": 1000, "reconnect_timeout": 1}
        with Pool(connection_class=Connection, kwargs=kwargs, open=False, **sizes) as pool:
            borrow = partial(asyncio.to_thread, pool.getconn)
            pool.putconn(await borrow())
            await road.cut()

            async def is_found_out():
                try:
                    pool.putconn(await asyncio.to_thread(pool.getconn, 2))
                except psycopg.OperationalError:
                    return True

            await eventually(is_found_out, seconds=30)
            refused = await asyncio.gather(*(borrow() for _ in range(50)), return_exceptions=True)
            await road.open()

            async def found():
                with suppress(psycopg.OperationalError):
                    return await borrow()

            pool.putconn(await eventually(found))

    assert all(isinstance(one, psycopg.OperationalError) for one in refused)


async def test_a_database_without_room_for_more_connections_is_not_away(transactional_db):
    """Two work and no third can be made: eight who ask at once are all served, one after the other, and so the next time."""
    row = connections.settings["service"]
    async with Road() as road:
        home = {"host": "127.0.0.1", "port": road.port, "user": row["USER"], "password": row["PASSWORD"]}
        kwargs = {**home, "dbname": row["NAME"], "autocommit": True}
        sizes = {"min_size": 2, "max_size": 8, "timeout": 60, "reconnect_timeout": 1}
        with Pool(connection_class=Connection, kwargs=kwargs, open=False, **sizes) as pool:
            await asyncio.to_thread(pool.wait, 20)
            await road.fill()

            def ask() -> str:
                connection = pool.getconn()
                try:
                    return connection.execute("select 'served' from pg_sleep(0.1)").fetchone()[0]
                finally:
                    pool.putconn(connection)

            for _ in range(2):
                served = await asyncio.gather(*(asyncio.to_thread(ask) for _ in range(8)), return_exceptions=True)
                assert served == ["served"] * 8
            first, second = pool.getconn(), pool.getconn()
            with pytest.raises(psycopg.OperationalError):
                pool._connect(1)
            assert not pool.is_away
            pool.putconn(first)
            pool.putconn(second)


async def test_a_connection_that_comes_back_whole_says_that_the_database_is_there(pool):
    connection = await asyncio.to_thread(pool.getconn)
    pool.is_away = True
    hang_up()
    pool.putconn(connection)
    assert pool.is_away, "this one was hung up"

    connection = await asyncio.to_thread(pool.getconn, 20)
    pool.is_away = True
    pool.putconn(connection)
    assert not pool.is_away


async def test_pages_of_errors_keep_no_connection(site, http, person):
    """Django draws them in threads of no request, which look the brand up and live on: each would keep a connection."""
    with site.serve(WEB_POOL="2", DB_HOPS="1") as web:
        browser = Browser(http, web, person)

        async def lost(at: str) -> int:
            async with browser.get("/no/such/page/", headers={"HX-Request": "true", "Host": f"{at}.localhost"}) as page:
                return page.status

        for attempt in range(3):  # brands are known for seconds: each host is looked up once
            assert set(await asyncio.gather(*(lost(f"h{attempt}-{number}") for number in range(8)))) <= {404, 503}
        async with browser.get("/c/") as page:
            assert page.status == 200, await page.text()
