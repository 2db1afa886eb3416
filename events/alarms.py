"""What is wrong now. A condition is looked at again and again; ADMINS and the log hear of it when it changes, once.

`chatsite.watch` looks once a minute, `quotas.tasks.prove_balances` every night. docs/monitoring.md says what each means.
"""

import logging
from collections.abc import Iterable

from django.conf import settings

from events import mail
from events.models import Alarm
from lib import clock
from lib.db import SERVICE, scope

log = logging.getLogger(__name__)


def report(name: str, value: float, *, limit: float = 0, detail: str = "", by_mail: bool = True) -> bool:
    """What was found: more than `limit` is trouble. Returns whether that is news.

    by_mail  whether ADMINS are written to, too: not of what comes and goes with what others do
    Whoever sees the change first tells it; two workers that look at once do not tell it twice.
    """
    now = clock.now()
    with scope(SERVICE):
        Alarm.objects.get_or_create(pk=name, defaults={"checked_at": now, "told_at": now})
        alarm = Alarm.objects.select_for_update().get(pk=name)
        is_trouble, was_trouble = value > limit, alarm.since is not None
        alarm.value, alarm.detail, alarm.checked_at = value, detail[:300], now
        if is_trouble != was_trouble:
            alarm.since, alarm.told_at = now if is_trouble else None, None if by_mail else now
        alarm.save()
    if is_trouble == was_trouble:
        return False
    told = {"alert": name, "value": value, "reason": alarm.detail}
    if is_trouble:
        log.error("alert", extra=told)
    else:
        log.warning("alert is over", extra=told)
    return True


def tell() -> int:
    """Mail ADMINS of each change they were not told of yet. Returns how many there were."""
    with scope(SERVICE):
        untold = list(Alarm.objects.select_for_update().filter(told_at=None))
        for alarm in untold:
            found = {
                "name": alarm.name,
                "is_true": alarm.since is not None,
                "value": f"{alarm.value:g}",
                "detail": alarm.detail,
            }
            for _, address in settings.ADMINS:
                mail.send(None, address, "mail/alarm", found)
            alarm.told_at = clock.now()
            alarm.save(update_fields=["told_at"])
    return len(untold) if settings.ADMINS else 0


def states() -> Iterable[Alarm]:
    """Every condition as it was found last."""
    with scope(SERVICE):
        return list(Alarm.objects.order_by("pk"))
