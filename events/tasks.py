import logging
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import shared_task
from celery.signals import worker_ready, worker_shutdown, worker_shutting_down
from django.conf import settings

from events import alarms, postman, sweeping
from events.activity import chain
from events.models import WebhookDelivery
from events.webhooks import sending
from lib import clock

log = logging.getLogger(__name__)
DELIVERIES_KEPT = timedelta(days=30)


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


@shared_task(scoped=False, periodic=True)  # type: ignore[call-overload]  # a transaction for each batch
def forget_old_deliveries() -> int:
    """Delete what was delivered, or given up, more than 30 days ago. Returns how many."""
    over = WebhookDelivery.objects.exclude(status=WebhookDelivery.Status.PENDING)
    return sweeping.forget(over, clock.now() - DELIVERIES_KEPT)


@worker_ready.connect
def send_webhooks(sender: Any = None, **_: Any) -> None:
    """Each worker sends webhooks beside its tasks, but for one that was told to work for other queues only."""
    if settings.CELERY_TASK_DEFAULT_QUEUE in sender.app.amqp.queues.consume_from:
        running, thread = sending.in_a_thread()
        worker_shutting_down.connect(lambda **_: running.stop(), weak=False)
        worker_shutdown.connect(lambda **_: thread.join(2 * sending.GRACE_S), weak=False)
