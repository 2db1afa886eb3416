"""The database empty again after a test that committed.

Django's own way, `flush`, makes every table and index anew and then looks for every permission there is. In our cluster a
superuser deletes what stands there, in a small part of that time. On a server of somebody else's Django does it.
"""

import os
from typing import Any
from urllib.parse import urlsplit

import psycopg
from django.db import connections
from django.test import TransactionTestCase

from chatsite.embedded.postgres import Postgres
from chatsite.embedded.processes import var_dir
from tests import canaries

KEPT = ["django_migrations", "django_content_type", "auth_permission"]  # which flush makes again as they were
BIG = 1 << 20  # bytes: what a test left in a larger table is not left to the vacuum, which would come later
TABLES = """
select string_agg(format('%%I', relname), ', '), string_agg(format('delete from %%I', relname), '; '),
       max(pg_relation_size(oid)) > %s
from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r' and relname <> all(%s)
"""
_flush: Any = vars(TransactionTestCase)["_fixture_teardown"]
_admin: list["psycopg.Connection[Any]"] = []  # of this process, to its test database


def superuser(database: str) -> "psycopg.Connection[Any] | None":
    """A connection of the superuser of our own cluster, if that is where the tests' database is."""
    embedded, there = Postgres(var_dir() / "postgres"), urlsplit(os.environ["DATABASE_OWNER_URL"])
    if embedded.data.exists() and (there.hostname, there.port) == ("127.0.0.1", embedded.port):
        return psycopg.connect(embedded.url(database=database), autocommit=True)
    return None


def empty(case: TransactionTestCase) -> None:
    """In place of TransactionTestCase._fixture_teardown."""
    name = connections["owner"].settings_dict["NAME"]
    if not _admin and (admin := superuser(name)):
        _admin.append(admin)
    if not _admin:
        _flush(case)
        return
    assert _admin[0].info.dbname == name
    canaries.look_at_rows(lambda statement: _admin[0].execute(statement, prepare=True).fetchall(), name)
    ((tables, deletions, has_big),) = _admin[0].execute(TABLES, [BIG, KEPT])
    if has_big:
        _admin[0].execute(f"truncate {tables}")
    else:  # the lock waits for whoever still writes; a replica fires no trigger and asks for no foreign key
        _admin[0].execute(
            f"begin; set local session_replication_role = replica; lock {tables} in share mode; {deletions}; commit"
        )


def leave() -> None:
    """The connection would keep the database from being dropped."""
    while _admin:
        _admin.pop().close()
