"""`migrate` on a database that is in use: nobody waits behind it, and what was begun is gone on with."""

import psycopg
import pytest
from django.core.management import CommandError, call_command
from django.db import connections, models
from django.db.migrations.executor import MigrationExecutor

from lib.operations import AddIndexAtWork

pytestmark = pytest.mark.django_db(transaction=True)
INDEX = "holds_of_an_account"


def one(sql):
    with connections["owner"].cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


@pytest.fixture
def somebody(transactional_db):
    """A session beside ours, which lets go of its locks after a while, come what may."""
    row = connections.settings["owner"]
    home = {"host": row["HOST"], "port": row["PORT"], "user": row["USER"], "password": row["PASSWORD"]}
    dbname = connections["owner"].settings_dict["NAME"]
    with psycopg.connect(**home, dbname=dbname) as session:
        session.execute("set idle_in_transaction_session_timeout = '20s'")
        session.commit()
        yield session
        session.close()


def test_a_table_that_is_being_read_is_given_up_and_named_in_words(somebody):
    """Its lock would stand in line behind the reader, and everybody else behind it."""
    somebody.execute("lock table providers_fallback in access share mode")
    try:
        with pytest.raises(CommandError, match="everybody else would have had to wait"):
            call_command("migrate", "providers", "0003", verbosity=0)
        assert one("select to_regclass('providers_fallback') is not null")
        assert one("select current_setting('lock_timeout')") == "0"
    finally:
        somebody.close()
        call_command("migrate", verbosity=0)


def test_a_second_run_does_nothing(transactional_db):
    call_command("migrate", verbosity=0)
    call_command("migrate", verbosity=0)
    executor = MigrationExecutor(connections["owner"])
    assert executor.migration_plan(executor.loader.graph.leaf_nodes()) == []


def add_index():
    operation = AddIndexAtWork(
        model_name="hold", index=models.Index(fields=["brand", "owner_id", "reservation"], name=INDEX)
    )
    connection = connections["owner"]
    graph = MigrationExecutor(connection).loader.graph
    before = graph.make_state(nodes=[("quotas", "0002_walls")])
    after = before.clone()
    operation.state_forwards("quotas", after)
    with connection.schema_editor(atomic=False) as editor:
        operation.database_forwards("quotas", editor, before, after)


def is_whole():
    return one(f"select coalesce(bool_and(indisvalid), false) from pg_index where indexrelid = to_regclass('{INDEX}')")


def test_an_index_that_was_left_unfinished_is_built_anew_and_a_whole_one_left_alone(somebody):
    oid = one(f"select '{INDEX}'::regclass::oid")
    add_index()
    assert one(f"select '{INDEX}'::regclass::oid") == oid

    with connections["owner"].cursor() as cursor:
        cursor.execute(f"drop index {INDEX}")
        somebody.execute("lock table quotas_hold in row exclusive mode")
        cursor.execute("set lock_timeout = '100ms'")
        with pytest.raises(Exception, match="lock timeout"):
            cursor.execute(f"create index concurrently {INDEX} on quotas_hold (brand_id, owner_id, reservation)")
        cursor.execute("reset lock_timeout")
        somebody.rollback()
    assert not is_whole()
    add_index()
    assert is_whole()
