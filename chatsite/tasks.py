from celery import shared_task

from chatsite import watch


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # short transactions, and mail
def look_around() -> int:
    """Look at every condition an operator wants to know of. Returns how many are true."""
    return watch.look()
