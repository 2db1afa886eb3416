"""The database's time, as this process knows it.

Whatever stands in a row is judged by one clock, the database's: this machine's may be minutes off (O-12). A connection that
opens asks it, at most once a minute; in between the kernel's counter of seconds, which nobody sets, goes on from there.
"""

import time
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import DatabaseError
from psycopg import Error

ASK_EVERY_NS = 60 * 10**9
USABLE_NS = 10**9  # an answer that took longer says too little; the next connection asks again
COUNTER = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # goes on while the machine sleeps, where there is one
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

_known: tuple[int, int] | None = None  # the counter, and the database's time at that moment (ns since 1970)


def now() -> datetime:
    """The database's time within a few milliseconds; this machine's, until a connection has been open."""
    return EPOCH + timedelta(microseconds=now_ns() // 1000)


def now_ns() -> int:
    """The same in nanoseconds since 1970."""
    if _known is None:
        return time.time_ns()
    asked_at, said = _known
    return said + time.clock_gettime_ns(COUNTER) - asked_at


def ahead_s() -> float:
    """Seconds that this machine's clock is ahead of the database's."""
    return (time.time_ns() - now_ns()) / 1e9


def ask(connection: Any, **_: Any) -> None:
    """Receiver of connection_created: set the clock by this connection, when it is time to."""
    global _known
    before = time.clock_gettime_ns(COUNTER)
    if _known is not None and before - _known[0] < ASK_EVERY_NS:
        return
    try:
        said = connection.connection.execute("select clock_timestamp()").fetchone()[0]
    except (Error, DatabaseError):
        return  # whoever opened the connection is about to meet the same error, and knows what to do
    after = time.clock_gettime_ns(COUNTER)
    if after - before < USABLE_NS:
        microseconds = (said - EPOCH) // timedelta(microseconds=1)
        _known = ((before + after) // 2, microseconds * 1000)
