"""Watching an answer that another process writes, or that has ended: page and program see the same, in their own frames."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Any
from uuid import UUID

from django.db import DatabaseError

from conversations.engine import relay, runner, turns
from conversations.engine.live import Blockwise, Since, follow
from conversations.models import Message
from lib.db import Principal, db
from lib.errors import DomainError, NotAuthenticated, NotFound, Unavailable
from lib.sse import COME_BACK, KEEPALIVE

ROW_EVERY_S = 1.0  # as often as the row changes

Seen = tuple[str, dict[str, Any]]  # the text so far, and its message, which says `status`


async def from_afar(
    turn_id: UUID,
    offset: int,
    so_far: Seen,
    *,
    look: Callable[[], Awaitable[Seen]],
    end: Callable[[dict[str, Any] | DomainError, int], Awaitable[bytes]],
    since: Since = Blockwise.since,
) -> AsyncGenerator[bytes, None]:
    """Frames from `offset` characters on, of an answer that is not in this process: its row says how far it has come, the
    copy what comes then, the row how it ended.

    While there is no copy, the row is asked every second, until its runner or the reaper ends it.

    look  asks the row again. Raises NotFound or NotAuthenticated when it may not be watched any more
    end   the last frame, of the message that has ended or of that refusal
    """
    loop, body, has_ended = asyncio.get_running_loop(), Blockwise(), False
    while True:
        asked_at, (text, message) = loop.time(), so_far
        body.push(text[body.length :])
        if frames := since(body, offset):
            offset = body.length
            yield b"".join(frames)
        if message["status"] != Message.Status.PENDING:
            yield await end(message, max(offset, body.length))
            return
        with relay.reader.following(turn_id, body.length) as copy:
            async for frame in follow(copy, offset, since):
                yield frame
        offset = max(offset, copy.body.length)
        if runner.is_draining():
            yield COME_BACK
            return
        yield KEEPALIVE
        if has_ended or not copy.has_ended:
            await asyncio.sleep(asked_at + ROW_EVERY_S - loop.time())
        has_ended = copy.has_ended
        try:
            so_far = await look()
        except (NotFound, NotAuthenticated) as gone:
            yield await end(gone, offset)
            return
        except (DatabaseError, Unavailable):
            pass  # it comes back; the copy may have more until then


async def stop(principal: Principal, turn_id: UUID) -> None:
    """Stop an answer of the principal's, whichever process writes it. One that has ended stays as it is."""
    if not runner.stop(turn_id) and await db(turns.ask_to_stop, principal, turn_id):
        await relay.ask_to_stop(turn_id)
