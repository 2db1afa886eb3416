"""Which path of a conversation's tree is shown: turning to another version of a message (ADR 8)."""

from collections.abc import Sequence
from uuid import UUID

from django.utils.translation import gettext as _

from conversations.engine.statements import SHOW
from conversations.models import Message
from lib.db import Principal, scope, send
from lib.errors import NotFound

# Whoever writes a message of this conversation holds this row too, so what the next statement sees is all there is.
LOCK = """
select c.id from conversations_conversation c
where c.id = (select conversation_id from conversations_message where id = %(message)s)
      and c.brand_id = %(brand)s and c.owner_id = %(owner)s and c.deleted_at is null
for no key update
"""


def turn_over(principal: Principal, message_id: UUID, by: int) -> UUID:
    """Show the version before (-1) or after (1) this one, or itself (0), with the newest of what followed it.

    Returns  the conversation

    At either end nothing changes; a repeat, which names the same message, changes nothing either.

    Raises  NotFound
    """
    names = {"message": message_id, "brand": principal.brand_id, "owner": principal.owner_id}
    with scope(principal):
        locked = send((LOCK, names))[0]
        if not locked:
            raise NotFound(_("This message is not here (any more)."))
        conversation_id: UUID = locked[0].id
        rows = list(
            Message.objects.filter(conversation_id=conversation_id).order_by("id").values_list("pk", "parent_id")
        )
        leaf = _end_of(_neighbour(rows, message_id, by), rows)
        send((SHOW, {"conversation": conversation_id, "leaf": leaf}))
    return conversation_id


def _neighbour(rows: Sequence[tuple[UUID, UUID | None]], message_id: UUID, by: int) -> UUID:
    parent_id = dict(rows)[message_id]
    versions = [pk for pk, parent in rows if parent == parent_id]
    return versions[min(max(versions.index(message_id) + by, 0), len(versions) - 1)]


def _end_of(message_id: UUID, rows: Sequence[tuple[UUID, UUID | None]]) -> UUID:
    newest = {parent: pk for pk, parent in rows}
    while message_id in newest:
        message_id = newest[message_id]
    return message_id
