from celery import shared_task

from accounts import idempotency, limits


@shared_task(periodic=True)  # type: ignore[call-overload]
def forget_old_answers() -> int:
    """Delete idempotency records of yesterday. Returns how many."""
    return idempotency.forget_old()


@shared_task(periodic=True)  # type: ignore[call-overload]
def add_calls_of_keys() -> int:
    """Add the calls that Redis noted to the totals of their keys. Returns how many keys had some."""
    return limits.fold()
