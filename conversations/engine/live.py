"""Answers that are being written in this process, and those who watch them.

A Live outlives its readers: they come, catch up and go. An event's id is the number of characters sent so far, so that a
reader who comes back says exactly what it has seen, whoever serves it then: this hub, a copy at another process, or the row.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any
from uuid import UUID

from django.utils.safestring import SafeString

from conversations.engine.turns import Begun, Finished
from lib.errors import DomainError
from lib.html import Blocks, render
from lib.sse import KEEPALIVE, event
from providers.calls import ToolPiece, Usage

# At most one frame per reader in this time; the first one goes at once. A process with many live answers sends fewer,
# larger frames: at 20 tokens a second that saves a third of the CPU per token, and no token waits longer than this.
COALESCE_S, COALESCE_BUSY_S, BUSY_ANSWERS = 0.04, 0.08, 100
KEEP_S = 60.0  # an ended answer stays this long for readers that come late
KEEPALIVE_S = 15.0


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


Since = Callable[[Blockwise, int], list[bytes]]  # what brings a reader of so many characters up to date, as events


class Growing:
    """A text that grows, and those who wait for more of it. Nothing here looks at the whole text."""

    def __init__(self) -> None:
        self.body = Blockwise()
        self.length = 0  # of all that came; a Live counts the characters of tool calls too
        self.is_over = False  # nothing more comes from here
        self._loop = asyncio.get_running_loop()
        self._waiting: list[asyncio.Future[bool]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._woken_at = self._loop.time() - COALESCE_BUSY_S

    def push(self, piece: str) -> None:
        self.body.push(piece)
        self.length += len(piece)
        if self._timer is None and self._waiting:
            self._wake_soon()

    def end(self) -> None:
        self.is_over = True
        self._wake()

    async def news(self, seen: int) -> bool:
        """Wait until more than `seen` has come (see `length`), or the end. False when nothing came for a while."""
        if self.length > seen or self.is_over:
            return True
        future = self._loop.create_future()
        self._waiting.append(future)
        return await future

    def nudge(self) -> None:
        """Let readers who have waited long send a sign of life. The process's clock calls this: no timer per wait."""
        if self._waiting and self._loop.time() - self._woken_at >= KEEPALIVE_S:
            self._wake(is_news=False)

    def _wake_soon(self) -> None:
        wait = self._woken_at + hub.coalesce_s - self._loop.time()
        if wait <= 0:
            self._wake()
        else:
            self._timer = self._loop.call_later(wait, self._wake)

    def _wake(self, *, is_news: bool = True) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._woken_at = self._loop.time()
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if not future.done():
                future.set_result(is_news)


class Live(Growing):
    """One running answer, in the process that writes it. `push` is on the path of every token."""

    def __init__(self, begun: Begun) -> None:
        super().__init__()
        self.begun = begun
        self.body.push(begun.so_far)  # in no count of what comes
        self.finished: Finished | None = None
        self.listening: asyncio.Task[Usage | None] | None = None  # to the provider; the one part that can be cancelled
        self.ending: asyncio.Task[None] | None = None  # waits for it, then stores and settles
        self.error: DomainError | None = None  # why it failed, for the door that must say it in its own shape
        self.is_stopped = False  # by a person; cancelled for another reason, the answer was interrupted
        self.checkpointed = 0  # characters in the row
        self.tool_pieces: list[ToolPiece] = []  # for the program that asked; a page offers no tools
        self.tool_offsets: list[int] = []  # of each piece: how many characters of text had come before it
        self.attempts: list[dict[str, Any]] = []  # calls that failed and were followed by another; see Turn.attempts
        self.asked_at = 0.0  # on the loop's clock: when the model was asked that is to answer
        self.first_piece_ms: int | None = None

    @property
    def text(self) -> str:
        return self.body.text

    @property
    def new_text(self) -> str:
        """What came, without what the answer began with."""
        return self.body.text[len(self.begun.so_far) :]

    def push(self, piece: str | ToolPiece) -> None:
        if isinstance(piece, str):
            self.body.push(piece)
            self.length += len(piece)
        else:
            self.tool_pieces.append(piece)
            self.tool_offsets.append(self.body.length)
            self.length += len(piece.name) + len(piece.arguments)
        if self._timer is None and self._waiting:
            self._wake_soon()

    def tool_calls(self) -> list[dict[str, str]]:
        """The tool calls so far, whole: {"id", "name", "arguments"}, in the order the model began them."""
        calls: dict[int, dict[str, str]] = {}
        for piece in self.tool_pieces:
            call = calls.setdefault(piece.index, {"id": "", "name": "", "arguments": ""})
            call["id"] = call["id"] or piece.id
            call["name"] = call["name"] or piece.name
            call["arguments"] += piece.arguments
        return list(calls.values())

    def close(self, finished: Finished) -> None:
        self.finished = finished
        self.end()

    def stop(self) -> None:
        self.is_stopped = True
        self.interrupt()

    def interrupt(self) -> None:
        """Hang up on the provider, once: a second time would cut short how the first one ends."""
        if self.listening is not None and not self.listening.cancelling():
            self.listening.cancel()


class Hub:
    """The answers of this process: those being written, and for a minute those that have just ended."""

    def __init__(self) -> None:
        self._known: dict[UUID, Live] = {}
        self._unfinished: dict[UUID, Live] = {}
        self.coalesce_s = COALESCE_S

    def add(self, live: Live) -> None:
        self._known[live.begun.turn_id] = self._unfinished[live.begun.turn_id] = live
        self._pace()

    def get(self, turn_id: UUID) -> Live | None:
        return self._known.get(turn_id)

    def unfinished(self) -> list[Live]:
        return list(self._unfinished.values())

    def ended(self, live: Live) -> None:
        """Keep it for late readers, for a while; a program's answer has none."""
        self._unfinished.pop(live.begun.turn_id, None)
        self._pace()
        keep_s = KEEP_S if live.begun.conversation_id else 0
        asyncio.get_running_loop().call_later(keep_s, self._known.pop, live.begun.turn_id, None)

    def _pace(self) -> None:
        self.coalesce_s = COALESCE_BUSY_S if len(self._unfinished) > BUSY_ANSWERS else COALESCE_S


hub = Hub()


async def follow(answer: Growing, offset: int, since: Since = Blockwise.since) -> AsyncGenerator[bytes, None]:
    """Server-sent events from `offset` characters on, until nothing more comes from here; `since` makes frames of a text.

    A reader may have seen more than there is, from a process that had more: it is told nothing twice, and nothing at all
    until there is more than it has seen.
    """
    while True:
        seen = answer.length
        if frames := since(answer.body, offset):
            offset = answer.body.length
            yield b"".join(frames)
        if answer.is_over and answer.body.length <= offset:
            return
        if not await answer.news(seen):
            yield KEEPALIVE
