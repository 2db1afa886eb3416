"""Asks the model of a turn; again where a repeat can mend it; then the brand's next one. All before the first piece only.

One hold, one charge and one time for the whole turn, however many calls: what failed before its first piece costs nothing,
and the turn carries along which calls those were. A call with a member's own key has no chain: it is repeated with that key,
and never goes on with ours.
"""

import asyncio
import logging
import random
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from dataclasses import replace
from typing import Any

from django.conf import settings
from django.db import InterfaceError, OperationalError
from django.utils.translation import gettext as _

from conversations.engine import handing_over, paying
from conversations.engine.live import Live
from lib import metrics
from lib.db import db
from lib.faults import fault
from providers import breaker, calls
from providers.calls import Limits, Usage
from providers.errors import Busy, CutOff, Down, Garbled, ProviderError, Rejected, TimedOut

log = logging.getLogger(__name__)

CHARACTERS_PER_TOKEN = 40  # no language says more in one: beyond that a provider ignores max_tokens
PAUSE_S = 0.4  # before the first repeat, doubled for the next, and shortened by up to a half at random
LONGEST_RETRY_AFTER_S = 2.0  # what a vendor may ask for without being left for another model


async def listen(live: Live) -> Usage | None:
    """The provider's part of a turn: its pieces go to `live`. Raises ProviderError, in words that name the model."""
    limits = Limits(**settings.PROVIDER_LIMITS)
    ends_at = asyncio.get_running_loop().time() + limits.total_s  # whoever answers: the hold is as old as the turn
    while True:
        own_key = live.begun.own_key
        try:
            usage = await _ask(live, limits, ends_at)
            paying.took(own_key)
            return usage
        except ProviderError as failure:
            failure.name(live.begun.offer.name)
            if own_key:
                raise await paying.failed(own_key, failure) from None
            if live.first_piece_ms is not None or not await _hand_over(live, failure, ends_at):
                _tell_who_was_asked_first(live, failure)
                raise


async def _ask(live: Live, limits: Limits, ends_at: float) -> Usage | None:
    """One model, with its repeats: all of them begin within its time for a first piece, and end with the turn's."""
    loop, call = asyncio.get_running_loop(), live.begun.call
    assert call is not None
    first_token_s = limits.thinking_s if call.thinks else limits.first_token_s
    until, repeats = min(loop.time() + first_token_s, ends_at), 0
    while True:
        live.asked_at = loop.time()
        left = replace(limits, first_token_s=until - live.asked_at, total_s=ends_at - live.asked_at)
        try:
            return await _call(live, left)
        except ProviderError as failure:
            pause_s = _pause_s(failure, repeats)
            if live.first_piece_ms is not None or pause_s is None or loop.time() + pause_s >= until:
                raise
            live.attempts.append(_attempt(live, failure))
        await asyncio.sleep(pause_s)
        repeats += 1


async def _call(live: Live, limits: Limits) -> Usage | None:
    call, usage = live.begun.call, None
    assert call is not None
    most_characters = call.max_tokens * CHARACTERS_PER_TOKEN + 10_000
    key = paying.key_for(call, live.begun.own_key)
    name = (call.protocol, call.base_url, call.model, key)
    await calls.ready(call.protocol)
    with _told(live) as told, breaker.Attempt(*name, thinks=call.thinks) as attempt:
        async with aclosing(calls.stream(call, key=key, limits=limits, alive=attempt.answered)) as pieces:
            first = await anext(pieces)
            attempt.answered()
            if isinstance(first, Usage):
                told["tokens"] = first.completion_tokens
                return first
            live.first_piece_ms = _ms(live)
            live.push(first)
            fault("after_first_piece")
            async for piece in pieces:
                if isinstance(piece, Usage):
                    usage = piece
                else:
                    live.push(piece)
                    if live.length > most_characters:
                        raise Garbled(_("The provider did not stop where it was told to. What had arrived is kept."))
            told["tokens"] = usage and usage.completion_tokens
    return usage


@contextmanager
def _told(live: Live) -> Iterator[dict[str, Any]]:
    """One line and one count for each call, however it ends: names and numbers, never text, never a key."""
    offer = live.begun.offer
    told: dict[str, Any] = {"outcome": "done"}
    try:
        yield told
    except ProviderError as failure:
        told |= {"outcome": failure.code, "vendor_status": failure.vendor_status}
        raise
    except asyncio.CancelledError:
        told["outcome"] = "stopped" if live.is_stopped else "interrupted"
        raise
    except Exception:
        told["outcome"] = "bug"
        raise
    finally:
        metrics.provider_calls.labels(offer.api_identifier, told["outcome"]).inc()
        if live.first_piece_ms is not None:
            metrics.first_piece_seconds.observe(live.first_piece_ms / 1000)
        names = {"turn_id": live.begun.turn_id, "provider": offer.protocol, "model": offer.api_identifier}
        numbers = {"attempt": len(live.attempts) + 1, "first_piece_ms": live.first_piece_ms, "ms": _ms(live)}
        log.info("provider call", extra=names | numbers | told)


def _pause_s(failure: ProviderError, repeats: int) -> float | None:
    """Seconds before the same model is asked once more; None when a repeat would mend nothing."""
    if repeats >= settings.PROVIDER_RETRIES:
        return None
    pause_s = PAUSE_S * 2**repeats * random.uniform(0.5, 1)  # noqa: S311 - so that not all come back at once
    if isinstance(failure, Busy):
        if failure.retry_after is None:
            return None if failure.vendor_code == "insufficient_quota" else pause_s
        return failure.retry_after + pause_s if failure.retry_after <= LONGEST_RETRY_AFTER_S else None
    if isinstance(failure, Down | CutOff) or (isinstance(failure, TimedOut) and failure.stage == "connect"):
        return pause_s
    return None


async def _hand_over(live: Live, failure: ProviderError, ends_at: float) -> bool:
    """Whether the next model of the brand's chain takes the turn over; it is stored then, and `live` is that model's."""
    if asyncio.get_running_loop().time() >= ends_at:
        return False
    if isinstance(failure, Rejected) and failure.vendor_status != 404:
        return False  # the question was refused, not the model lost: that is for the person to read
    attempts = [*live.attempts, _attempt(live, failure)]
    try:
        following = await db(handing_over.hand_over, live.begun, attempts, by_the_clock=True)
    except (OperationalError, InterfaceError) as away:
        log.warning("turn %s has no fallback, the database is away: %s", live.begun.turn_id, away)
        return False
    if following is None:
        return False
    live.begun, live.attempts = following, attempts
    fault("after_hand_over")
    return True


def _attempt(live: Live, failure: ProviderError) -> dict[str, object]:
    offer = live.begun.offer
    return {
        "provider_id": str(offer.id),
        "model": offer.api_identifier,
        "error_code": failure.code,
        "ms": _ms(live),
    }


def _ms(live: Live) -> int:
    return round((asyncio.get_running_loop().time() - live.asked_at) * 1000)


def _tell_who_was_asked_first(live: Live, failure: ProviderError) -> None:
    if live.begun.instead_of:
        first = _("%(model)s was asked first and could not answer either.") % {"model": live.begun.instead_of}
        failure.detail = f"{failure.detail} {first}"
