"""From the stream to deliveries: one row for each endpoint that asked for an event, in the transaction that moves the reader.

So an event becomes exactly one delivery for each endpoint, whoever dies in between (W-16).
"""

from datetime import timedelta
from typing import Any

import orjson

from events.catalogue import KINDS
from events.models import Event, Reader, WebhookDelivery, WebhookEndpoint
from events.reading import among, following, move, place_of
from lib import clock
from lib.db import SERVICE, scope

READER = "webhooks"
THIN_ABOVE = 20_000  # bytes
FAR = 10_000  # transactions, that a look may go over again
LONG = timedelta(seconds=30)  # so much of what was before it may a new endpoint hear, or one that is switched on
# In the look that finds the events, so that none is missed that was published after an endpoint was made.
TO_SOMEBODY = among("exists (select from events_webhookendpoint w where w.brand_id = f.brand_id and w.is_active)")


def queue_new() -> tuple[int, bool]:
    """Make deliveries of what happened since the last time. Returns how many, and whether more is waiting."""
    with scope(SERVICE):
        place = place_of(READER, locked=True)
        batch = following(place, statement=TO_SOMEBODY)
        if not batch.events and batch.place.since.coming - place.since.coming < FAR and not _was_long_ago():
            return 0, False  # nobody writes down each time that nothing happened
        rows = _deliveries(batch.events)
        WebhookDelivery.objects.bulk_create(rows, ignore_conflicts=True)
        move(READER, place, batch.place)
        return len(rows), batch.place.until is not None


def _was_long_ago() -> bool:
    return Reader.objects.filter(pk=READER, read_until__lt=clock.now() - LONG).exists()


def _deliveries(events: list[Event]) -> list[WebhookDelivery]:
    endpoints: dict[Any, list[WebhookEndpoint]] = {}
    brands = {event.brand_id for event in events}
    if brands:
        for endpoint in WebhookEndpoint.objects.filter(brand_id__in=brands, is_active=True):
            endpoints.setdefault(endpoint.brand_id, []).append(endpoint)
    now = clock.now()
    return [
        WebhookDelivery(
            brand_id=event.brand_id,
            webhook_id=endpoint.pk,
            message_id=event.pk,
            event_type=event.type,
            event_data=body_of(event),
            next_retry_at=now,
        )
        for event in events
        for endpoint in endpoints.get(event.brand_id, ())
        if wants(endpoint, event)
    ]


def wants(endpoint: WebhookEndpoint, event: Event) -> bool:
    """A type that this release does not know, because another one wrote it beside or before it, is told to nobody."""
    kind = KINDS.get(event.type)
    if kind is None or not kind.for_hooks or event.created_at < endpoint.created_at:
        return False
    if endpoint.agent_id and event.data.get("agent_id") != str(endpoint.agent_id):
        return False
    return not {event.type, f"{event.type.partition('.')[0]}.*", "*"}.isdisjoint(endpoint.events)


def body_of(event: Event) -> dict[str, Any]:
    """What goes out; without its data where it would be larger than 20 kB (W-19)."""
    body: dict[str, Any] = {
        "id": str(event.pk),
        "type": event.type,
        "timestamp": event.created_at.isoformat(),
        "brand_id": str(event.brand_id),
        "owner_id": event.owner_id and str(event.owner_id),
        "subject": {"kind": event.subject_kind, "id": str(event.subject_id)},
    }
    if len(orjson.dumps(event.data)) > THIN_ABOVE:
        return {**body, "thin": True}
    return {**body, "data": event.data}
