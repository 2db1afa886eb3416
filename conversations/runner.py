"""One task per answer, in the web process that took the question. It survives the browser and ends by finish() only.

The process keeps one clock: once a second every live turn's heartbeat and new text go to the database in one statement,
and turns whose asker lost the right to ask are stopped. What a process cannot finish, the reaper does.
"""

import asyncio
import logging
import re
from uuid import UUID

from django.conf import settings
from django.db import DatabaseError

from conversations import turns
from conversations.errors import Restarting
from conversations.live import Live, hub
from conversations.models import Turn
from conversations.turns import Begun, Finished
from lib.db import database_is_away, db
from lib.errors import DomainError
from providers import calls
from providers.calls import Usage
from providers.errors import ProviderError

log = logging.getLogger(__name__)

UNSTORABLE = re.compile("[\x00\ud800-\udfff]")  # PostgreSQL takes no NUL, UTF-8 no half of a pair
FINISH_TRIES_S = (0.2, 1, 2, 4, 8)  # waits between tries when the database is away; then the reaper takes over
LOOK_FOR_UNWELCOME_EVERY = 3  # checkpoints

_pulse: asyncio.Task[None] | None = None
_draining = False


class Bug(DomainError):
    """Something went wrong on our side. Your text is kept; please try again."""

    status, code = 500, "internal_error"


def start(begun: Begun) -> Live:
    """Run a begun turn; its answer can be followed in the hub at once."""
    global _pulse
    if _pulse is None or _pulse.done():
        _pulse = asyncio.get_running_loop().create_task(_checkpoints())
    live = Live(begun)
    hub.add(live)
    live.task = asyncio.get_running_loop().create_task(_run(live))
    return live


def accept() -> None:
    """Refuse a new question while this process drains; before anything is held."""
    if _draining:
        raise Restarting("This server is restarting. Try again in a moment; your text is kept.")


async def _run(live: Live) -> None:
    begun, usage, error, status = live.begun, None, None, Turn.Status.DONE
    assert begun.call is not None
    try:
        key = calls.platform_key(begun.call.protocol, begun.call.base_url)
        pieces = calls.stream(begun.call, key=key)
        try:
            async for piece in pieces:
                if isinstance(piece, Usage):
                    usage = piece
                elif piece:
                    live.push(piece if piece.isascii() and "\x00" not in piece else UNSTORABLE.sub("�", piece))
        finally:
            await pieces.aclose()
    except asyncio.CancelledError:
        status = Turn.Status.STOPPED if live.is_stopped else Turn.Status.INTERRUPTED
    except ProviderError as refused:
        status, error = Turn.Status.FAILED, refused
    except Exception:
        log.exception("turn %s failed", begun.turn_id)
        status, error = Turn.Status.FAILED, Bug()
    finished = await asyncio.shield(_finish(live, str(status), usage, error))
    live.error = error
    live.close(finished)
    hub.keep_for_late_readers(live)


async def _finish(live: Live, status: str, usage: Usage | None, error: DomainError | None) -> Finished:
    begun = live.begun
    for wait in (*FINISH_TRIES_S, None):
        try:
            finished = await db(
                turns.finish,
                begun.turn_id,
                status=status,
                text=live.text,
                usage=usage,
                error=error,
                offer=begun.offer,
                own_prompt_tokens=begun.prompt_tokens,
                own_completion_tokens=calls.estimate_tokens([{"content": live.text}]) if live.text else 0,
                held_tokens=begun.held_tokens,
                started_at=begun.started_at,
            )
            break
        except (DatabaseError, OSError) as away:
            if wait is None or not (database_is_away(away) or isinstance(away, DatabaseError)):
                log.error("turn %s could not be finished; the reaper will: %s", begun.turn_id, away)
                finished = None
                break
            await asyncio.sleep(wait)
    return finished or Finished(
        status=str(Turn.Status.INTERRUPTED),
        text=live.text,
        is_charged=bool(live.text),
        prompt_tokens=0,
        completion_tokens=0,
        cost_microusd=0,
        finish_reason="",
        error_code="interrupted",
        error_detail="",
        seconds=0,
    )


async def _checkpoints() -> None:
    """Until the process ends: heartbeats and texts of all live turns, one statement a second."""
    beat = 0
    while True:
        await asyncio.sleep(settings.CHECKPOINT_EVERY_S)
        beat += 1
        live_turns = hub.unfinished()
        if not live_turns:
            continue
        changes = [_change(live) for live in live_turns]
        try:
            await db(turns.checkpoint, changes)
            if beat % LOOK_FOR_UNWELCOME_EVERY == 0:
                for turn_id in await db(turns.unwelcome, [live.begun.turn_id for live in live_turns]):
                    stop(turn_id)
        except Exception as away:  # the next beat tries again; a database that stays away is the reaper's case
            log.warning("checkpoint of %d turns failed: %s", len(changes), away)


def _change(live: Live) -> tuple[UUID, str | None, int]:
    text, kept = None, live.begun.conversation_id is not None
    if kept and live.body.length > live.checkpointed:
        text, live.checkpointed = live.text, live.body.length
    return live.begun.turn_id, text, -(-live.body.length // 4)


def stop(turn_id: UUID) -> bool:
    """Stop an answer that is written in this process; what has arrived is kept and charged. False = not here."""
    live = hub.get(turn_id)
    if live is None or live.finished:
        return live is not None
    live.stop()
    return True


async def drain(seconds: float) -> None:
    """Take nothing new, let running answers end for a while, then end the rest as interrupted with their text."""
    global _draining
    _draining = True
    tasks = [live.task for live in hub.unfinished() if live.task]
    if tasks:
        _, late = await asyncio.wait(tasks, timeout=seconds)
        for task in late:
            task.cancel()
        if late:
            await asyncio.wait(late, timeout=10)
