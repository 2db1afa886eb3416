"""Identifiers that sort by time, so that new rows land at the end of every index and in the order they were made."""

import os
from datetime import datetime
from threading import Lock
from uuid import UUID

from lib import clock

_lock = Lock()
_last = 0


def uuid7() -> UUID:
    """A version 7 UUID (RFC 9562): milliseconds, then 12 bits of their fraction, then 62 random bits.

    Ids made by one process sort in the order they were made, also within one tick of the clock. Those of several machines
    sort by the database's time, so that a conversation keeps its order whichever of them is asked next.
    """
    global _last
    milliseconds, nanoseconds = divmod(clock.now_ns(), 1_000_000)
    tick = milliseconds << 12 | nanoseconds * 4096 // 1_000_000
    with _lock:
        tick = _last = max(tick, _last + 1)
    random = int.from_bytes(os.urandom(8)) >> 2
    return UUID(int=(tick >> 12) << 80 | 0x7 << 76 | (tick & 0xFFF) << 64 | 0b10 << 62 | random)


def first_at(moment: datetime) -> UUID:
    """The smallest id that uuid7() gives at this moment: rows from then on have no smaller one."""
    return UUID(int=int(moment.timestamp() * 1000) << 80)
