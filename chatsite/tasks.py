from celery import shared_task

from chatsite import watch
from events import digest


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # short transactions, and mail
def look_around() -> int:
    """Look at every condition an operator wants to know of. Returns how many are true."""
    return watch.look()


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # a transaction for each person
def send_digests() -> int:
    """Send what was collected for those whose 8:00 has come. Returns how many mails that made."""
    return digest.send_due()
