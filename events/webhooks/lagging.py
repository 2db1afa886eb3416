"""How far deliveries are behind: what is due and waits for its turn, which is neither what fails nor what rests.

A webhook lags when more happens than its receiver takes, four at once; all of them lag when no sender runs.
"""

from datetime import datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from django.db.models import OuterRef, QuerySet, Subquery

from events.models import WebhookDelivery, WebhookEndpoint
from events.webhooks.queueing import READER
from lib import clock
from lib.db import SERVICE, scope, send

LATE = timedelta(minutes=5)
# Of webhooks that work: one that fails is nobody's trouble but its brand's, who is told on its page, and when it is
# switched off. A sender that is alive says so with the reader's time, also while nothing happens.
WORST = """
select w.id, extract(epoch from now() - d.next_retry_at)::float as late_s
from events_webhookendpoint w join accounts_brand b on b.id = w.brand_id cross join lateral (
    select next_retry_at from events_webhookdelivery
    where webhook_id = w.id and status = 'pending' order by next_retry_at limit 1
) d
where w.is_active and b.is_active and w.failing_since is null and d.next_retry_at < now()
union all
select null, extract(epoch from now() - read_until)::float from events_reader
where name = %(reader)s and exists (
    select from events_webhookendpoint w join accounts_brand b on b.id = w.brand_id where w.is_active and b.is_active
)
order by late_s desc limit 1
"""


class Worst(NamedTuple):
    """`webhook_id` None = all of them: nobody looks for what happens."""

    late_s: float
    webhook_id: UUID | None


def worst() -> Worst:
    """The webhook that works and is the furthest behind."""
    with scope(SERVICE):
        (rows,) = send((WORST, {"reader": READER}))
    return Worst(rows[0].late_s, rows[0].id) if rows else Worst(0.0, None)


def with_due(hooks: QuerySet[WebhookEndpoint]) -> QuerySet[Any]:
    """Each with `due`: when the delivery that waits the longest should have been tried."""
    waiting = WebhookDelivery.objects.filter(webhook=OuterRef("pk"), status=WebhookDelivery.Status.PENDING)
    return hooks.annotate(due=Subquery(waiting.order_by("next_retry_at").values("next_retry_at")[:1]))


def is_late(hook: Any) -> bool:
    """Of a row of with_due(). What is switched off waits for nothing."""
    due: datetime | None = hook.due
    return bool(hook.is_active and due and due < clock.now() - LATE)
