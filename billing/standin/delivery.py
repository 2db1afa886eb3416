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
from lib.errors import Unavailable

PATIENCE_S = 20
GIVE_UP = timedelta(days=3)
MOST_AT_ONCE = 1000
LET_THE_TASK = timedelta(seconds=30)  # before the sweep takes an event for forgotten
log = logging.getLogger(__name__)


class NotTaken(Unavailable):
    """Our webhook did not answer with 2xx; the event is sent again."""


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


def send(event_id: str) -> None:
    """Post one event to our webhook. What was taken once is not sent again.

    Raises NotTaken, so that the task is repeated
    """
    if not settings.STRIPE_STAND_IN_WEBHOOK:
        return
    with asking():
        event = StandInObject.objects.filter(pk=event_id, kind="event").first()
    if event is None or not event.body["pending_webhooks"]:
        return
    status = asyncio.run(_post(json.dumps(event.body).encode()))
    if not 200 <= status < 300:
        raise NotTaken(f"The webhook answered {status}.")
    with changing():
        event = find("event", event_id)
        event.body = {**event.body, "pending_webhooks": 0}
        event.save()


async def _post(body: bytes) -> int:
    """To the one address that settings name, wherever it leads, and nowhere else: no redirect is followed."""
    url = settings.STRIPE_STAND_IN_WEBHOOK
    header = signed(body, settings.STRIPE_WEBHOOK_SECRET, at=seconds(clock.now()))
    connector = egress.connector(url, allow={egress.origin(url).host_port})
    timeout = aiohttp.ClientTimeout(total=PATIENCE_S)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
        headers = {"Stripe-Signature": header, "Content-Type": "application/json; charset=utf-8"}
        try:
            async with session.post(url, data=body, headers=headers, allow_redirects=False) as response:
                return response.status
        except (aiohttp.ClientError, TimeoutError) as away:
            raise NotTaken(f"The webhook does not answer: {away}") from away


def send_forgotten() -> int:
    """Events whose task was lost, in the order in which they happened. One that is not taken waits for the next look."""
    now = clock.now()
    with asking():
        waiting = StandInObject.objects.filter(
            kind="event", body__pending_webhooks=1, created_at__range=(now - GIVE_UP, now - LET_THE_TASK)
        )
        forgotten = list(waiting.order_by("pk").values_list("pk", flat=True)[:MOST_AT_ONCE])
    sent = 0
    for event_id in forgotten:
        try:
            send(event_id)
        except NotTaken:
            log.warning("the webhook does not take the events of the stand-in", exc_info=True)
            break
        sent += 1
    return sent
