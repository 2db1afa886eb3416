"""Threads for what async code does in the database, shared out so that one crowd cannot keep another waiting.

A crowd is a brand. Whoever waits is served in turn, one piece of work from each crowd, and one crowd never has all the
threads: the first question of a quiet brand goes in front of the thousandth of a loud one.
"""

import threading
from collections import Counter, deque
from collections.abc import Callable, Hashable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import ContextVar
from typing import Any

from django.utils.translation import gettext as _

from lib.errors import Unavailable

# Behind them nobody would get an answer in time. It has room for the readers of a process that ends, who all come at once.
MOST_WAITING = 600
crowd: ContextVar[Hashable] = ContextVar("crowd", default=None)  # who this request belongs to; None = nobody known

Work = Callable[[], Any]
Waiting = deque[tuple["Future[Any]", Work]]


class Hops:
    """`threads` pieces of work at once; of one crowd at most two thirds of that."""

    def __init__(self, threads: int) -> None:
        self._threads = ThreadPoolExecutor(threads, "db")
        self._free = threads
        self._most_each = max(1, threads * 2 // 3)
        self._running = Counter[Hashable]()
        self._waiting: dict[Hashable, Waiting] = {}  # the first in it is the next in turn
        self._count = 0
        self._lock = threading.Lock()

    def submit(self, work: Work) -> "Future[Any]":
        """Begin it, or put it in line for the caller's crowd.

        Raises  Unavailable when too many wait already, for the crowds that are more than their share of them
        """
        who, future = crowd.get(), Future[Any]()
        with self._lock:
            if not self._free or self._running[who] >= self._most_each:
                line = self._waiting.setdefault(who, deque())
                if self._count >= MOST_WAITING and len(line) * len(self._waiting) >= self._count:
                    raise Unavailable(_("Too many are waiting for the database. Try again in a moment."), retry_after=2)
                line.append((future, work))
                self._count += 1
                return future
            self._free -= 1
            self._running[who] += 1
        self._threads.submit(self._serve, who, future, work)
        return future

    def waiting(self) -> int:
        """How much is in line."""
        return self._count

    def _serve(self, who: Hashable, future: "Future[Any]", work: Work) -> None:
        """Do this, then whatever is next in turn, until nothing waits that may run."""
        while True:
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(work())
                except BaseException as error:
                    future.set_exception(error)
            del future, work  # while we wait for the lock, the caller may let go of what they hold
            with self._lock:
                self._running[who] -= 1
                if not self._running[who]:
                    del self._running[who]
                found = self._next()
                if found is None:
                    self._free += 1
                    return
                who, future, work = found

    def _next(self) -> "tuple[Hashable, Future[Any], Work] | None":
        for who, line in self._waiting.items():
            if self._running[who] < self._most_each:
                del self._waiting[who]
                future, work = line.popleft()
                if line:
                    self._waiting[who] = line
                self._count -= 1
                self._running[who] += 1
                return who, future, work
        return None
