"""How long it is kept what people were mailed and told: settings say so, and every night the rest is forgotten."""

from datetime import datetime, timedelta

from django.conf import settings
from django.db import models

from events.models import EmailLog, Notification
from lib import clock
from lib.db import SERVICE, scope
from lib.ids import first_at

AT_A_TIME = 1000


def sweep(now: datetime | None = None) -> dict[str, int]:
    """Forget mails and notices that are older than the settings keep them, in batches. Returns how many of each.

    With a notice goes the memory of having told it: what is still true after NOTICES_DAYS (a limit for life that is used up)
    may be told once more.
    """
    now = now or clock.now()
    settled = EmailLog.objects.exclude(status=EmailLog.Status.QUEUED)
    return {
        "mails": forget(settled, now - timedelta(days=settings.EMAIL_LOG_DAYS)),
        "notices": forget(Notification.objects.all(), now - timedelta(days=settings.NOTICES_DAYS)),
    }


def forget(rows: "models.QuerySet[models.Model]", before: datetime) -> int:
    """Delete what was made before, in batches. Returns how many.

    Ids sort by the time they were made, so the oldest are at the front of the index that every table has.
    """
    old, count = rows.filter(pk__lt=first_at(before)).order_by("pk"), 0
    while True:
        with scope(SERVICE):
            some = list(old.values_list("pk", flat=True)[:AT_A_TIME])
            count += rows.filter(pk__in=some).delete()[0]
        if len(some) < AT_A_TIME:
            return count
