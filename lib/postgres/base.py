"""Django's PostgreSQL backend, for a database that may go away and come back: nobody waits long, and nothing is restarted.

Django finds it by this name (`ENGINE = "lib.postgres"`). What it adds belongs to its pool: without one it is Django's own.
"""

import logging
import select
from collections.abc import Callable
from typing import Any, TypeVar

import psycopg
from django.conf import settings
from django.db.backends.base.base import NO_DB_ALIAS
from django.db.backends.postgresql import base
from psycopg.abc import PQGen
from psycopg_pool import ConnectionPool

from lib.db import patience

RV = TypeVar("RV")
AT_ONCE_S = 0.05  # long enough for a try to connect that succeeds
log = logging.getLogger(__name__)


class Connection(psycopg.Connection[Any]):
    """Gives up when the server says nothing for longer than this process, or this piece of work, has patience.

    A network that swallows everything looks like a statement that takes long: no time limit of the server helps there.
    """

    was_silent = False

    def wait(self, gen: PQGen[RV], interval: float = 0.1, timeout: float | None = None) -> RV:
        limit = patience.get() or settings.DATABASE_SILENCE_S
        try:
            return super().wait(gen, interval, limit if timeout is None else timeout)
        except psycopg.errors._WaitTimeout as silence:
            if timeout is not None:
                raise
            self.was_silent = True
            self.close()
            raise psycopg.OperationalError(f"the database has said nothing for {limit:g} s") from silence


class Pool(ConnectionPool[Connection]):
    """Lends no connection that was hung up, and while there is none and none can be made says so at once.

    Every try to borrow is also a try to connect, one at a time, so the way back is found with the next request.
    A server that has no room for more connections is not away: those that work come back, and are waited for.
    """

    is_away = False  # the last try to connect failed, and no connection was left

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._lent: set[Connection] = set()
        super().__init__(*args, **kwargs)

    def getconn(self, timeout: float | None = None) -> Connection:
        while True:
            connection = super().getconn(AT_ONCE_S if self.is_away else timeout)
            if not _is_spoken_to(connection):
                self._lent.add(connection)
                return connection
            connection.close()  # the server has ended, and its last words lie unread
            self.putconn(connection)

    def putconn(self, conn: Connection) -> None:
        self._lent.discard(conn)
        if self.is_away and not conn.was_silent and not _is_spoken_to(conn):
            self.is_away = False  # it comes back whole: so the database is there
        super().putconn(conn)
        if conn.was_silent:
            log.warning("The database did not answer: all idle connections are given up.")
            self.drain()

    def _connect(self, timeout: float | None = None) -> Connection:
        try:
            connection = super()._connect(timeout)
        except psycopg.OperationalError:
            self.is_away = not self._has_any()
            raise
        self.is_away = False
        return connection

    def _has_any(self) -> bool:
        """Whether a connection is left that was not given up: one that is lent, or idle and not hung up."""
        with self._lock:
            idle = list(self._pool)
        lent = self._lent.copy()
        return any(not connection.closed for connection in lent) or any(not _is_spoken_to(one) for one in idle)


def _is_spoken_to(connection: Connection) -> bool:
    """Whether there is anything to read on a connection that nobody has asked anything; costs no round trip."""
    if connection.closed:
        return True
    poll = select.poll()
    poll.register(connection.fileno(), select.POLLIN)
    return bool(poll.poll(0))


class DatabaseWrapper(base.DatabaseWrapper):
    _connection_pools: dict[str, Pool]  # Django's own: one for each alias of the process
    _configure_connection: Callable[[Connection], None]

    @property
    def pool(self) -> Pool | None:
        options = self.settings_dict["OPTIONS"].get("pool")
        if self.alias == NO_DB_ALIAS or not options:
            return None
        if self.alias not in self._connection_pools:
            pool = Pool(
                connection_class=Connection,
                kwargs={**self.get_connection_params(), "autocommit": True},
                open=False,
                configure=self._configure_connection,
                **options,
            )
            self._connection_pools.setdefault(self.alias, pool)  # the first thread wins; the others' was never opened
        return self._connection_pools[self.alias]
