"""Follow the stream: everything that was committed, once, in the order it happened, and as soon as it is committed.

An event knows the transaction that wrote it (`xid`) and its number in the order of writing (`seq`). Neither is the order of
commits, so a place is what one look at the database could see: which transactions were still running, and which were to
come. Whoever reads on takes what the next look sees and that one did not, by `seq`. What is committed late is in a later
look. And of two transactions where one waited for the other, at the lock of a row say, no look sees the second without the
first: so what happened to one subject comes in its order.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, NamedTuple, Self

import orjson

from events.models import Event, Reader
from lib import clock
from lib.db import SERVICE, scope, send
from lib.ids import first_at

AT_A_TIME = 2000
A_NEW_READER_HEARS = timedelta(minutes=2)  # what happened since somebody thought of it

# What the open transaction wrote itself is read too, and moves no place: it is everybody's when it is committed.
LOOK = """
    select pg_snapshot_xmax(now)::text::bigint as coming, own,
           array(select x::text::bigint from pg_snapshot_xip(now) x where x::text::bigint is distinct from own)
               || case when own is null then '{}' else array[own] end as running
    from (select pg_current_snapshot() as now, pg_current_xact_id_if_assigned()::text::bigint as own) l
"""
FOLLOWING = """
with look as materialized ({look}), span as materialized (
    select coalesce(%(until)s::bigint, coming) as until,
           case when %(until)s::bigint is null then running else %(until_running)s::bigint[] end as until_running,
           coming, own
    from look
), found as (
    select f.id from events_event f, span
    where (f.xid >= %(since)s or f.xid = any(%(running)s::bigint[]))
          and ((f.xid < span.until and f.xid <> all(span.until_running)) or f.xid = span.own)
          and f.seq > %(after)s
          and (%(types)s::text[] is null or f.type = any(%(types)s::text[]))
          and {among}
    order by f.seq limit %(most)s
)
select span.until, span.until_running, greatest(span.coming, span.own + 1) as coming,
       e.id, e.brand_id, e.type, e.subject_kind, e.subject_id, e.owner_id, e.data, e.created_at, e.xid, e.seq
from span left join (found join events_event e on e.id = found.id) on true order by e.seq
"""
SINCE = "select min(xid) as since from events_event where id >= %(first)s"


def among(condition: str) -> str:
    """The statement of a reader who wants only events `f` of which this condition holds. It is a constant."""
    return FOLLOWING.format(look=LOOK, among=condition)


ALL = among("true")


class FromElsewhere(RuntimeError):
    """These rows came from another server, whose transactions were counted otherwise, and were not settled in."""


class Look(NamedTuple):
    """What one look could see: all that was written before transaction `coming`, but by those that were `running`."""

    coming: int
    running: tuple[int, ...] = ()

    def __str__(self) -> str:
        return ".".join(map(str, (self.coming, *self.running)))

    @classmethod
    def parse(cls, text: str) -> Self:
        coming, *running = map(int, text.split("."))
        return cls(coming, tuple(running))


class Place(NamedTuple):
    """How far somebody has read: all that `since` saw, and of what `until` saw beyond it all numbers up to `after`.

    As text it is the id that a client gives back to go on where it was.
    """

    since: Look
    until: Look | None = None
    after: int = 0

    def __str__(self) -> str:
        return str(self.since) if self.until is None else f"{self.since}_{self.until}_{self.after}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """None = this is no place that we gave."""
        since, *more = text.split("_")
        try:
            if more:
                until, after = more
                return cls(Look.parse(since), Look.parse(until), int(after))
            return cls(Look.parse(since))
        except ValueError:
            return None


@dataclass(frozen=True, slots=True)
class Batch:
    """Events in order, and the place behind them."""

    events: list[Event]
    place: Place
    window: Place

    def at(self, event: Event) -> Place:
        """The place right behind one of these events."""
        return self.window._replace(after=event.seq)


def now() -> Place:
    """The place behind everything that was committed so far, or written by the open transaction."""
    (row,) = send((LOOK, {}))[0]
    running = tuple(xid for xid in row.running if xid != row.own)
    return Place(Look(max(row.coming, (row.own or 0) + 1), running))


def following(
    place: Place,
    *,
    types: Collection[str] | None = None,
    most: int = AT_A_TIME,
    statement: str = ALL,
    asking: Mapping[str, Any] | None = None,
) -> Batch:
    """What was committed behind `place`, the oldest first, at most so many. In a scope that may read the stream.

    statement  of among(): what it asks for is asked in the very look that finds the events
    asking     the values of its condition
    Raises     FromElsewhere
    """
    names = {
        **(asking or {}),
        "since": place.since.coming,
        "running": list(place.since.running),
        "until": place.until and place.until.coming,
        "until_running": list(place.until.running) if place.until else [],
        "after": place.after,
        "types": None if types is None else list(types),
        "most": most,
    }
    rows = send((statement, names))[0]
    if rows[0].coming < place.since.coming:
        raise FromElsewhere("The stream was loaded from another server's dump: run `manage.py settle_stream` once.")
    until = Look(rows[0].until, tuple(rows[0].until_running))
    window = Place(place.since, until, place.after)
    events = [_event(row) for row in rows if row.id is not None]
    if len(events) == most:
        return Batch(events, window._replace(after=events[-1].seq), window)
    if not events and place.until:  # the rest of what somebody had begun to read; what is behind it?
        return following(Place(until), types=types, most=most, statement=statement, asking=asking)
    return Batch(events, Place(until), window)


def _event(row: Any) -> Event:
    named = {name: getattr(row, name) for name in Event.COLUMNS}
    return Event(**named | {"data": orjson.loads(row.data) if isinstance(row.data, str | bytes) else row.data})


def unread(reader: str, types: Iterable[str] | None = None, *, most: int = AT_A_TIME) -> Iterator[list[Event]]:
    """What `reader` has not read yet, batch by batch; a batch counts as read when the next one is asked for.

    Two that read under one name at once, and one that is cut off, read the same again: what they do says itself that it was
    done. A new reader begins two minutes ago.
    """
    wanted = None if types is None else list(types)
    while True:
        with scope(SERVICE):
            place = place_of(reader)
            batch = following(place, types=wanted, most=most)
        if batch.events:
            yield batch.events
        with scope(SERVICE):
            moved = move(reader, place, batch.place)
        if len(batch.events) < most or not moved:
            return


def place_of(reader: str, *, locked: bool = False) -> Place:
    """In the service's scope. `locked` keeps the others of this name away until the transaction ends."""
    rows = Reader.objects.select_for_update() if locked else Reader.objects
    found = rows.filter(pk=reader).first()
    if found is None:
        moment = clock.now()
        since = send((SINCE, {"first": first_at(moment - A_NEW_READER_HEARS)}))[0][0].since
        place = Place(Look(since)) if since is not None else now()
        Reader.objects.get_or_create(pk=reader, defaults={"place": str(place), "read_until": moment})
        found = rows.get(pk=reader)
    stored = Place.parse(found.place)
    assert stored is not None
    return stored


def move(reader: str, before: Place, to: Place) -> bool:
    """In the service's scope. False = somebody of this name moved on meanwhile."""
    mine = Reader.objects.filter(pk=reader, place=str(before))
    return bool(mine.update(read_until=clock.now(), place=str(to)))


def begin_now(reader: str) -> None:
    """Let a new reader hear nothing of what has happened so far; one that has looked before goes on from there."""
    with scope(SERVICE):
        Reader.objects.get_or_create(pk=reader, defaults={"place": str(now()), "read_until": clock.now()})
