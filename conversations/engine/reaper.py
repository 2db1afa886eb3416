"""Ends what its process could not: turns without a heartbeat, and holds whose turn was never begun."""

import logging
from datetime import timedelta
from uuid import UUID

from django.conf import settings
from django.utils.translation import gettext_lazy

from accounts import idempotency
from conversations.engine import finishing
from conversations.engine.statements import LOOK, LOST, ORPHANS
from conversations.engine.turns import Finished
from conversations.models import Turn
from lib.db import SERVICE, opening, patient_for, send
from lib.errors import DomainError
from providers.offers import Offer, known
from quotas import ledger

AT_A_TIME = 200
LOOK_S = 10  # for each of its statements
LATE = timedelta(seconds=7.5)  # beat calls every 5 s: what comes later than this could not come
LONG = timedelta(minutes=2)  # blind for less, nobody's hold expires by it: one lives 5 minutes longer than any turn
log = logging.getLogger(__name__)


class Interrupted(DomainError):
    says = gettext_lazy(
        "The server that wrote this answer went away. What had arrived is kept; ask again for the rest."
    )
    status, code = 502, "interrupted"


def reap() -> int:
    """End every turn whose process is gone, keep its text, settle by our own count. Returns how many.

    Gone is who could have given a sign of life for TURN_LOST_AFTER_S and gave none: a time in which nobody could look,
    because the database was away, is taken off. All times are the database's own.
    Safe to run anywhere, any number of times at once: finish() ends a turn once, whoever calls it.
    """
    with patient_for(LOOK_S):  # not for ever: while this one hangs, nobody looks
        return _reap()


def _reap() -> int:
    names = {"patience": timedelta(seconds=settings.TURN_LOST_AFTER_S), "late": LATE, "long": LONG, "most": AT_A_TIME}
    with opening(SERVICE, (LOOK, names), (LOST, names), (ORPHANS, names)) as ((look,), late, orphans):
        lost = list(Turn.objects.filter(pk__in=[row.id for row in late]).order_by("heartbeat_at"))
        offers = known()
    ended = 0
    for turn in lost:
        try:
            ended += _end(turn, offers[turn.provider_id]) is not None
        except Exception:  # one turn that cannot be ended must not keep the others from it
            log.exception("turn %s could not be reaped", turn.pk)
    for orphan in orphans:
        try:
            give_back(orphan.id)
            ended += 1
        except Exception:  # nor one hold
            log.exception("the hold of %s could not be given back", orphan.id)
    if len(lost) < AT_A_TIME and not look.was_long_blind:
        ledger.void_expired()  # after the turns: theirs were settled with them
    return ended


def give_back(reservation: UUID) -> None:
    """Release the hold of a turn that was never begun, and its idempotency key. A turn that has one keeps both.

    begin() takes the same key before it looks for the hold: either the turn is there when we look, or the hold is gone
    when begin() does. Nobody answers for free, and nobody who still asks is refused because he was slow.
    """
    with opening(SERVICE, key=reservation):
        if not Turn.objects.filter(pk=reservation).exists():
            idempotency.release(reservation)  # with the hold: under this id nothing could be held, so charged, again
            send(ledger.settling(reservation, amounts={}, reason="never begun"))


def _end(turn: Turn, offer: Offer) -> Finished | None:
    return finishing.finish(
        turn.pk,
        status=Turn.Status.INTERRUPTED,
        text=turn.partial,
        error=Interrupted(),
        offer=offer,
        own_prompt_tokens=turn.prompt_tokens_estimate,
        own_completion_tokens=turn.produced_tokens,
        held_tokens=turn.held_tokens,
        started_at=turn.created_at,
    )
