"""Notices as they are told: by realtime, and on the page."""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from events import notices
from events.models import Event, Notification
from events.realtime.topics import Table
from lib.db import Principal


def _rows(principal: Principal, events: Sequence[Event]) -> Mapping[UUID, Any]:
    mine = Notification.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
    own = mine.in_bulk([event.subject_id for event in events])
    found = {pk: _as_told(notice) for pk, notice in own.items()}
    for event in events:
        if event.type == notices.ALL_READ:  # its subject is the person
            found[event.subject_id] = {"user_id": event.subject_id, "is_read": True, "read_at": event.created_at}
    return found


def _as_told(notice: Notification) -> dict[str, Any]:
    """S3 `notifications`."""
    return {
        "id": notice.pk,
        "user_id": notice.owner_id,
        "type": notice.type,
        "title": notice.title,
        "message": notice.message,
        "priority": notice.priority,
        "action_url": notice.action_url,
        "action_label": notice.action_label,
        "agent_id": notice.agent_id,
        "is_read": notice.read_at is not None,
        "read_at": notice.read_at,
        "created_at": notice.created_at,
    }


NOTIFICATIONS = Table(
    name="notifications",
    needs="notifications:read",
    changes={notices.CREATED: "INSERT", notices.READ: "UPDATE", notices.ALL_READ: "UPDATE"},
    rows=_rows,
    is_for_visitors=False,
)
