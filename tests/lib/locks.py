"""Waiting until somebody waits for a lock, so that a race goes the one way that its test is about."""

import time

import pytest
from django.db import connections

# The server has the databases of all workers, and pg_locks shows them all.
WAITING = """
select count(*) from pg_locks l join pg_stat_activity a using (pid)
where not l.granted and a.datname = current_database() and l.locktype = coalesce(%s, l.locktype)
"""


def wait_for_a_lock(kind: str | None = None) -> None:
    """Until a session of this test's database waits for one.

    kind  "advisory", or "transactionid" for a row that somebody has; any, if not said
    """
    for _ in range(1500):
        with connections["owner"].cursor() as cursor:
            cursor.execute(WAITING, [kind])
            if cursor.fetchone()[0]:
                return
        time.sleep(0.02)
    pytest.fail(f"nobody waits for a lock of kind {kind or 'any'}")
