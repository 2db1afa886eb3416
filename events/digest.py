"""What was collected for somebody, in one mail at 8:00 of their own zone: every day, or on Mondays.

Nobody is forgotten and nothing is said twice, however late or often this runs: how far each kind has been told stands in the
row of its preference, and moves on in the transaction that queues the mail.
"""

import logging
from collections import defaultdict
from datetime import datetime, time, timedelta
from uuid import UUID
from zoneinfo import ZoneInfo

from django.db.models import OuterRef, Q, Subquery

from accounts.models import Brand, Membership, Profile, User
from events import mail
from events.delivery.stopping import DIGEST
from events.models import NoticePreference, Notification
from lib import clock
from lib.db import SERVICE, scope
from lib.ids import first_at

AT = time(8)
SETTLED = timedelta(minutes=2)  # a notice has its id before it is committed
MOST_LISTED = 30
COLLECTED = Q(by_mail=True) & ~Q(digest="")
log = logging.getLogger(__name__)


def send_due(now: datetime | None = None) -> int:
    """Send every digest whose hour has come. Returns how many mails that made."""
    now = (now or clock.now()) - SETTLED
    sent = 0
    for (brand_id, user_id), zone in _due(now).items():
        try:
            sent += _send(brand_id, user_id, zone, now)
        except Exception:  # one that cannot be written must not keep the others from theirs
            log.exception("a digest could not be sent")
    return sent


def until(now: datetime, zone: str, often: str) -> datetime:
    """The last moment at which such a digest was due."""
    local = now.astimezone(ZoneInfo(zone))
    day = local.date() if local.time() >= AT else local.date() - timedelta(days=1)
    if often == NoticePreference.Digest.WEEKLY:
        day -= timedelta(days=day.weekday())
    return datetime.combine(day, AT, ZoneInfo(zone))


def _due(now: datetime) -> dict[tuple[UUID, UUID], str]:
    """Whose hour has come, on which brand, with their zone."""
    zone = Profile.objects.filter(user_id=OuterRef("owner_id")).values("zone")[:1]
    with scope(SERVICE):
        rows = NoticePreference.objects.filter(COLLECTED).annotate(zone=Subquery(zone))
        found = rows.values_list("brand_id", "owner_id", "digest", "digested_until", "zone", "brand__zone")
        return {
            (brand_id, owner_id): own or of_brand
            for brand_id, owner_id, often, told, own, of_brand in found
            if told is None or told < until(now, own or of_brand, often)
        }


def _send(brand_id: UUID, user_id: UUID, zone: str, now: datetime) -> bool:
    with scope(SERVICE):
        brand = Brand.objects.get(pk=brand_id)
        members = Membership.objects.filter(brand=brand, user__is_active=True, suspended_at=None)
        is_member = members.filter(user_id=user_id).exists()
        rows = NoticePreference.objects.select_for_update(of=("self",)).filter(COLLECTED)
        due = rows.filter(brand=brand, owner_id=user_id)
        items: list[Notification] = []
        moments: dict[datetime, list[UUID]] = defaultdict(list)
        for row in due:
            moment = until(now, zone, row.digest)
            told = row.digested_until or row.created_at
            if told < moment:
                items += _collected(row, told, moment)
                moments[moment].append(row.pk)
        for moment, told_of in moments.items():
            NoticePreference.objects.filter(pk__in=told_of).update(digested_until=moment)
        if not items or not is_member or not brand.is_active:
            return False
        # What comes now belongs to the next one.
        Notification.objects.filter(pk__in=[notice.pk for notice in items]).update(grouping="")
        items.sort(key=lambda notice: notice.pk, reverse=True)
        data = {
            "items": [{"title": notice.title, "message": notice.message} for notice in items[:MOST_LISTED]],
            "more": max(0, len(items) - MOST_LISTED),
            "total": len(items),
            "stops": DIGEST,
        }
        to = User.objects.values_list("email", flat=True).get(pk=user_id)
        mail.send(brand_id, to, "mail/digest", data, user_id=user_id, email_type="digest")
    return True


def _collected(row: NoticePreference, since: datetime, moment: datetime) -> list[Notification]:
    """What was told in between, and what its reader has not seen behind the bell, where they listen to it."""
    told = Notification.objects.filter(brand_id=row.brand_id, owner_id=row.owner_id, type=row.type, head_id=None)
    told = told.filter(pk__gte=first_at(since), pk__lt=first_at(moment))
    told = told.exclude(priority=Notification.Priority.URGENT)  # which was mailed at once
    return list(told.filter(Q(read_at=None) | Q(is_silent=True)) if row.in_app else told)
