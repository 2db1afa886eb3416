"""Who tries keys is soon not listened to (A-07): failures are counted by network, and only failures.

A network that has failed too often in a minute gets 429 without a look into the database, but for keys that were in force in
this process before: whoever shares the network with one who guesses works on.
"""

import time
from typing import cast
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest

from accounts import keys, limits, visitors

MOST_KNOWN = 10_000
_shut: dict[UUID, limits.Limit] = {}  # networks that this process has heard are over their limit


def refuse_who_tries(request: HttpRequest, text: str) -> None:
    """Raises TooManyCalls. Costs nothing while no network is shut."""
    if not _shut:
        return
    network = visitors.network_of(request)
    full = _shut.get(network)
    if full is None:
        return
    if full.resets_at <= time.time():
        del _shut[network]
    elif keys.brand_known(text) is None:
        raise limits.refuse(full, "network")


def note(request: HttpRequest, text: str) -> None:
    """A key from this network was not valid. The one beyond the limit is refused as the next ones will be.

    What is no key at all was not looked up, and is no try.
    """
    if not keys.has_shape(text):
        return
    network = visitors.network_of(request)
    _left, full = limits.count([limits.of_network(network, cast(int, settings.FAILED_KEYS_PER_MINUTE))])
    if full:
        if len(_shut) > MOST_KNOWN:
            _shut.clear()
        _shut[network] = full
        raise limits.refuse(full, "network")


def forget() -> None:
    """Listen to everybody again; for tests."""
    _shut.clear()
