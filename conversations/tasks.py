from celery import shared_task
from django.core.cache import cache

from conversations import reaper
from lib import clock

RAN_AT = "reaper-ran-at"  # in the cache: proof that beat queues and a worker works, for manage.py check_deployment


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # a transaction of its own for each turn
def reap_turns() -> int:
    """End turns whose process died. Returns how many."""
    ended = reaper.reap()
    cache.set(RAN_AT, clock.now(), timeout=None)
    return ended
