from celery import shared_task

from accounts import idempotency, keys, limits


@shared_task(periodic=True)  # type: ignore[call-overload]
def forget_old_answers() -> int:
    """Delete idempotency records of yesterday. Returns how many."""
    return idempotency.forget_old()


@shared_task(periodic=True)  # type: ignore[call-overload]
def add_calls_of_keys() -> int:
    """Add the calls that Redis noted to the totals of their keys. Returns how many keys had some."""
    return limits.fold()


@shared_task(periodic=True)  # type: ignore[call-overload]
def forget_short_lived_keys() -> int:
    """Delete keys that were made for a day at most, and are over since one. Returns how many."""
    return keys.forget_short_lived()
