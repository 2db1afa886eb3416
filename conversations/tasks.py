from celery import shared_task

from conversations import reaper


@shared_task(scoped=False)  # type: ignore[call-overload]  # a transaction of its own for each turn
def reap_turns() -> int:
    """End turns whose process died. Returns how many."""
    return reaper.reap()
