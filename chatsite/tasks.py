from uuid import UUID

from celery import shared_task

from chatsite import watch
from chatsite.members import parting
from events import digest


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # short transactions, and mail
def look_around() -> int:
    """Look at every condition an operator wants to know of. Returns how many are true."""
    return watch.look()


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # a transaction for each person
def send_digests() -> int:
    """Send what was collected for those whose 8:00 has come. Returns how many mails that made."""
    return digest.send_due()


@shared_task(scoped=False)  # type: ignore[call-overload]  # talks to Stripe between short transactions
def member_left(brand_id: str, user_id: str) -> bool:
    """End what renews of somebody who was put out of a brand. False = they are back, and nothing was done."""
    return parting.part(UUID(brand_id), UUID(user_id))
