"""After a restore: the stream's order in the terms of the server that has it now.

Transactions are counted by each server for itself, so what another one numbered could stand before or behind what is
written from now on. All of it is moved before that, and what readers have not read yet stays unread.
"""

from typing import Any

from events.reading import Look, Place

FURTHEST = "select coalesce(max(xid), 0) from events_event"


def settle_in(cursor: Any) -> int:
    """As the owner, in a transaction, while nothing else runs. Returns by how many transactions all was moved back."""
    cursor.execute("grant update (xid) on events_event to app_service")
    cursor.execute("set local role app_service")
    cursor.execute(FURTHEST)
    (furthest,) = cursor.fetchone()
    cursor.execute("select name, place from events_reader")
    places = {name: Place.parse(text) for name, text in cursor.fetchall()}
    looks = [look for place in places.values() if place for look in (place.since, place.until) if look]
    back = 1 + max([furthest, *(look.coming for look in looks)])
    cursor.execute("update events_event set xid = xid - %s", [back])
    for name, place in places.items():
        if place:
            moved = Place(_moved(place.since, back), place.until and _moved(place.until, back), place.after)
            cursor.execute("update events_reader set place = %s where name = %s", [str(moved), name])
    cursor.execute("reset role")
    cursor.execute("revoke update (xid) on events_event from app_service")
    return int(back)


def _moved(look: Look, back: int) -> Look:
    return Look(look.coming - back, tuple(xid - back for xid in look.running))
