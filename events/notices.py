"""What one person should know: behind the bell of the page, and by mail where it cannot wait for the next visit.

Nobody gets a storm of it: what a kind has many of (events.choices) becomes one notice that counts, and one mail, within
GROUPED_FOR.
"""

from datetime import timedelta
from typing import Any
from uuid import UUID

from django.db.models import F, QuerySet
from django.utils.translation import gettext as _

from accounts.models import User
from events import choices, mail, stream
from events.models import EmailLog, Notification
from lib import clock
from lib.db import SERVICE, Principal, scope, send
from lib.ids import first_at

CREATED, READ, ALL_READ = "notification.created", "notification.read", "notifications.read"
MOST_COUNTED = 100
GROUPED_FOR = timedelta(hours=1)
GATHERED_FOR = timedelta(minutes=2)  # before the mail of a group leaves, so that a burst is in it
ALONE = "select pg_advisory_xact_lock(hashtextextended(%(key)s, 0))"
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
    all_url: str = "",
    agent_id: UUID | None = None,
    once: str = "",
) -> Notification | None:
    """Put a notice behind a person's bell, with the caller's commit. Source: S3 create_notification().

    action_url  a path of this site
    all_url     where the notice of a group leads instead: the list that this one stands in
    once        a person hears of the same key once on a brand, whoever races to tell it
    Returns     None when that had been told before; with head_id when another notice tells of it too
    """
    for url in (action_url, all_url):
        if url and (not url.startswith("/") or url.startswith(("//", "/\\"))):
            raise ValueError(f"{url} is no path of this site")
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
        rings = choices.wanted(notice).in_app
        if not rings:
            notice.is_silent, notice.read_at = True, clock.now()  # it keeps the second mail away all the same
        head = _head(notice)
        Notification.objects.bulk_create([notice], ignore_conflicts=bool(once))
        if once and not Notification.objects.filter(pk=notice.pk).exists():
            return None
        if head:
            _tell_of_one_more(head, notice, all_url)
        if rings:
            _publish(CREATED, brand_id, user_id, ("notification", (head or notice).pk))
    return notice


def _head(notice: Notification) -> Notification | None:
    """The notice that tells of this one too. None: it is told by itself, and perhaps of those that follow.

    One transaction at a time looks for it, so whoever tells several groups of people in one, does so in one order.
    """
    kind = choices.KINDS.get(notice.type)
    if kind is None or not kind.many or notice.priority == Priority.URGENT:
        return None
    key = f"{notice.type}:{notice.agent_id or ''}"
    send((ALONE, {"key": f"{notice.brand_id}:{notice.owner_id}:{key}"}))
    group = Notification.objects.filter(brand_id=notice.brand_id, owner_id=notice.owner_id, grouping=key)
    head = group.select_for_update(of=("self",)).first()  # so that it is read before this one or after it
    if head and head.created_at > clock.now() - GROUPED_FOR:
        notice.head_id, notice.read_at = head.pk, clock.now()
        return head
    if head:
        group.update(grouping="")
    notice.grouping = key
    return None


def _tell_of_one_more(head: Notification, notice: Notification, all_url: str) -> None:
    """In the language of whoever calls, which is their reader's."""
    count = head.count + 1
    now_said = {
        "title": str(choices.KINDS[head.type].many % {"count": count})[:120],
        "message": (_("The last one: %(title)s") % {"title": notice.title})[:600],
        "action_url": all_url,
        "action_label": _("See them all")[:60] if all_url else "",
    }
    Notification.objects.filter(pk=head.pk).update(count=F("count") + 1, **now_said)
    mail.rewrite(head.brand_id, _cause(head), _in_a_mail(Notification(pk=head.pk, type=head.type, **now_said)))


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
    all_url: str = "",
    agent_id: UUID | None = None,
    once: str = "",
) -> Notification | None:
    """notify(), and the same words by mail, unless their reader chose otherwise. One without the other is never stored.

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
            all_url=all_url,
            agent_id=agent_id,
            once=once,
        )
        if notice is None or notice.head_id or choices.wanted(notice).mail != choices.AT_ONCE:
            return notice
        to = User.objects.filter(pk=user_id, is_active=True).values_list("email", flat=True).first()
        if to and not (notice.grouping and _was_mailed_of_late(notice)):
            mail.send(
                brand_id,
                to,
                "mail/notice",
                _in_a_mail(notice),
                user_id=user_id,
                email_type=type,
                once=_cause(notice) if notice.grouping else "",
                after=GATHERED_FOR if notice.grouping else None,
            )
        return notice


def _was_mailed_of_late(head: Notification) -> bool:
    """Who reads each notice as it comes is not mailed each either."""
    since = first_at(clock.now() - GROUPED_FOR)
    mails = EmailLog.objects.filter(brand_id=head.brand_id, pk__gte=since, user_id=head.owner_id, email_type=head.type)
    return mails.filter(once__startswith="notices:").exists()


def _cause(head: Notification) -> str:
    return f"notices:{head.pk}"


def _in_a_mail(notice: Notification) -> dict[str, str]:
    return {
        "title": notice.title,
        "message": notice.message,
        "path": notice.action_url,
        "action_label": notice.action_label,
        # Which kind its reader can stop by one click.
        "stops": notice.type if notice.type in choices.KINDS and notice.priority != Priority.URGENT else "",
    }


def unread(principal: Principal) -> int:
    """How many this person has not read; beyond 100 nobody counts on. Inside the person's scope."""
    return len(_own(principal).filter(read_at=None).order_by().values_list("pk")[:MOST_COUNTED])


def recent(principal: Principal, *, most: int = 20, before: UUID | None = None) -> list[Notification]:
    """The newest first, or those that are older than the notice `before`."""
    own = _own(principal).order_by("-id")
    return list((own.filter(pk__lt=before) if before else own)[:most])


def mark_read(principal: Principal, notice_id: UUID) -> bool:
    """Returns whether there was such a notice, unread. Another person's is none. Inside the person's scope."""
    if not _own(principal).filter(pk=notice_id, read_at=None).update(**_read()):
        return False
    _publish(READ, principal.brand_id, principal.owner_id, ("notification", notice_id))
    return True


def mark_all_read(principal: Principal) -> int:
    """Returns how many were unread. Inside the person's scope."""
    count = _own(principal).filter(read_at=None).update(**_read())
    if count:
        _publish(ALL_READ, principal.brand_id, principal.owner_id, ("user", principal.owner_id))
    return count


def _publish(name: str, brand_id: UUID, user_id: UUID, subject: tuple[str, UUID]) -> None:
    stream.publish(brand_id, name, subject=subject, owner_id=user_id)


def _read() -> dict[str, Any]:
    """What comes after it was read is news again, and no part of it."""
    return {"read_at": clock.now(), "grouping": ""}


def _own(principal: Principal) -> QuerySet[Notification]:
    """An admin's scope shows the whole brand; the bell rings for one person."""
    mine = Notification.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
    return mine.filter(head_id=None)
