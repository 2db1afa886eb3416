"""How attempts went, written down for many at once; and what the people of the brand hear of it."""

import logging
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
from django.utils.http import parse_http_date_safe
from django.utils.translation import gettext as _

from accounts import preferences
from accounts.models import Membership
from events import activity, notices
from events.models import WebhookDelivery, WebhookEndpoint
from events.webhooks import endpoints
from events.webhooks.schedule import GIVEN_UP_AFTER, next_at
from lib import clock
from lib.db import SERVICE, scope, send
from lib.egress import Answer
from lib.logs import blotted
from lib.secret import Secret

EXCERPT_BYTES = 4096
KEPT_ATTEMPTS = 20
GONE, TOO_MANY = 410, 429
Status, Off = WebhookDelivery.Status, WebhookEndpoint.Off
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """Of one attempt. `answer` None = there was none."""

    delivery: WebhookDelivery
    endpoint: WebhookEndpoint
    answer: Answer | None
    excerpt: str
    ms: int

    @property
    def has_arrived(self) -> bool:
        return self.answer is not None and 200 <= self.answer.status < 300

    def retry_at(self, now: datetime) -> datetime | None:
        if self.answer is not None and self.answer.status == GONE:
            return None
        retries = self.endpoint.max_retries if self.endpoint.retry_failed else 0
        wished = _wished(self.answer, now) if self.answer is not None and self.answer.status == TOO_MANY else None
        return next_at(self.delivery.attempt_count, most_retries=retries, now=now, wished=wished)


def excerpt(answer: Answer, secrets: Iterable[Secret | str]) -> str:
    """The beginning of what was answered, as text, without what looks like a secret or is one of this endpoint (W-10)."""
    text = answer.body.decode("utf-8", "replace").replace("\0", "\ufffd")
    for secret in secrets:
        known = secret.reveal() if isinstance(secret, Secret) else secret
        if len(known) >= 6:
            text = text.replace(known, "[secret]")
    return blotted(text).encode()[:EXCERPT_BYTES].decode("utf-8", "ignore")


def _wished(answer: Answer, now: datetime) -> timedelta | None:
    """In either way of HTTP. What is neither, however long or odd, asks for nothing: nobody may stop us by what they say."""
    said = answer.headers.get("Retry-After", "").strip()
    if said.isascii() and said.isdigit():
        return timedelta(seconds=int(said) if len(said) < 7 else 10**6)
    moment = parse_http_date_safe(said)
    return None if moment is None else datetime.fromtimestamp(moment, UTC) - now


# Whoever changes deliveries of an endpoint has its row first: a page that switches it off, and another sender, wait in turn.
ALONE = "select from events_webhookendpoint where id = any(%(ids)s::uuid[]) order by id for no key update"
# What was switched off while it was on the wire has arrived all the same; what another sender took over is its own.
DONE = """
update events_webhookdelivery d
set status = o.status, http_status = o.http_status, response_body = o.excerpt, error_message = o.error, attempts = o.attempts,
    next_retry_at = o.next_retry_at, duration_ms = o.ms,
    delivered_at = case when o.status = 'delivered' then now() else d.delivered_at end
from jsonb_to_recordset(%(outcomes)s::jsonb) as o(
    id uuid, attempt int, status text, http_status int, excerpt text, error text, attempts jsonb, next_retry_at timestamptz,
    ms int
)
where d.id = o.id and (
    (d.status = 'pending' and d.attempt_count = o.attempt)
    or (d.status in ('pending', 'cancelled') and o.status = 'delivered')
)
returning d.id, d.webhook_id, d.status
"""
COUNT = """
update events_webhookendpoint w
set total_deliveries = w.total_deliveries + o.arrived + o.failed,
    successful_deliveries = w.successful_deliveries + o.arrived, failed_deliveries = w.failed_deliveries + o.failed,
    failing_since = case when o.arrived > 0 then null else coalesce(w.failing_since, now()) end,
    last_delivered_at = case when o.arrived > 0 then now() else w.last_delivered_at end,
    off_because = case when o.is_gone then 'gone'
                       when w.failing_since < now() - %(given_up)s::interval and o.arrived = 0 and o.is_stubborn
                       then 'failing' else w.off_because end,
    is_active = w.is_active and not o.is_gone
                and not (w.failing_since < now() - %(given_up)s::interval and o.arrived = 0 and o.is_stubborn) is true
from (select o.*, b.is_active as was_active from jsonb_to_recordset(%(counts)s::jsonb) as o(
    id uuid, arrived int, failed int, is_gone boolean, is_stubborn boolean
) join events_webhookendpoint b on b.id = o.id order by b.id for update of b) o
where w.id = o.id
returning w.id, o.was_active and not w.is_active as was_switched_off
"""


def write_down(outcomes: list[Outcome]) -> None:
    """In one transaction; then tell of what was given up or switched off. What is written twice changes nothing."""
    now = clock.now()
    with scope(SERVICE):
        done = {"outcomes": orjson.dumps([_row(one, now) for one in outcomes]).decode()}
        _, rows = send((ALONE, {"ids": list({one.endpoint.pk for one in outcomes})}), (DONE, done))
        written = {row.id: row.status for row in rows}
        counts = _counts([one for one in outcomes if one.delivery.pk in written], written)
        if not counts:
            return
        names = {"counts": orjson.dumps(counts).decode(), "given_up": f"{GIVEN_UP_AFTER.total_seconds()} seconds"}
        off = [row.id for row in send((COUNT, names))[0] if row.was_switched_off]
        endpoints.cancel_waiting(off)
        given_up = {one.endpoint.pk for one in outcomes if written.get(one.delivery.pk) == Status.FAILED}
        affected = WebhookEndpoint.objects.filter(pk__in={*off, *given_up})
        for endpoint in affected:
            _tell(endpoint, is_off=endpoint.pk in off, now=now)


def _row(one: Outcome, now: datetime) -> dict[str, Any]:
    retry_at = None if one.has_arrived else one.retry_at(now)
    status = one.answer.status if one.answer else None
    attempt = {"at": now.isoformat(timespec="seconds"), "http_status": status, "ms": one.ms}
    return {
        "id": one.delivery.pk,
        "attempt": one.delivery.attempt_count,
        "status": Status.DELIVERED if one.has_arrived else Status.PENDING if retry_at else Status.FAILED,
        "http_status": status,
        "excerpt": one.excerpt,
        "error": "" if one.answer else "unreachable",
        "attempts": [*one.delivery.attempts, attempt][-KEPT_ATTEMPTS:],
        "next_retry_at": retry_at,
        "ms": one.ms,
    }


def _counts(outcomes: Iterable[Outcome], written: dict[UUID, str]) -> list[dict[str, Any]]:
    counts: dict[UUID, dict[str, Any]] = {}
    for one in outcomes:
        none_yet = {"arrived": 0, "failed": 0, "is_gone": False, "is_stubborn": False}
        count = counts.setdefault(one.endpoint.pk, {"id": one.endpoint.pk, **none_yet})
        count["arrived"] += one.has_arrived
        count["failed"] += written[one.delivery.pk] == Status.FAILED
        # An endpoint of which nobody has heard for days is not given up at the first try of the next event.
        count["is_stubborn"] |= one.delivery.attempt_count > 1 or written[one.delivery.pk] == Status.FAILED
        count["is_gone"] |= one.answer is not None and one.answer.status == GONE
    return list(counts.values())


def _tell(endpoint: WebhookEndpoint, *, is_off: bool, now: datetime) -> None:
    """Everybody who manages the brand: once when it is switched off, and once a day when something is given up."""
    if is_off:
        activity.record(
            endpoint.brand_id,
            "webhook.switched_off",
            actor_id=None,
            resource=("webhook", endpoint.pk),
            description=endpoint.name,
            changes={"is_active": [True, False], "off_because": ["", endpoint.off_because]},
        )
    managers = Membership.objects.filter(
        brand_id=endpoint.brand_id,
        role__in=[Membership.Role.OWNER, Membership.Role.ADMIN],
        user__is_active=True,
        suspended_at=None,
    )
    once = (
        f"webhook:{endpoint.pk}:off:{now:%Y-%m-%dT%H:%M}" if is_off else f"webhook:{endpoint.pk}:failed:{now:%Y-%m-%d}"
    )
    for user_id in managers.values_list("user_id", flat=True):
        with preferences.in_language_of(user_id):
            title, message = _words(endpoint, is_off=is_off)
            notices.tell(
                endpoint.brand_id,
                user_id,
                notices.Type.SYSTEM,
                title=title,
                message=message,
                priority=notices.Priority.URGENT if is_off else notices.Priority.HIGH,
                action_url=f"/manage/webhooks/{endpoint.pk}/",
                action_label=_("See the webhook"),
                once=once,
            )


def _words(endpoint: WebhookEndpoint, *, is_off: bool) -> tuple[str, str]:
    named = {"name": endpoint.name}
    if not is_off:
        return (
            _("A delivery to %(name)s was given up") % named,
            _(
                "The webhook %(name)s did not take a delivery, and all repeats are used up. It is kept: mend the receiver, "
                "then send it again from the webhook’s page. You are told of this once a day at most."
            )
            % named,
        )
    if endpoint.off_because == Off.GONE:
        return (
            _("The webhook %(name)s was switched off") % named,
            _(
                "Its address answered 410, “gone”, which asks us to stop. Nothing is sent there any more. Give it another "
                "address, or switch it on again."
            ),
        )
    return (
        _("The webhook %(name)s was switched off") % named,
        _(
            "Every delivery to it has failed for five days, so nothing is sent there any more. Mend the receiver, switch "
            "it on again, and send again what was missed."
        ),
    )
