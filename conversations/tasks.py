from celery import shared_task
from django.core.cache import cache

from conversations import reaper, retention
from lib import clock

RAN_AT = "reaper-ran-at"  # in the cache: proof that beat queues and a worker works, for manage.py check_deployment


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # a transaction of its own for each turn
def reap_turns() -> int:
    """End turns whose process died. Returns how many."""
    ended = reaper.reap()
    cache.set(RAN_AT, clock.now(), timeout=None)
    return ended


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # a transaction for each batch, not one for all
def cleanup_expired_conversations() -> int:
    """Delete the chats whose time was over at the last 02:00 of their brand. Returns how many."""
    return sum(counts.total() - counts["failed"] for counts in retention.sweep().values())
