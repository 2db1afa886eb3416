"""Answers at the other web processes: what is written here is copied to Redis, and followed from there.

A process that is asked for an answer which another one writes serves it from this copy; "stop" goes the other way. Neither is
ever the only way: without Redis readers follow the row, which is a second behind, and a checkpoint hears of the stop. So
nothing waits for Redis but the two tasks here: one that writes, in order, and one that reads.

A copy is a stream of entries `at`, `text`: so many characters stand before this text. To be told twice does no harm then, and
a gap cannot go unseen. The last entry is `end`.
"""

import asyncio
import logging
import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import Context
from typing import Any
from uuid import UUID

from django.conf import settings
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from conversations.engine.live import BUSY_ANSWERS, Growing, Live, hub

log = logging.getLogger(__name__)

COPY_EVERY_S, COPY_BUSY_EVERY_S, READ_EVERY_S = 0.25, 0.5, 0.1  # busy: more than BUSY_ANSWERS are written here
PATIENCE_S = 1.0  # a Redis that takes longer is away
AGAIN_S = 1.0  # after it was away
KEPT_S, KEPT_ENDED_S = 900, 60  # no answer takes longer than ten minutes
APPEARS_S = 1.0  # by then the copy has what the row has, or nobody writes it
SILENT_S = 5.0  # then the row must say whether the answer still runs
ENTRIES = 200  # of each copy, read at once
AWAY = (RedisError, OSError)

# One command for all answers of a process. For each answer three arguments: where the text stands, the text since the last
# time, and `anew` (nothing was copied, or perhaps not), `more` or `end`. It says which copies are lost and what is to stop,
# by number from 0, and nothing of all the others: to read a word for each took most of what the copy cost.
COPY = """
local lost, stop = {}, {}
for i, key in ipairs(KEYS) do
  local at, text, how = ARGV[3 * i], ARGV[3 * i + 1], ARGV[3 * i + 2]
  if at ~= '0' and redis.call('EXISTS', key) == 0 then
    lost[#lost + 1] = i - 1
  else
    if text ~= '' or how == 'anew' then redis.call('XADD', key, '*', 'at', at, 'text', text) end
    if how == 'end' then redis.call('XADD', key, '*', 'end', '1') end
    redis.call('EXPIRE', key, ARGV[how == 'end' and 2 or 1])
    if redis.call('EXISTS', key .. ':stop') == 1 then stop[#stop + 1] = i - 1 end
  end
end
return {lost, stop}
"""

Entries = Iterable[tuple[bytes, Mapping[bytes, bytes]]]


def _key(turn_id: UUID) -> str:
    return f"chatsite:answer:{turn_id}"


def _redis() -> Redis:
    """For one task, which closes it. It tries nothing again by itself: whoever uses it must hear of every failure."""
    client: Redis = Redis.from_url(
        settings.REDIS_URL,
        protocol=2,
        socket_timeout=PATIENCE_S,
        socket_connect_timeout=PATIENCE_S,
        retry=Retry(NoBackoff(), 0),
    )
    return client


class Writer:
    """Copies the answers that are written in this process."""

    def __init__(self) -> None:
        self._copied: dict[Live, int | None] = {}  # characters; None = copy it anew
        self._task: asyncio.Task[None] | None = None
        self._is_away = False

    def carry(self, live: Live) -> None:
        """Copy this answer from now on, to its end."""
        self._copied[live] = None
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._write(), context=Context())

    async def flush(self) -> None:
        """Before the process ends: let the ends of its answers be copied."""
        if self._task is not None:
            await asyncio.wait([self._task], timeout=PATIENCE_S)

    async def _write(self) -> None:
        async with _redis() as redis:
            copy = redis.register_script(COPY)
            try:
                while self._copied:
                    await asyncio.sleep(COPY_BUSY_EVERY_S if len(self._copied) > BUSY_ANSWERS else COPY_EVERY_S)
                    try:
                        await self._copy(copy)
                    except AWAY as error:
                        self._lost_touch(error)
                        await asyncio.sleep(AGAIN_S)
            finally:
                self._copied.clear()
                self._task = None

    async def _copy(self, copy: AsyncScript) -> None:
        keys: list[str] = []
        given: list[int | bytes | str] = [KEPT_S, KEPT_ENDED_S]
        sent: list[tuple[Live, int, str]] = []
        for live, copied in self._copied.items():
            at, how = copied or 0, "end" if live.is_over else "anew" if copied is None else "more"
            text = live.body.tail(at) if live.body.length > at else ""
            keys.append(_key(live.begun.turn_id))
            given += (at, text.encode(errors="replace"), how)
            sent.append((live, at + len(text), how))
        lost, stop = map(set, await copy(keys=keys, args=given))
        if self._is_away:
            self._is_away = False
            log.warning("Redis is back: answers are copied again.")
        for number, (live, length, how) in enumerate(sent):
            if number in lost:
                self._copied[live] = None
            elif how == "end":
                del self._copied[live]
            else:
                self._copied[live] = length
                if number in stop and not live.is_over:
                    live.stop()

    def _lost_touch(self, error: Exception) -> None:
        """Whether the last words arrived is not known, so all are copied anew; nobody waits for those that ended long ago."""
        if not self._is_away:
            self._is_away = True
            log.warning("Redis is away (%s): answers go on; readers at other processes follow the database.", error)
        self._copied = {live: None for live in self._copied if hub.get(live.begun.turn_id)}


class Copy(Growing):
    """An answer of another process, as far as its copy has come."""

    def __init__(self, turn_id: UUID) -> None:
        super().__init__()
        self.turn_id = turn_id
        self.has_ended = False  # the answer itself: its row has all of it
        self.position = b"0"
        self.readers = 0
        self._at_least = 0
        self._asked_at = self._heard_at = self._loop.time()

    def expect(self, at_least: int) -> None:
        """A reader knows from the row that so much has been written."""
        self._at_least, self._asked_at = max(at_least, self._at_least), self._loop.time()

    def take(self, entries: Entries) -> None:
        self._heard_at = self._loop.time()
        for self.position, entry in entries:
            if b"end" in entry:
                self.has_ended = True
                self.end()
                return
            at, text = int(entry[b"at"]), entry[b"text"].decode()
            if at > self.length:
                self.end()
                return
            if fresh := text[self.length - at :]:
                self.push(fresh)

    def is_doubtful(self) -> bool:
        """Whether it may be that nobody writes it any more."""
        is_behind = self.position == b"0" or self.length < self._at_least
        since, patience_s = (self._asked_at, APPEARS_S) if is_behind else (self._heard_at, SILENT_S)
        return self._loop.time() - since > patience_s


class Reader:
    """Follows the copies of other processes' answers, however many read each of them here."""

    def __init__(self) -> None:
        self._followed: dict[UUID, Copy] = {}
        self._task: asyncio.Task[None] | None = None
        self._again_at = 0.0

    @contextmanager
    def following(self, turn_id: UUID, at_least: int) -> Iterator[Copy]:
        """The copy, which grows until it `is_over`: because the answer `has_ended`, or because the row must be asked."""
        loop = asyncio.get_running_loop()
        copy = self._followed.get(turn_id)
        if copy is None:
            copy = Copy(turn_id)
            if loop.time() < self._again_at:
                copy.end()
            else:
                self._followed[turn_id] = copy
                if self._task is None:
                    self._task = loop.create_task(self._read(), context=Context())
        copy.expect(at_least)
        copy.readers += 1
        try:
            yield copy
        finally:
            copy.readers -= 1
            if not copy.readers:
                self._drop(copy)

    def let_go(self) -> None:
        """This process ends: follow nothing from here on. Its readers go on elsewhere."""
        self._again_at = math.inf
        self._drop_all()

    def _drop_all(self) -> None:
        for copy in list(self._followed.values()):
            self._drop(copy)

    def _drop(self, copy: Copy) -> None:
        if self._followed.get(copy.turn_id) is copy:
            del self._followed[copy.turn_id]
        if not copy.is_over:
            copy.end()

    async def _read(self) -> None:
        async with _redis() as redis:
            try:
                while self._followed:
                    copies = {_key(copy.turn_id).encode(): copy for copy in self._followed.values()}
                    positions: Any = {key: copy.position for key, copy in copies.items()}
                    found: Any = await redis.xread(positions, count=ENTRIES)
                    for key, entries in found:
                        copies[key].take(entries)
                    for copy in copies.values():
                        if copy.is_over or copy.is_doubtful():
                            self._drop(copy)
                    if not any(len(entries) == ENTRIES for _, entries in found):
                        await asyncio.sleep(READ_EVERY_S)
            except AWAY as error:
                self._again_at = max(self._again_at, asyncio.get_running_loop().time() + AGAIN_S)
                log.debug("No copies for the moment: %s", error)  # the writer says it aloud
            finally:
                self._task = None
                self._drop_all()


async def ask_to_stop(turn_id: UUID) -> None:
    """Tell the process that writes this answer, wherever it is. Without Redis it hears at its next checkpoint."""
    try:
        async with _redis() as redis:
            await redis.set(f"{_key(turn_id)}:stop", 1, ex=KEPT_ENDED_S)
    except AWAY as error:
        log.warning("Redis is away (%s): the stop of turn %s waits for the next checkpoint.", error, turn_id)


writer, reader = Writer(), Reader()
