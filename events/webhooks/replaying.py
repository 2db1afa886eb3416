"""Sending again by hand what was sent, or was not: one delivery or a range, under the ids they had."""

from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Count, QuerySet
from django.utils.translation import gettext as _

from events import activity
from events.models import WebhookDelivery
from events.webhooks import endpoints
from lib import clock
from lib.db import Principal, scope, send
from lib.errors import Conflict, NotFound

MOST = 10_000  # of one range
Status = WebhookDelivery.Status
OVER = (Status.DELIVERED, Status.FAILED, Status.CANCELLED)
AGAIN = """
update events_webhookdelivery set status = 'pending', attempt_count = 0, next_retry_at = %(at)s, replayed_at = %(at)s
where id in (
    select id from events_webhookdelivery
    where webhook_id = %(webhook)s and brand_id = %(brand)s and status = any(%(among)s)
          and (%(one)s::uuid is null or id = %(one)s::uuid)
          and (%(since)s::timestamptz is null or created_at >= %(since)s::timestamptz)
          and (%(until)s::timestamptz is null or created_at <= %(until)s::timestamptz)
    order by id limit %(most)s
) returning id
"""


def one(principal: Principal, delivery_id: UUID) -> WebhookDelivery:
    """Raises NotFound, and Conflict when it is on its way or its endpoint is off."""
    with scope(principal):
        row = WebhookDelivery.objects.filter(brand_id=principal.brand_id, pk=delivery_id).first()
        if row is None:
            raise NotFound(_("This delivery is not here (any more)."))
        if not _again(principal, row.webhook_id, OVER, one=delivery_id):
            raise Conflict(_("This delivery is on its way already."), retry_after=5)
        row.refresh_from_db()
    return row


def many(
    principal: Principal,
    webhook_id: UUID,
    *,
    failed_only: bool = True,
    since: datetime | None = None,
    until: datetime | None = None,
) -> tuple[datetime, int]:
    """Returns the moment that names this range in progress(), and how many deliveries it is, 10,000 at most."""
    at = clock.now()
    among = (Status.FAILED, Status.CANCELLED) if failed_only else OVER
    with scope(principal):
        return at, _again(principal, webhook_id, among, since=since, until=until, at=at)


def _again(
    principal: Principal,
    webhook_id: UUID,
    among: tuple[str, ...],
    *,
    one: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
    at: datetime | None = None,
) -> int:
    endpoint = endpoints.locked(principal, webhook_id)
    if not endpoint.is_active:
        raise Conflict(_("This webhook is switched off. Switch it on first."))
    names: dict[str, Any] = {
        "webhook": webhook_id,
        "brand": principal.brand_id,
        "among": [str(status) for status in among],
        "one": one,
        "since": since,
        "until": until,
        "at": at or clock.now(),
        "most": MOST,
    }
    (again,) = send((AGAIN, names))
    if again:
        activity.record(
            principal.brand_id,
            "webhook.sent_again",
            actor_id=principal.owner_id,
            resource=("webhook", webhook_id),
            description=endpoint.name,
            changes={"deliveries": [None, len(again)]},
        )
    return len(again)


def progress(deliveries: QuerySet[WebhookDelivery], at: datetime) -> dict[str, int]:
    """How a range does: how many in all, delivered, failed and waiting. In a scope that sees them."""
    counted = dict(deliveries.filter(replayed_at=at).order_by().values_list("status").annotate(count=Count("pk")))
    return {
        "all": sum(counted.values()),
        "delivered": counted.get(Status.DELIVERED, 0),
        "failed": counted.get(Status.FAILED, 0) + counted.get(Status.CANCELLED, 0),
        "waiting": counted.get(Status.PENDING, 0),
    }
