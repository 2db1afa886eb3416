"""One task per answer, in the web process that took the question. It survives the browser and ends by finish() only.

The process keeps one clock: once a second every live turn's heartbeat and new text go to the database in one statement,
and turns whose asker lost the right to ask are stopped. What a process cannot finish, the reaper does.
"""

import asyncio
import logging
from contextlib import suppress
from contextvars import Context
from itertools import chain, repeat
from uuid import UUID

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from conversations import tasks
from conversations.engine import asking, finishing, relay, turns
from conversations.engine.live import Live, hub
from conversations.engine.turns import Begun, Finished
from conversations.errors import Dismissed, Restarting
from conversations.models import Turn
from lib import metrics
from lib.db import database_is_away, db
from lib.errors import DomainError
from lib.faults import fault
from providers import calls
from providers.calls import Usage
from providers.errors import ProviderError

log = logging.getLogger(__name__)

FINISH_TRIES_S = (0.2, 1, 2)  # waits between tries to store an answer; the last one again and again
OTHER_TRIES = 10  # when the database is there and refuses all the same; then the reaper takes over
LOOK_FOR_UNWELCOME_EVERY = 3  # checkpoints
STORE_S = 10  # for the ends of all answers, when the process itself ends

_pulse: asyncio.Task[None] | None = None
_draining = False


class Bug(DomainError):
    says = gettext_lazy("Something went wrong on our side. Your text is kept; please try again.")
    status, code = 500, "internal_error"


def start(begun: Begun) -> Live:
    """Run a begun turn; its answer can be followed in the hub at once."""
    global _pulse
    fault("after_begin")
    loop = asyncio.get_running_loop()
    if _pulse is None or _pulse.done():
        _pulse = loop.create_task(_checkpoints(), context=Context())  # it speaks for no request
    live = Live(begun)
    hub.add(live)
    metrics.turns_begun.inc()
    if begun.conversation_id:
        relay.writer.carry(live)
    live.listening = loop.create_task(asking.listen(live))
    live.ending = loop.create_task(_end(live, live.listening))
    return live


def accept() -> None:
    """Refuse, while this process drains, what another one can do: before anything is held."""
    if _draining:
        raise Restarting(_("This server is restarting. Try again in a moment; your text is kept."), retry_after=1)


def refuse() -> None:
    """From now on `accept()` refuses: this process is about to end."""
    global _draining
    _draining = True


def is_draining() -> bool:
    return _draining


async def _end(live: Live, listening: asyncio.Task[Usage | None]) -> None:
    """However the provider's part ends: nothing cancels this one, so every turn that was started is finished."""
    try:
        await asyncio.wait([listening])
        usage, error, status = None, None, Turn.Status.DONE
        if listening.cancelled():
            status = Turn.Status.STOPPED if live.is_stopped else Turn.Status.INTERRUPTED
        elif failure := listening.exception():
            status, error = Turn.Status.FAILED, failure if isinstance(failure, ProviderError) else Bug()
            if not isinstance(failure, ProviderError):
                log.error("turn %s failed", live.begun.turn_id, exc_info=failure)
        else:
            usage = listening.result()
        fault("after_provider")
        finished = await _finish(live, str(status), usage, error)
        live.error = error or live.error
        live.close(finished)
    finally:
        hub.ended(live)  # also when the loop itself is being closed
    if live.begun.opens and status == Turn.Status.DONE:
        await _wish_for_title(live.begun)


async def _wish_for_title(begun: Begun) -> None:
    """After the first answer to a member's page: the words that the chat is named by become a title, in the background."""
    if not settings.TITLE_TOKENS or begun.conversation_id is None or begun.principal.role != "app_user":
        return
    if begun.principal.key_id or begun.own_key:  # a program's; or for that key's vendor only
        return
    try:
        await db(tasks.better_title.delay, str(begun.conversation_id))
    except Exception as failure:  # the first words stay
        log.warning("chat %s gets no better title: %s", begun.conversation_id, failure)


async def _finish(live: Live, status: str, usage: Usage | None, error: DomainError | None) -> Finished:
    begun = live.begun
    own_completion_tokens, tool_calls = 0, live.tool_calls()
    if live.length:
        said = {"content": live.new_text, "tool_calls": [{"function": call} for call in tool_calls]}
        own_completion_tokens = calls.estimate_tokens([said])
    finished, tries = None, chain(FINISH_TRIES_S, repeat(FINISH_TRIES_S[-1]))
    for number, wait in enumerate(tries):
        try:
            finished = await db(
                finishing.finish,
                begun.turn_id,
                by_the_clock=True,
                status=status,
                text=live.text,
                usage=usage,
                error=error,
                offer=begun.offer,
                own_prompt_tokens=begun.prompt_tokens,
                own_completion_tokens=own_completion_tokens,
                held_tokens=begun.held_tokens,
                started_at=begun.started_at,
                tool_calls=tool_calls if status == Turn.Status.DONE else (),
                first_piece_ms=live.first_piece_ms,
                attempts=live.attempts,
            )
            fault("after_finish")
            break
        except Exception as failure:
            # The only whole text is here: while the database is away nobody else could store it, so we never give up.
            # Nothing new begins without a database, so what waits here is no more than what ran when it went.
            is_trouble = isinstance(failure, OperationalError | InterfaceError) and number < OTHER_TRIES
            if not is_trouble and not database_is_away(failure):
                log.exception("turn %s could not be finished; the reaper will", begun.turn_id)
                break
            await asyncio.sleep(wait)
    if finished is None:
        with suppress(Exception):  # what stands in the row is the truth, whoever wrote it
            finished = await db(finishing.as_ended, begun.turn_id, text=live.text, by_the_clock=True)
    return finished or Finished(
        status=str(Turn.Status.INTERRUPTED),
        text=live.text,
        is_charged=live.length > 0,
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
        lengths = [live.body.length for live in live_turns]
        for live in live_turns:
            live.nudge()
        changes = [_change(live) for live in live_turns]
        try:
            running = await db(turns.checkpoint, changes, by_the_clock=True)
            for live, length in zip(live_turns, lengths, strict=True):
                live.checkpointed = length
                is_to_stop = running.get(live.begun.turn_id)
                if is_to_stop:
                    live.stop()
                elif is_to_stop is None:
                    live.interrupt()  # the reaper took it for dead: nobody pays for what would come now
            metrics.checkpointed_at.set_to_current_time()
            fault("after_checkpoint")
            if beat % LOOK_FOR_UNWELCOME_EVERY == 0:
                ids = [live.begun.turn_id for live in live_turns]
                for turn_id in await db(turns.unwelcome, ids, by_the_clock=True):
                    _dismiss(turn_id)
        except Exception as away:  # the next beat tries again; a database that stays away is the reaper's case
            log.warning("checkpoint of %d turns failed: %s", len(changes), away)


def _change(live: Live) -> tuple[UUID, str | None, int]:
    has_grown, is_kept = live.body.length > live.checkpointed, live.begun.conversation_id is not None
    return live.begun.turn_id, live.text if has_grown and is_kept else None, -(-live.length // 4)


def stop(turn_id: UUID) -> bool:
    """Stop an answer that is written in this process; what has arrived is kept and charged. False = not here."""
    live = hub.get(turn_id)
    if live is None or live.finished:
        return live is not None
    live.stop()
    return True


def _dismiss(turn_id: UUID) -> None:
    """Stop an answer whose asker may not ask any more; a program hears it as an error, not as an end like any other."""
    live = hub.get(turn_id)
    if live is not None and not live.finished:
        live.error = Dismissed()
        live.stop()


async def end_all() -> None:
    """End what is being written here as interrupted, with its text. What cannot be stored in time the reaper ends."""
    refuse()
    endings = []
    for live in hub.unfinished():
        live.interrupt()
        if live.ending:
            endings.append(live.ending)
    if endings:
        await asyncio.wait(endings, timeout=STORE_S)
    await relay.writer.flush()
