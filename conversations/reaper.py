"""Ends what its process could not: turns without a heartbeat, and holds whose turn was never begun."""

import logging
from datetime import timedelta

from django.conf import settings
from django.db.models import Exists, OuterRef
from django.db.models.functions import Now

from accounts import idempotency
from conversations import turns
from conversations.models import OPEN_STATES, Turn
from lib.db import SERVICE, scope
from lib.errors import DomainError
from providers.offers import Offer, known
from quotas import ledger
from quotas.models import Hold

AT_A_TIME = 200
log = logging.getLogger(__name__)


class Interrupted(DomainError):
    """The server that wrote this answer went away. What had arrived is kept; ask again for the rest."""

    status, code = 502, "interrupted"


def reap() -> int:
    """End every turn whose process is gone, keep its text, settle by our own count. Returns how many.

    Safe to run anywhere, any number of times at once: finish() ends a turn once, whoever calls it.
    """
    lost_since = Now() - timedelta(seconds=settings.TURN_LOST_AFTER_S)
    with scope(SERVICE):
        lost = list(
            Turn.objects.filter(status__in=OPEN_STATES, heartbeat_at__lt=lost_since).order_by("heartbeat_at")[
                :AT_A_TIME
            ]
        )
        offers = known()
    ended = 0
    for turn in lost:
        try:
            ended += _end(turn, offers[turn.provider_id]) is not None
        except Exception:  # one turn that cannot be ended must not keep the others from it
            log.exception("turn %s could not be reaped", turn.pk)
    with scope(SERVICE):
        turn_of = Turn.objects.filter(pk=OuterRef("reservation"))
        orphans = Hold.objects.filter(~Exists(turn_of), created_at__lt=lost_since)
        reservations = list(orphans.values_list("reservation", flat=True).distinct()[:AT_A_TIME])
    for reservation in reservations:
        with scope(SERVICE):
            if Turn.objects.filter(pk=reservation).exists():
                continue
            idempotency.release(reservation)  # first: under this id nothing could be held, so charged, again
        ledger.settle(reservation, amounts={}, reason="never begun")
    if len(lost) < AT_A_TIME:
        ledger.void_expired()  # after the turns: theirs were settled with them
    return ended + len(reservations)


def _end(turn: Turn, offer: Offer) -> turns.Finished | None:
    return turns.finish(
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
