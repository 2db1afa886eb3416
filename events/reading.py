"""Follow the stream: what was published since one's last look, late or early, on whichever worker."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.db.models import QuerySet

from events.models import Event, Reader
from lib import clock
from lib.db import SERVICE, scope
from lib.ids import first_at

# An event gets its id before it is committed, so a look may miss one that the next finds: everything is read twice at least.
OVERLAP = timedelta(minutes=2)


@contextmanager
def since_last_look(reader: str, *, now: datetime | None = None) -> Iterator[datetime]:
    """The moment from which this reader has not read everything; moved on when the block ends without an error.

    What is read again must change nothing: readers tell by `once`. A new reader begins with what happens from now on.
    """
    now = now or clock.now()
    with scope(SERVICE):
        place, _ = Reader.objects.get_or_create(pk=reader, defaults={"read_until": now})
    yield place.read_until - OVERLAP
    with scope(SERVICE):
        Reader.objects.filter(pk=reader, read_until__lt=now).update(read_until=now)


def begin_now(reader: str) -> None:
    """Let a new reader hear nothing of what has happened so far; one that has looked before goes on from there."""
    with scope(SERVICE):
        Reader.objects.get_or_create(pk=reader, defaults={"read_until": clock.now() + OVERLAP})


def published(since: datetime, types: Iterable[str]) -> QuerySet[Event]:
    """Events of these types, the oldest first. In the service scope."""
    return Event.objects.filter(pk__gte=first_at(since), type__in=list(types)).select_related("brand").order_by("pk")
