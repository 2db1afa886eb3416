import logging
from uuid import UUID

from celery import shared_task

from events import alarms, postman, sweeping
from events.activity import chain

log = logging.getLogger(__name__)


@shared_task(scoped=False)  # type: ignore[call-overload]  # talks to the mail server between short transactions
def send_mail(mail_id: str) -> bool:
    """Send one mail of the log. One that is sent, or that somebody else is sending, is left alone."""
    return postman.deliver(UUID(mail_id))


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]
def send_waiting_mail() -> int:
    """Send what could not be sent at once, as each one's time comes. Returns how many the mail server took."""
    return postman.deliver_waiting()


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # a transaction for each batch
def sweep_told() -> int:
    """Forget mails and notices whose time is over. Returns how many."""
    return sum(sweeping.sweep().values())


@shared_task(periodic=True)  # type: ignore[call-overload]
def prove_activity() -> int:
    """Prove the audit log, and write its heads where the database's owner has no hand. Returns the number of faults."""
    found = chain.faults()
    for fault in found:
        log.error("audit log: %s", fault)
    chain.log_heads()
    alarms.report("activity_chain", len(found), detail="; ".join(map(str, found[:2])))
    return len(found)
