"""Looks once a minute at what only the database and the queue know. docs/monitoring.md says what each finding means."""

from datetime import timedelta

import redis
from django.conf import settings
from django.db.models.functions import Now

from billing import applying
from conversations.models import OPEN_STATES, Turn
from events import alarms, dead_letters, postman
from events.webhooks import lagging
from lib import clock
from lib.db import SERVICE, scope
from lib.ids import first_at
from providers import resealing
from quotas.models import Hold

LATE = timedelta(seconds=60)  # by then the reaper has been there many times
RECENTLY = timedelta(minutes=15)
MOST_INTERRUPTED, MOST_QUEUED = 10, 500
NOBODY_SENDS = "Seconds since a sender of webhooks looked for what happened."


def look() -> int:
    """Report every condition; queue what could not be queued. Returns how many are true."""
    dead_letters.send_unsent()
    with scope(SERVICE):
        holds = Hold.objects.filter(expires_at__lt=Now() - LATE).count()
        patience = timedelta(seconds=settings.TURN_LOST_AFTER_S) + LATE
        lost = Turn.objects.filter(status__in=OPEN_STATES, heartbeat_at__lt=Now() - patience).count()
        recent = Turn.objects.filter(pk__gte=first_at(clock.now() - RECENTLY))
        interrupted = recent.filter(status=Turn.Status.INTERRUPTED).count()
    alarms.report("holds_past_ttl", holds, detail="Reservations that nobody settled or gave back.")
    alarms.report("turns_not_reaped", lost, detail="Answers whose process is gone, and that nobody ended.")
    alarms.report(
        "turns_interrupted",
        interrupted,
        limit=MOST_INTERRUPTED,
        detail="Answers of the last 15 minutes whose process went away.",
    )
    alarms.report("dead_letters", dead_letters.lying(), detail="Tasks that failed for good.")
    alarms.report("mails_unsent", postman.unsent(), detail="Mails of the last day that did not leave.")
    alarms.report(
        "sealed_without_key",
        resealing.without_key(),
        detail="Members' own keys that were sealed with a key that is not in ENCRYPTION_KEYS.",
    )
    late = lagging.worst()
    alarms.report(
        "webhooks_lag",
        round(late.late_s),
        limit=lagging.LATE.total_seconds(),
        detail=f"Seconds that webhook {late.webhook_id} is behind." if late.webhook_id else NOBODY_SENDS,
        by_mail=False,
    )
    for name, (found, detail) in applying.troubles().items():
        alarms.report(name, found, detail=detail)
    alarms.report("queue_backlog", queued(), limit=MOST_QUEUED, detail="Tasks that wait for a worker.")
    alarms.tell()
    return sum(alarm.since is not None for alarm in alarms.states())


def queued() -> int:
    """Tasks in the queues that no worker has taken."""
    with redis.Redis.from_url(settings.REDIS_URL, socket_timeout=5, socket_connect_timeout=2) as client:
        return sum(int(client.llen(queue.name)) for queue in settings.CELERY_TASK_QUEUES)
