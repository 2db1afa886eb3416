"""A turn that has no piece yet goes to the next model of its brand's chain, under the same hold."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson

from conversations.engine.abilities import require
from conversations.engine.statements import HAND_OVER
from conversations.engine.turns import Begun
from lib.db import SERVICE, opening, send
from lib.errors import Invalid
from providers import calls, fallback
from providers.offers import Offer


def next_begun(begun: Begun, tried: set[UUID], chain: Sequence[UUID]) -> Begun | None:
    """The same turn, under the same hold, for the next model of the chain that can do it; None = there is none."""
    call = begun.call
    assert call is not None

    def can(offer: Offer) -> bool:
        if begun.principal.models and offer.api_identifier not in begun.principal.models:
            return False
        try:
            require(offer, begun.params, call.tool_choice, call.messages)
        except Invalid:
            return False
        is_dearer = calls.has_images(call.messages) and offer.image_tokens > begun.offer.image_tokens  # than is held
        return not is_dearer and not (call.tools and offer.protocol == "demo")

    found = fallback.stand_in(
        chain, call=call, params=begun.params, prompt_tokens=begun.prompt_tokens, tried=tried, can=can
    )
    if found is None:
        return None
    return replace(begun, offer=found[0], call=found[1], instead_of=begun.instead_of or begun.offer.name)


def hand_over(begun: Begun, attempts: Sequence[Mapping[str, Any]]) -> Begun | None:
    """Give a turn that has no piece yet to the next model of its brand's chain, and store that before it is asked.

    attempts  the calls that failed so far; a model that is among them is not asked again
    None      there is no other model, or somebody else ended the turn
    """
    tried = {UUID(attempt["provider_id"]) for attempt in attempts}
    with opening(SERVICE):
        following = next_begun(begun, tried, fallback.chain(SERVICE, begun.principal.brand_id))
        if following is None:
            return None
        names = {
            "turn": begun.turn_id,
            "provider": following.offer.id,
            "model": following.offer.api_identifier,
            "model_name": following.offer.name,
            "instead_of": following.instead_of,
            "attempts": orjson.dumps(attempts).decode(),
        }
        return following if send((HAND_OVER, names))[0] else None
