from celery import shared_task

from conversations import reaper


@shared_task
def reap_turns() -> int:
    """End turns whose process died. Returns how many."""
    return reaper.reap()
