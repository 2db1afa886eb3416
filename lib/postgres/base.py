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
    """Lends no connection that was hung up, and while none can be made says so at once.

    Every try to borrow is also a try to connect, one at a time, so the way back is found with the next request.
    """

    is_away = False  # the last try to connect failed

    def getconn(self, timeout: float | None = None) -> Connection:
        while True:
            connection = super().getconn(AT_ONCE_S if self.is_away else timeout)
            if not _is_spoken_to(connection):
                return connection
            connection.close()  # the server has ended, and its last words lie unread
            self.putconn(connection)

    def putconn(self, conn: Connection) -> None:
        super().putconn(conn)
        if conn.was_silent:
            log.warning("The database did not answer: all idle connections are given up.")
            self.drain()

    def _connect(self, timeout: float | None = None) -> Connection:
        try:
            connection = super()._connect(timeout)
        except psycopg.OperationalError:
            self.is_away = True
            raise
        self.is_away = False
        return connection


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
