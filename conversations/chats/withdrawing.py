"""Deleting one message. What it said is gone from the page, from search and from what models are told; what it cost stays."""

from datetime import timedelta
from uuid import UUID

from django.utils.translation import gettext as _

from conversations.models import Correction, Feedback, Message
from events import stream
from lib.db import SERVICE, Principal, opening, scope, send
from lib.errors import Conflict, NotFound

CAN_BE_TAKEN_BACK_FOR = timedelta(seconds=60)  # the page offers it for ten; somebody may be slow, or without JavaScript
AT_A_TIME = 500

# The row stays, because others hang on it, and so does what it cost. What it said waits in one place for its undoing.
WITHDRAW = """
update conversations_message
set withdrawn = jsonb_build_object('content', content, 'metadata', metadata, 'function_call', function_call, 'files', files,
                                   'file_text', file_text),
    content = '', metadata = '{}', function_call = null, files = '[]', file_text = '', deleted_at = now()
where id = %(message)s and brand_id = %(brand)s and owner_id = %(owner)s and deleted_at is null
      and role in ('user', 'assistant') and status <> 'pending'
returning conversation_id
"""
GIVE_BACK = """
update conversations_message
set content = withdrawn ->> 'content', metadata = withdrawn -> 'metadata', files = withdrawn -> 'files',
    function_call = nullif(withdrawn -> 'function_call', 'null'), file_text = withdrawn ->> 'file_text',
    deleted_at = null, withdrawn = null
where id = %(message)s and brand_id = %(brand)s and owner_id = %(owner)s and withdrawn is not null
      and deleted_at > now() - %(period)s
returning conversation_id
"""
FORGET = """
update conversations_message set withdrawn = null
where id in (select id from conversations_message where withdrawn is not null and deleted_at < now() - %(period)s
             order by deleted_at limit %(most)s for update skip locked)
returning id
"""


def delete(principal: Principal, message_id: UUID) -> None:
    """Delete a question or an answer; a repeat changes nothing. Raises NotFound, and Conflict while it is written."""
    with scope(principal):
        (withdrawn,) = send((WITHDRAW, _names(principal, message_id)))
        if withdrawn:
            _publish(principal, "message.deleted", message_id, withdrawn[0].conversation_id)
            return
        found = _own(principal, message_id)
        if found.status == Message.Status.PENDING:
            raise Conflict(_("This answer is still being written. Stop it first, then delete it."))
        if found.deleted_at is None:
            raise NotFound(_("Only questions and answers can be deleted."))


def restore(principal: Principal, message_id: UUID) -> None:
    """Take the deletion back; a repeat changes nothing. Raises NotFound, and Conflict when it is too late."""
    with scope(principal):
        (given_back,) = send((GIVE_BACK, _names(principal, message_id)))
        if given_back:
            _publish(principal, "message.restored", message_id, given_back[0].conversation_id)
        elif _own(principal, message_id).deleted_at is not None:
            raise Conflict(_("This was deleted more than a minute ago, so nothing of it is kept any more."))


def forget() -> int:
    """Forget for good what was deleted a minute ago, with what was thought of it. Returns how many messages."""
    with opening(SERVICE, (FORGET, {"period": CAN_BE_TAKEN_BACK_FOR, "most": AT_A_TIME})) as (gone,):
        ids = [row.id for row in gone]
        Feedback.objects.filter(message_id__in=ids).delete()
        Correction.objects.filter(message_id__in=ids, status=Correction.Status.PENDING).delete()
    return len(ids)


def _names(principal: Principal, message_id: UUID) -> dict[str, object]:
    own = {"message": message_id, "brand": principal.brand_id, "owner": principal.owner_id}
    return {**own, "period": CAN_BE_TAKEN_BACK_FOR}


def _own(principal: Principal, message_id: UUID) -> Message:
    own = Message.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
    found: Message | None = own.filter(pk=message_id, conversation__deleted_at=None).first()
    if found is None:
        raise NotFound(_("This message is not here (any more)."))
    return found


def _publish(principal: Principal, name: str, message_id: UUID, conversation_id: UUID) -> None:
    told = {"conversation_id": str(conversation_id)}
    stream.publish(principal.brand_id, name, subject=("message", message_id), owner_id=principal.owner_id, data=told)
