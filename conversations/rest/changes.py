"""Chats and messages as realtime tells of them: one's own, and for a brand's admins any chat that they open, each time with a
line in the audit log, as on its page.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID

from django.http import HttpRequest

from accounts.keys import READ
from conversations.chats import listing, retention
from conversations.models import Conversation, Message
from conversations.rest.shapes import conversation_as_told, message_as_told
from events import activity
from events.models import Event
from events.realtime.topics import Table
from lib.db import Principal, scope
from lib.errors import NotFound


def _conversations(principal: Principal, events: Sequence[Event]) -> Mapping[UUID, Any]:
    mine = listing.owned(principal).filter(deleted_at=None)
    return {pk: conversation_as_told(row) for pk, row in mine.in_bulk([event.subject_id for event in events]).items()}


def _messages(principal: Principal, events: Sequence[Event]) -> Mapping[UUID, Any]:
    """In an admin's scope these are of the chats that were opened: no other event came here."""
    kept = Message.objects.filter(brand_id=principal.brand_id, deleted_at=None, conversation__deleted_at=None)
    if principal.role != "app_brand":
        kept = kept.filter(owner_id=principal.owner_id)
    return {pk: message_as_told(row) for pk, row in kept.in_bulk([event.subject_id for event in events]).items()}


def _hears(request: HttpRequest, principal: Principal, conversation_id: UUID) -> Principal:
    with scope(principal):
        if listing.owned(principal).filter(retention.readable(principal), pk=conversation_id, deleted_at=None).exists():
            return principal
    if principal.role != "app_user" or principal.key_id:
        raise NotFound
    admin = replace(principal, role="app_brand")
    with scope(admin):
        kept = Conversation.objects.filter(retention.listed_to_others(admin.brand_id), brand_id=admin.brand_id)
        found = kept.filter(pk=conversation_id, deleted_at=None).first()
        if found is None:
            raise NotFound
        activity.record(
            admin.brand_id,
            "conversation.read",
            actor_id=admin.owner_id,
            resource=("conversation", found.pk),
            description="listens to what is said",
            changes={"owner": str(found.owner_id)},
        )
    return admin


CONVERSATIONS = Table(
    name="conversations",
    needs=READ,
    changes={
        "conversation.started": "INSERT",
        "conversation.restored": "INSERT",
        "conversation.deleted": "DELETE",
        "conversation.erased": "DELETE",
        **{f"conversation.{deed}": "UPDATE" for deed in ("renamed", "pinned", "unpinned", "archived", "unarchived")},
    },
    rows=_conversations,
)
MESSAGES = Table(
    name="messages",
    needs=READ,
    changes={
        "message.created": "INSERT",
        "message.completed": "INSERT",
        "message.failed": "INSERT",
        "message.restored": "INSERT",
        "message.rated": "UPDATE",
        "message.deleted": "DELETE",
    },
    rows=_messages,
    parent="conversation_id",
    hears=_hears,
    ends=frozenset({"conversation.deleted", "conversation.erased"}),
)
