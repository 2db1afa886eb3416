"""What Stripe tells us: proved to be Stripe's, stored once, answered; then acted on by a task (billing.applying).

Nothing of a body is read before its signature was proved over the bytes as they came. The answer 200 is sent when the
event is on the disk, so whatever happens to us afterwards, it is acted on: by the task, or by the sweeper.
"""

import logging
import re
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import orjson
import stripe as sdk
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from accounts.access import public
from billing.asking import in_our_words, stripe
from billing.books import StripeEvent
from billing.tasks import apply_stripe_event
from lib import clock
from lib.db import SERVICE, on_commit, scope
from lib.errors import DomainError
from lib.faults import fault

# A character that PostgreSQL cannot hold, and not the six letters of it that somebody wrote: after an odd backslash only.
NUL = re.compile(r"(?<!\\)((?:\\\\)*)\\u0000")
SIGNED_AT_MOST_S = 300  # ago: what is older is somebody's recording (S-03)
log = logging.getLogger(__name__)


class NotFromStripe(DomainError):
    """The signature does not fit this body, this endpoint's secret or this hour."""

    status, code = 400, "bad_signature"


@csrf_exempt
@public("Stripe calls it, and proves by a signature over the body that it is Stripe")
@require_POST
def receive(request: HttpRequest) -> HttpResponse:
    try:
        event = proved(request.body, request.headers.get("Stripe-Signature", ""))
    except NotFromStripe as refused:
        log.warning("a call of the Stripe webhook was refused", extra={"reason": refused.detail})
        return JsonResponse({"code": refused.code, "detail": refused.detail}, status=refused.status)
    return JsonResponse({"received": True, "new": store(event)})


def proved(body: bytes, signature: str) -> dict[str, Any]:
    """The event, once it is sure to be one. Raises NotFromStripe; S-01, S-02, S-03."""
    secret = settings.STRIPE_WEBHOOK_SECRET
    if not secret:
        raise NotFromStripe("STRIPE_WEBHOOK_SECRET is not set, so nobody can prove anything.")
    if not signature.isascii():  # which the SDK cannot compare
        raise NotFromStripe()
    try:
        text = body.decode()
        sdk.WebhookSignature.verify_header(text, signature, secret, SIGNED_AT_MOST_S)
        event = orjson.loads(NUL.sub(r"\1", text))
    except (UnicodeDecodeError, sdk.SignatureVerificationError) as error:
        raise NotFromStripe() from error
    except orjson.JSONDecodeError as error:
        raise NotFromStripe("The body is signed, and is no JSON.") from error
    if not (isinstance(event, dict) and isinstance(event.get("id"), str) and isinstance(event.get("type"), str)):
        raise NotFromStripe("The body is signed, and is no event.")
    return event


def store(event: dict[str, Any]) -> bool:
    """Put an event into the inbox and have it acted on. A repeat changes nothing. Returns whether it was new."""
    if event["type"] == "customer.updated" and isinstance(event.get("data"), dict):
        event = {**event, "data": {**event["data"], "previous_attributes": {}}}  # the address that somebody took back
    said = {
        "type": event["type"][:100],
        "api_version": str(event.get("api_version") or "")[:40],
        "livemode": event.get("livemode") is True,
        "created": datetime.fromtimestamp(_seconds(event.get("created")), UTC),
        "body": event,
        "received_at": clock.now(),
    }
    with scope(SERVICE):
        row, is_new = StripeEvent.objects.get_or_create(pk=event["id"][:255], defaults=said)
        if is_new:
            on_commit(partial(_act_soon, row.pk))
    return is_new


def backfill(*, since: datetime, until: datetime | None = None) -> dict[str, int]:
    """Fetch what Stripe told between these moments, and store what never arrived (S-10). Returns how many: seen, new.

    Stripe keeps events for 30 days.
    """
    created = {"gte": int(since.timestamp()), **({"lte": int(until.timestamp())} if until else {})}
    with in_our_words():
        found = stripe().v1.events.list(params=cast(Any, {"created": created, "limit": 100}))
        told = [as_told(event) for event in found.auto_paging_iter()]
    return {"seen": len(told), "new": sum(store(event) for event in reversed(told))}


def as_told(event: sdk.Event) -> dict[str, Any]:
    """An event of the SDK's as the webhook gets it."""
    plain: dict[str, Any] = orjson.loads(orjson.dumps(event.to_dict(), default=str))
    return plain


def _act_soon(event_id: str) -> None:
    fault("stripe.stored")
    apply_stripe_event.delay(event_id)


def _seconds(given: Any) -> int:
    return given if type(given) is int and 0 <= given < 2**33 else 0
