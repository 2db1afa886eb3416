"""What one person should know: behind the bell of the page, and by mail where it cannot wait for the next visit."""

from uuid import UUID

from django.db.models import QuerySet

from accounts.models import User
from events import mail
from events.models import Notification
from lib import clock
from lib.db import SERVICE, Principal, scope

MOST_COUNTED = 100
Type, Priority = Notification.Type, Notification.Priority


def notify(
    brand_id: UUID,
    user_id: UUID,
    type: str,  # noqa: A002
    *,
    title: str,
    message: str,
    priority: str = Priority.NORMAL,
    action_url: str = "",
    action_label: str = "",
    agent_id: UUID | None = None,
    once: str = "",
) -> Notification | None:
    """Put a notice behind a person's bell, with the caller's commit. Source: S3 create_notification().

    action_url  a path of this site
    once        a person hears of the same key once on a brand, whoever races to tell it
    Returns     None when that had been told before
    """
    if action_url and (not action_url.startswith("/") or action_url.startswith(("//", "/\\"))):
        raise ValueError(f"{action_url} is no path of this site")
    notice = Notification(
        brand_id=brand_id,
        owner_id=user_id,
        type=type,
        title=title[:120],
        message=message[:600],
        priority=priority,
        action_url=action_url,
        action_label=action_label[:60],
        agent_id=agent_id,
        once=once,
    )
    with scope(SERVICE):
        Notification.objects.bulk_create([notice], ignore_conflicts=bool(once))
        is_new = not once or Notification.objects.filter(pk=notice.pk).exists()
    return notice if is_new else None


def tell(
    brand_id: UUID,
    user_id: UUID,
    type: str,  # noqa: A002
    *,
    title: str,
    message: str,
    priority: str = Priority.HIGH,
    action_url: str = "",
    action_label: str = "",
    once: str = "",
) -> Notification | None:
    """notify(), and the same words by mail. One without the other is never stored.

    Returns  None when it had been told before; no second mail is sent then either
    """
    with scope(SERVICE):
        notice = notify(
            brand_id,
            user_id,
            type,
            title=title,
            message=message,
            priority=priority,
            action_url=action_url,
            action_label=action_label,
            once=once,
        )
        if notice is None:
            return None
        to = User.objects.filter(pk=user_id, is_active=True).values_list("email", flat=True).first()
        if to:
            said = {"title": notice.title, "message": notice.message, "path": action_url, "action_label": action_label}
            mail.send(brand_id, to, "mail/notice", said, user_id=user_id, email_type=type)
        return notice


def unread(principal: Principal) -> int:
    """How many this person has not read; beyond 100 nobody counts on. Inside the person's scope."""
    return _own(principal).filter(read_at=None).order_by()[:MOST_COUNTED].count()


def recent(principal: Principal, *, most: int = 20) -> list[Notification]:
    """The newest first."""
    return list(_own(principal).order_by("-id")[:most])


def mark_read(principal: Principal, notice_id: UUID) -> bool:
    """Returns whether there was such a notice, unread. Another person's is none."""
    return bool(_own(principal).filter(pk=notice_id, read_at=None).update(read_at=clock.now()))


def mark_all_read(principal: Principal) -> int:
    """Returns how many were unread."""
    return _own(principal).filter(read_at=None).update(read_at=clock.now())


def _own(principal: Principal) -> QuerySet[Notification]:
    """An admin's scope shows the whole brand; the bell rings for one person."""
    return Notification.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
