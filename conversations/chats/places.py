"""Which part of a long conversation a page shows: its end, or what stands around one message."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from lib.db import Principal, send

MOST = 200  # messages on a page
AFTER = MOST // 2  # of them, behind the one that was asked for

# How much follows a message on the path that is shown, and where a page with it in the middle ends.
PLACE = """
select (select count(*) from (select from conversations_message m where m.conversation_id = t.conversation_id
                              and m.is_current and m.id > t.id order by m.id limit %(most)s) f) as following,
       (select m.id from conversations_message m where m.conversation_id = t.conversation_id
        and m.is_current and m.id > t.id order by m.id offset %(after)s - 1 limit 1) as until,
       t.is_current
from conversations_message t
where t.id = %(message)s and t.conversation_id = %(conversation)s and t.brand_id = %(brand)s and t.owner_id = %(owner)s
"""
EARLIER = """
select exists (select from conversations_message where conversation_id = %(conversation)s and brand_id = %(brand)s
               and owner_id = %(owner)s and is_current and id < %(message)s) as is_there
"""


@dataclass(frozen=True, slots=True)
class Part:
    """until   the last message of the page, where more follow; None = the page shows the end
    beside  the message that was asked for, where it is on a version that is not shown
    """

    until: UUID | None = None
    beside: UUID | None = None


def part(principal: Principal, conversation_id: UUID, message: str) -> Part:
    """The page on which this message stands. The end, when it stands there, on another version, or nowhere (any more)."""
    try:
        names = _names(principal, conversation_id, UUID(message))
    except ValueError:
        return Part()
    (found,) = send((PLACE, {**names, "most": MOST, "after": AFTER}))
    if found and not found[0].is_current:
        return Part(beside=names["message"])
    return Part(until=found[0].until) if found and found[0].following >= MOST else Part()


def earlier(principal: Principal, conversation_id: UUID, shown: list[dict[str, Any]]) -> UUID | None:
    """The first message of a page, if others stand before it."""
    if len(shown) < MOST:
        return None
    first: UUID = shown[0]["id"]
    ((found,),) = send((EARLIER, _names(principal, conversation_id, first)))
    return first if found.is_there else None


def _names(principal: Principal, conversation_id: UUID, message_id: UUID) -> dict[str, Any]:
    return {
        "message": message_id,
        "conversation": conversation_id,
        "brand": principal.brand_id,
        "owner": principal.owner_id,
    }
