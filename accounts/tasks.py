from celery import shared_task

from accounts import idempotency


@shared_task(periodic=True)  # type: ignore[call-overload]
def forget_old_answers() -> int:
    """Delete idempotency records of yesterday. Returns how many."""
    return idempotency.forget_old()
