"""Events as Stripe tells them: listed by the API, and posted to our webhook with Stripe's own signature."""

import asyncio
import hashlib
import hmac
import json
import logging
from datetime import timedelta
from typing import Any

import aiohttp
from django.conf import settings
from stripe import params as asked

from billing.standin.models import StandInObject
from billing.standin.routes import PAGING, route
from billing.standin.store import Body, asking, changing, find, page, seconds
from lib import clock, egress

PATIENCE_S = 20
FIRST_PAUSE_S, LONGEST_PAUSE_S = 5, 3600
GIVE_UP = timedelta(days=3)
MOST_AT_ONCE = 100
LET_THE_TASK = timedelta(seconds=10)  # before the sweep takes a first try for lost
log = logging.getLogger(__name__)


@route("GET", "/v1/events/{}", asked.EventRetrieveParams)
def retrieve(params: dict[str, Any], its_id: str) -> Body:
    return find("event", its_id).body


@route("GET", "/v1/events", asked.EventListParams, f"{PAGING} type types delivery_success")
def list_events(params: dict[str, Any]) -> Body:
    where: dict[str, Any] = {}
    if "type" in params:
        where["body__type"] = params["type"]
    if "types" in params:
        where["body__type__in"] = params["types"]
    if "delivery_success" in params:
        where["body__pending_webhooks__lt" if params["delivery_success"] else "body__pending_webhooks__gt"] = (
            1 if params["delivery_success"] else 0
        )
    return page("event", params, "/v1/events", **where)


def signed(body: bytes, secret: str, *, at: int) -> str:
    """The header `Stripe-Signature` for these bytes."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def send(event_id: str) -> bool:
    """Post one event to our webhook, and say whether it was taken. What was taken once is not sent again.

    What is not is sent again by the sweep, after pauses that double up to an hour, for three days.
    """
    if not settings.STRIPE_STAND_IN_WEBHOOK:
        return False
    with asking():
        event = StandInObject.objects.filter(pk=event_id, kind="event").first()
    if event is None or not event.body["pending_webhooks"]:
        return False
    said = asyncio.run(_post(json.dumps(event.body).encode()))
    is_taken = said.startswith("2")
    with changing():
        event = find("event", event_id)
        tries = event.inside["tries"] + 1
        if is_taken:
            event.body = {**event.body, "pending_webhooks": 0}
        else:
            log.warning("the webhook did not take an event of the stand-in: %s", said, extra={"event": event_id})
        pause_s = min(FIRST_PAUSE_S * 2**tries, LONGEST_PAUSE_S)
        event.inside = {**event.inside, "tries": tries, "again_at": seconds(clock.now()) + pause_s}
        event.save()
    return is_taken


async def _post(body: bytes) -> str:
    """The status, or what went wrong. To the one address that settings name, wherever it leads; no redirect is followed."""
    url = settings.STRIPE_STAND_IN_WEBHOOK
    header = signed(body, settings.STRIPE_WEBHOOK_SECRET, at=seconds(clock.now()))
    connector = egress.connector(url, allow={egress.origin(url).host_port})
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        headers = {"Stripe-Signature": header, "Content-Type": "application/json; charset=utf-8"}
        try:
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return str(response.status)
        except (aiohttp.ClientError, TimeoutError) as away:
            return f"it does not answer ({away})"


def send_waiting() -> int:
    """What was not taken, and what nobody tried because its task was lost, in the order in which it happened."""
    now = clock.now()
    with asking():
        waiting = StandInObject.objects.filter(
            kind="event",
            body__pending_webhooks=1,
            inside__again_at__lte=seconds(now),
            created_at__range=(now - GIVE_UP, now - LET_THE_TASK),
        )
        events = list(waiting.order_by("pk").values_list("pk", flat=True)[:MOST_AT_ONCE])
    return sum(send(event) for event in events)
