"""One reader of the stream for each process, while somebody listens there; and every few seconds, whether they still may.

What it reads are ids of what happened, as the service. What is told of them each listener reads as themselves.
"""

import asyncio
import logging
from collections.abc import Sequence
from contextvars import Context
from datetime import timedelta

from django.db import InterfaceError, OperationalError

from events import reading
from events.models import Event
from events.reading import Batch, FromElsewhere, Look, Place
from events.realtime import standing
from events.realtime.hub import MOST_BEHIND, hub
from events.realtime.standing import Listener
from events.realtime.topics import Table
from lib import clock
from lib.db import SERVICE, db, scope
from lib.errors import Unavailable

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
STAND_EVERY_S = 3.0
AGAIN_S = 1.0  # after the database was away
AT_A_TIME = 500
RESUMED_FOR = timedelta(minutes=10)  # who was away for longer reads anew
OF_ONE = reading.among(
    """f.brand_id = %(brand)s and (f.owner_id = any(%(owners)s::uuid[]) or exists (
           select from jsonb_each_text(f.data) said where said.value = any(%(parents)s::text[])))"""
)
AWAY = (OperationalError, InterfaceError, Unavailable)


class Follower:
    """A task while there are listeners, none without."""

    def __init__(self) -> None:
        self._task: asyncio.Task[None] | None = None
        self._has_begun = asyncio.Event()

    async def follow(self, tables: Sequence[Table]) -> None:
        """Be sure that news come in: whoever is in the hub misses nothing from here on."""
        if self._task is None:
            self._has_begun = asyncio.Event()
            self._task = asyncio.get_running_loop().create_task(self._run(tables, self._has_begun), context=Context())
        await self._has_begun.wait()

    async def _run(self, tables: Sequence[Table], has_begun: asyncio.Event) -> None:
        types, loop = types_of(tables), asyncio.get_running_loop()
        stood_at, is_away = loop.time(), False
        try:
            while hub.open:
                try:
                    if hub.place is None:
                        hub.place = await db(_now, by_the_clock=True)
                        has_begun.set()
                    batch = await db(_following, hub.place, types, by_the_clock=True)
                    hub.hand_out(batch, tables)
                    if loop.time() - stood_at >= STAND_EVERY_S:
                        stood_at = loop.time()
                        await self._dismiss()
                    is_full, is_away = len(batch.events) == AT_A_TIME, False
                except FromElsewhere as error:
                    log.error("Listeners are told to read anew: %s", error)
                    hub.place, is_full = None, True
                    for subscription in hub.open:
                        subscription.lose()
                except AWAY as error:
                    if not is_away:
                        log.warning("The stream of events cannot be read (%s): listeners wait.", error)
                    is_full, is_away = False, True
                hub.look_after()
                if not is_full:
                    await asyncio.sleep(AGAIN_S if is_away else LOOK_EVERY_S)
        except Exception:
            log.exception("The stream of events is not followed any more: listeners come anew.")
            for subscription in hub.open:
                subscription.end()
        finally:
            hub.place = self._task = None
            has_begun.set()

    async def _dismiss(self) -> None:
        by_listener = {subscription.listener: subscription for subscription in hub.open if subscription.topics}
        if by_listener:
            for listener in await db(standing.unwelcome, list(by_listener), by_the_clock=True):
                by_listener[listener].dismiss()


follower = Follower()


def types_of(tables: Sequence[Table]) -> list[str]:
    """The events that concern any of these tables."""
    return sorted({name for table in tables for name in (*table.changes, *table.ends)})


def missed(place: Place, listener: Listener, tables: Sequence[Table]) -> tuple[list[tuple[Event, Place]], Look] | None:
    """What happened behind the place to which somebody had come, and the look that saw all of it.

    None = too long ago, or too much of it, or the place is of another database
    """
    concerned = {
        "brand": listener.principal.brand_id,
        "owners": [topic.principal.owner_id for topic in listener.topics if topic.parent_id is None],
        "parents": [str(topic.parent_id) for topic in listener.topics if topic.parent_id],
    }
    found: list[tuple[Event, Place]] = []
    with scope(SERVICE):
        behind = Event.objects.filter(xid__gte=place.since.coming).order_by("xid").values_list("created_at", flat=True)
        if (first := behind.first()) and first < clock.now() - RESUMED_FOR:
            return None
        while True:
            is_newest = place.until is None
            try:
                batch = reading.following(
                    place, types=types_of(tables), most=AT_A_TIME, statement=OF_ONE, asking=concerned
                )
            except FromElsewhere:
                return None
            found += [(event, batch.at(event)) for event in batch.events]
            place = batch.place
            if len(found) > MOST_BEHIND:
                return None
            if is_newest and place.until is None:
                return found, place.since


def _now() -> Place:
    with scope(SERVICE):
        return reading.now()


def _following(place: Place, types: list[str]) -> Batch:
    with scope(SERVICE):
        return reading.following(place, types=types, most=AT_A_TIME)
