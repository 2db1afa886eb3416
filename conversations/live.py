"""Answers that are being written in this process, and those who watch them.

A Live outlives its readers: they come, catch up and go. An event's id is the number of characters sent so far, so that a
reader who comes back says exactly what it has seen, whoever serves it then: this hub, or the row.
"""

import asyncio
from collections.abc import AsyncIterator
from uuid import UUID

import orjson
from django.utils.safestring import SafeString

from conversations.turns import Begun, Finished
from lib.errors import DomainError
from lib.html import Blocks, render
from providers.calls import Usage

COALESCE_S = 0.04  # at most one frame per reader in this time; the first one goes at once
KEEP_S = 60.0  # an ended answer stays this long for readers that come late
KEEPALIVE_S = 15.0
KEEPALIVE = b": keepalive\n\n"


class Blockwise:
    """A growing text as the page shows it: finished blocks as HTML, the open one as plain text."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.length = 0
        self.blocks = Blocks()
        self._html: list[SafeString] = []

    def push(self, piece: str) -> None:
        self.parts.append(piece)
        self.length += len(piece)
        self.blocks.feed(piece)

    @property
    def text(self) -> str:
        if len(self.parts) > 1:
            self.parts = ["".join(self.parts)]
        return self.parts[0] if self.parts else ""

    def tail(self, offset: int) -> str:
        """What came after `offset`; touches only the newest pieces when the reader is nearly up to date."""
        first, missing = len(self.parts), self.length - offset
        while missing > 0:
            first -= 1
            missing -= len(self.parts[first])
        return "".join(self.parts[first:])[-missing:] if missing else "".join(self.parts[first:])

    def since(self, offset: int) -> list[bytes]:
        """The events that bring a reader who has seen `offset` characters up to date.

        Whoever saw the first n characters has seen the blocks that end within them: ends depend on the text alone.
        """
        ends, events = self.blocks.ends, []
        first = len(ends)
        while first and ends[first - 1] > offset:
            first -= 1
        for number in range(first, len(ends)):
            events.append(event("block", self._block(number), ends[number]))
            offset = ends[number]
        if offset < self.length:
            events.append(event("delta", self.tail(offset), self.length))
        return events

    def _block(self, number: int) -> SafeString:
        ends = self.blocks.ends
        while len(self._html) <= number:
            done = len(self._html)
            self._html.append(render(self.text[ends[done - 1] if done else 0 : ends[done]]))
        return self._html[number]


class Live:
    """One running answer. `push` is on the path of every token: nothing here looks at the whole text."""

    def __init__(self, begun: Begun) -> None:
        self.begun = begun
        self.body = Blockwise()
        self.finished: Finished | None = None
        self.listening: asyncio.Task[Usage | None] | None = None  # to the provider; the one part that can be cancelled
        self.ending: asyncio.Task[None] | None = None  # waits for it, then stores and settles
        self.error: DomainError | None = None  # why it failed, for the door that must say it in its own shape
        self.is_stopped = False  # by a person; cancelled for another reason, the answer was interrupted
        self.checkpointed = 0  # characters in the row
        self._loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._woken_at = 0.0

    @property
    def text(self) -> str:
        return self.body.text

    def push(self, piece: str) -> None:
        self.body.push(piece)
        if self._timer is None and self._waiting:
            wait = self._woken_at + COALESCE_S - self._loop.time()
            if wait <= 0:
                self._wake()
            else:
                self._timer = self._loop.call_later(wait, self._wake)

    def close(self, finished: Finished) -> None:
        self.finished = finished
        self._wake()

    def stop(self) -> None:
        self.is_stopped = True
        self.interrupt()

    def interrupt(self) -> None:
        """Hang up on the provider, once: a second time would cut short how the first one ends."""
        if self.listening is not None and not self.listening.cancelling():
            self.listening.cancel()

    async def news(self, seen: int) -> bool:
        """Wait until there is more than `seen` characters, or the end. False when nothing came for a while."""
        if self.body.length > seen or self.finished:
            return True
        future = self._loop.create_future()
        self._waiting.append(future)
        try:
            async with asyncio.timeout(KEEPALIVE_S):
                await future
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._woken_at = self._loop.time()
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(None)


class Hub:
    """The live answers of this process."""

    def __init__(self) -> None:
        self.running: dict[UUID, Live] = {}

    def add(self, live: Live) -> None:
        self.running[live.begun.turn_id] = live

    def get(self, turn_id: UUID) -> Live | None:
        return self.running.get(turn_id)

    def unfinished(self) -> list[Live]:
        return [live for live in self.running.values() if live.finished is None]

    def keep_for_late_readers(self, live: Live) -> None:
        asyncio.get_running_loop().call_later(KEEP_S, self.running.pop, live.begun.turn_id, None)


hub = Hub()


async def follow(live: Live, offset: int) -> AsyncIterator[bytes]:
    """Server-sent events from `offset` characters on, until the answer has ended.

    A reader may have seen more than there is: a process died, and its row is up to a second behind what it had sent.
    """
    offset = min(offset, live.body.length)
    while True:
        if frames := live.body.since(offset):
            offset = live.body.length
            yield b"".join(frames)
        if live.finished and live.body.length == offset:
            return
        if not await live.news(offset):
            yield KEEPALIVE


def event(name: str, data: str, offset: int) -> bytes:
    return b"id: %d\nevent: %s\ndata: %s\n\n" % (offset, name.encode(), orjson.dumps(str(data)))
