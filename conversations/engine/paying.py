"""Whose key pays the vendor of a turn: the platform's, or the member's own where the plan allows it.

Decided when a turn begins, in the statement that loads its conversation, and never anew: a call with a member's own key is
repeated with that key only, and no other model takes it over.
"""

import asyncio
import logging
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import InterfaceError, OperationalError

from lib.db import Principal, db, serve
from lib.secret import Secret
from providers import breaker, calls, own_keys
from providers.calls import Call, Embedding
from providers.errors import ProviderError
from providers.models import ProviderKey
from providers.offers import Offer

FRESH_FOR_S = 5.0  # a first key of one's own counts after this long in every process, where nothing else is loaded
MOST_KNOWN = 10_000
log = logging.getLogger(__name__)

# The member's keys that are switched on, if the plan allows them: a column of LOAD, and a statement.
KEYS = f"""
(select case when features -> 'byok_allowed' = 'true'::jsonb then ({own_keys.OF_MEMBER}) end
 from quotas_account where brand_id = %(brand)s and kind = 'user' and owner_id = %(owner)s)
"""  # noqa: S608
_notes: set[asyncio.Task[None]] = set()  # strong references
_without: dict[tuple[UUID, UUID], float] = {}  # members who had none when they were looked at


def keys_of(principal: Principal) -> Mapping[str, Any] | None:
    """The keys of a member whose call loads nothing else. Who has none is not asked about again for a while.

    What the brand pays for is paid with no member's key.
    """
    if principal.for_brand:
        return None
    member = (principal.brand_id, principal.owner_id)
    now = time.monotonic()
    if _without.get(member, 0) > now:
        return None
    names = {"brand": principal.brand_id, "owner": principal.owner_id}
    found: Mapping[str, Any] | None = serve((f"select {KEYS} as keys", names), lazily=True)[0][0].keys
    if found is None:
        if len(_without) >= MOST_KNOWN:
            _without.clear()
        _without[member] = now + FRESH_FOR_S
    return found


def forget(principal: Principal) -> None:
    """This member has just stored a key, or may do so now."""
    _without.pop((principal.brand_id, principal.owner_id), None)


def address(offer: Offer, own_key: ProviderKey | None) -> str:
    """The base URL of a call: with an own key its vendor's own host, whatever stands in the model's row."""
    return own_keys.home(own_keys.VENDORS[own_key.vendor]) if own_key else offer.base_url


def key_for(call: Call | Embedding, own_key: ProviderKey | None) -> Secret | None:
    """What the vendor is paid with."""
    return own_keys.opened(own_key) if own_key else calls.platform_key(call.protocol, call.base_url)


def rest_of(call: Call, own_key: ProviderKey) -> breaker.Rest | None:
    """What keeps a model from being asked now with this key, if anything does."""
    if not breaker.is_any_trouble():
        return None
    return breaker.resting(call.protocol, call.base_url, call.model, own_keys.opened(own_key))


def took(own_key: ProviderKey | None) -> None:
    """The vendor took the member's own key. That is noted beside the answer, which waits for nothing."""
    if own_key:
        noting = asyncio.get_running_loop().create_task(_note(own_keys.answered, own_key))
        _notes.add(noting)
        noting.add_done_callback(_notes.discard)


async def failed(own_key: ProviderKey, failure: ProviderError) -> ProviderError:
    """A call with a member's own key failed for good: what its owner is told. One that was refused is marked so."""
    if own_keys.is_refusal_of_key(failure):
        await _note(own_keys.refused, own_key, failure)
    return own_keys.in_own_words(failure, own_key)


async def _note(work: Any, *given: Any) -> None:
    try:
        await db(work, *given, by_the_clock=True)
    except (OperationalError, InterfaceError) as away:
        log.warning("what became of an own key could not be stored, the database is away: %s", away)
