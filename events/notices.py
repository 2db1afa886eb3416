"""What one person should know: behind the bell of the page, and by mail where it cannot wait for the next visit."""

from typing import Any
from uuid import UUID

from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from events import mail
from events.models import NoticePreference, Notification
from lib import clock
from lib.db import SERVICE, Principal, scope

MOST_COUNTED = 100
Type, Priority = Notification.Type, Notification.Priority
# What a person may choose for; all else comes by every way it has.
CHOSEN = {
    Type.USAGE_LIMIT: _("A limit comes near or is reached"),
    Type.BILLING_UPDATE: _("Plan and payments"),
    Type.KEY_UPDATE: _("A key of yours is refused by its vendor"),
    Type.SYSTEM: _("Work that ran in the background is done"),
}
BY_BELL_ALONE = {Type.KEY_UPDATE, Type.SYSTEM}  # of these no mails are sent anyway


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
        if _is_unwanted("in_app", notice):
            notice.read_at = clock.now()  # it keeps the second mail away all the same, and rings no bell
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
        if _is_unwanted("by_mail", notice):
            return notice
        to = User.objects.filter(pk=user_id, is_active=True).values_list("email", flat=True).first()
        if to:
            said = {"title": notice.title, "message": notice.message, "path": action_url, "action_label": action_label}
            mail.send(brand_id, to, "mail/notice", said, user_id=user_id, email_type=type)
        return notice


def prefer(principal: Principal, kind: str, *, in_app: bool, by_mail: bool) -> None:
    """By which ways one kind of notice comes to this person on this brand. Inside the person's scope."""
    NoticePreference.objects.update_or_create(
        brand_id=principal.brand_id,
        owner_id=principal.owner_id,
        type=kind,
        defaults={"in_app": in_app, "by_mail": by_mail},
    )


def preferred(principal: Principal) -> list[dict[str, Any]]:
    """Every kind that can be chosen for, with what was chosen. Inside the person's scope."""
    rows = NoticePreference.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
    chosen = {row.type: row for row in rows}
    none = NoticePreference()
    return [
        {
            "kind": kind.value,
            "name": name,
            "in_app": chosen.get(kind, none).in_app,
            "by_mail": chosen.get(kind, none).by_mail,
            "has_mail": kind not in BY_BELL_ALONE,
        }
        for kind, name in CHOSEN.items()
    ]


def _is_unwanted(way: str, notice: Notification) -> bool:
    """Whether this person switched this way off for this kind. What is urgent comes all the same. In service scope."""
    if notice.type not in CHOSEN or notice.priority == Priority.URGENT:
        return False
    rows = NoticePreference.objects.filter(brand_id=notice.brand_id, owner_id=notice.owner_id, type=notice.type)
    return rows.filter(**{way: False}).exists()


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
