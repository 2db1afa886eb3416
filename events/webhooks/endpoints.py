"""A brand's webhooks, as its admins make, change and try them. The caller has proved who they are; no scope is open yet."""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from django.conf import settings
from django.db import IntegrityError
from django.db.models.functions import Now
from django.http.request import validate_host
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import Brand
from events import activity, catalogue
from events.activity.changes import HIDDEN
from events.models import WebhookDelivery, WebhookEndpoint
from events.webhooks import custom_headers, signing
from events.webhooks.schedule import MOST_RETRIES
from lib import clock, egress
from lib.db import Principal, scope
from lib.errors import Conflict, Invalid, NotFound
from lib.ids import uuid7
from lib.secret import Secret

MOST = 50  # of one brand
OLD_SECRET_SIGNS_FOR, MOST_REPLACED = timedelta(hours=24), 10
Status, Off = WebhookDelivery.Status, WebhookEndpoint.Off


@dataclass(frozen=True, slots=True)
class Wanted:
    """What somebody asks for. Raises Invalid in words, from checked().

    headers  lines `Name: value`; None = as they are
    """

    name: str
    url: str
    events: Collection[str]
    headers: str | None = None
    retry_failed: bool = True
    max_retries: int = MOST_RETRIES
    agent_id: UUID | None = None

    def checked(self, before: Secret | None = None) -> dict[str, Any]:
        name, url, events = self.name.replace("\0", "").strip(), self.url.strip(), list(dict.fromkeys(self.events))
        if not name or len(name) > 80:
            raise Invalid(_("Give the webhook a name of at most 80 characters."))
        if unknown := [wanted for wanted in events if not catalogue.is_for_hooks(wanted)]:
            raise Invalid(_("There is no event %(name)s.") % {"name": unknown[0][:60]})
        if not events:
            raise Invalid(_("Choose at least one event."))
        if not 0 <= self.max_retries <= MOST_RETRIES:
            raise Invalid(_("Between 0 and %(most)s retries are possible.") % {"most": MOST_RETRIES})
        refuse_unfit(url)
        fields = {
            "name": name,
            "url": url,
            "events": events,
            "retry_failed": self.retry_failed,
            "max_retries": self.max_retries,
            "agent_id": self.agent_id,
        }
        if self.headers is not None:
            fields["custom_headers"] = custom_headers.parse(self.headers, before)
        return fields


class MadeAlready(Conflict):
    says = gettext_lazy(
        "This webhook was made already, and its secret was shown then. If you did not copy it, make a new secret below."
    )
    code = "webhook_made_already"


class OurOwn(Invalid):
    """A webhook must not lead to ourselves: what it does there would be told again, without end (W-20)."""

    code = "address_is_ours"


def refuse_unfit(url: str) -> None:
    """Raises egress.Refused and OurOwn. Asks DNS, so no transaction may be open."""
    if len(url) > 1000:
        raise egress.Refused()
    target = egress.origin(url)
    is_ours = validate_host(target.host, settings.ALLOWED_HOSTS) or Brand.objects.filter(domain=target.host).exists()
    if is_ours and target.host_port not in settings.EGRESS_ALLOW:
        raise OurOwn(
            _(
                "This address is ours: what a webhook did here would be told again, without end. Give one of your own server."
            )
        )
    egress.vet_url(url)


def make(principal: Principal, wanted: Wanted, *, webhook_id: UUID | None = None) -> tuple[WebhookEndpoint, Secret]:
    """Returns it with its secret, which is shown this once.

    webhook_id  the row's id, where a repeat of the same request must not make a second one
    Raises      MadeAlready, Conflict where there are too many, Invalid
    """
    return store(principal, wanted.checked(), webhook_id=webhook_id)


def store(
    principal: Principal, fields: Mapping[str, Any], *, webhook_id: UUID | None = None
) -> tuple[WebhookEndpoint, Secret]:
    """make() of what was checked before."""
    secret = signing.new_secret()
    with scope(principal):
        if webhook_id and WebhookEndpoint.objects.filter(pk=webhook_id).exists():
            raise MadeAlready()
        if WebhookEndpoint.objects.filter(brand_id=principal.brand_id).count() >= MOST:
            raise Conflict(_("A brand has at most %(most)s webhooks. Delete one first.") % {"most": MOST})
        made = WebhookEndpoint(
            pk=webhook_id or uuid7(), brand_id=principal.brand_id, user_id=principal.owner_id, **fields
        )
        made.secret = secret
        try:
            made.save(force_insert=True)
        except IntegrityError as error:  # the same request at the same moment
            raise MadeAlready() from error
        # By the clock that events are dated by: it hears of what happens from now on.
        WebhookEndpoint.objects.filter(pk=made.pk).update(created_at=Now())
        _record(principal, "webhook.created", made, {"url": [None, _server(made.url)], "events": [None, made.events]})
    return made, secret


def change(principal: Principal, webhook_id: UUID, wanted: Wanted) -> WebhookEndpoint:
    """What is on its way goes to the new address. Header values, and what follows the server's name, stay unsaid in the log.

    Header values that nobody is shown again stay with the server they were given for: for another one they are given anew.
    """
    return store_change(principal, webhook_id, *checked_change(principal, webhook_id, wanted))


Judged = tuple[str, dict[str, str]]  # the address and the headers that a change was checked against


def checked_change(principal: Principal, webhook_id: UUID, wanted: Wanted) -> tuple[dict[str, Any], Judged]:
    """The columns that change() would write, and what that was judged by. Asks DNS, so no transaction may be open."""
    before = find(principal, webhook_id)
    is_elsewhere = egress.origin(wanted.url.strip()) != egress.origin(before.url)
    if is_elsewhere and wanted.headers is None and before.custom_headers:
        raise Invalid("Its headers were given for another server. Send `headers` with the new `url`.", param="headers")
    return wanted.checked(None if is_elsewhere else before.custom_headers), (
        before.url,
        custom_headers.opened(before.custom_headers),
    )


def store_change(principal: Principal, webhook_id: UUID, fields: Mapping[str, Any], judged: Judged) -> WebhookEndpoint:
    """change() by what was checked before. Raises Conflict where somebody has led it elsewhere since, or given it headers."""
    with scope(principal):
        row = locked(principal, webhook_id)
        if (row.url, custom_headers.opened(row.custom_headers)) != judged:
            raise Conflict(
                _("Somebody changed this webhook at the same moment. Look at it, and try again."), retry_after=1
            )
        if fields.get("url", row.url) != row.url:
            row.failing_since = None  # that was another server
        changes = {
            name: [getattr(row, name), value]
            for name, value in fields.items()
            if name not in ("custom_headers", "agent_id") and getattr(row, name) != value
        }
        if "url" in changes:
            led, leads = map(_server, changes["url"])
            changes["url"] = [led, leads] if led != leads else [HIDDEN, HIDDEN]
        if "custom_headers" in fields:
            had, has = custom_headers.opened(row.custom_headers), custom_headers.opened(fields["custom_headers"])
            if had != has:
                changes["custom_headers"] = [list(had), list(has)]
        for name, value in fields.items():
            setattr(row, name, value)
        row.save()
        if changes:
            _record(principal, "webhook.changed", row, changes)
    return row


def switch(principal: Principal, webhook_id: UUID, *, on: bool) -> WebhookEndpoint:
    """Off: nothing is sent any more, and what was on its way is cancelled; it can be sent again by hand."""
    with scope(principal):
        row = locked(principal, webhook_id)
        if row.is_active != on:
            row.is_active, row.off_because, row.failing_since = on, "" if on else Off.BY_HAND, None
            row.save(update_fields=["is_active", "off_because", "failing_since", "updated_at"])
            if not on:
                cancel_waiting([row.pk])
            _record(
                principal, "webhook.switched_on" if on else "webhook.switched_off", row, {"is_active": [not on, on]}
            )
    return row


def cancel_waiting(webhook_ids: Iterable[UUID]) -> int:
    """In a scope that sees them. Returns how many deliveries that were."""
    waiting = WebhookDelivery.objects.filter(webhook_id__in=list(webhook_ids), status=Status.PENDING)
    return waiting.update(status=Status.CANCELLED, next_retry_at=None)


def delete(principal: Principal, webhook_id: UUID) -> None:
    """With its deliveries."""
    with scope(principal):
        row = locked(principal, webhook_id)
        _record(principal, "webhook.deleted", row, {"url": [_server(row.url), None], "events": [row.events, None]})
        rows = WebhookEndpoint.objects.filter(pk=row.pk)
        rows._raw_delete(rows.db)  # the database deletes the deliveries: there may be very many


def rotate(principal: Principal, webhook_id: UUID, *, seen: str | None = None) -> Secret:
    """A new secret, shown this once. Each that it replaces signs beside it for 24 hours, however many come after (W-14):
    whoever missed the answer makes another one, and their receiver goes by the first all the while.

    seen    until when the secret before signs, as who asks was shown it ("" = there is none): a form that is sent again
            makes no second one
    Raises  NotFound; Conflict where another new one was made since, or too many sign already
    """
    now = clock.now()
    with scope(principal):
        row = locked(principal, webhook_id)
        if seen is not None and seen != old_secret_until(row):
            raise Conflict(
                _("A new secret was made since you opened this page, and it was shown then. Nothing more was changed.")
            )
        before = replaced(row, now)
        if len(before) >= MOST_REPLACED:
            raise Conflict(_("A webhook gets at most %(most)s new secrets within 24 hours.") % {"most": MOST_REPLACED})
        secret = signing.new_secret()
        row.older_secrets = Secret(json.dumps(before)) if before else None
        row.old_secret, row.old_secret_until = row.secret, now + OLD_SECRET_SIGNS_FOR
        row.secret = secret
        row.save(update_fields=["secret", "old_secret", "old_secret_until", "older_secrets", "updated_at"])
        _record(principal, "webhook.secret_rotated", row, {})
    return secret


def replaced(row: WebhookEndpoint, now: datetime) -> list[tuple[str, str]]:
    """The secrets before the newest one that sign still, the latest first, each with until when."""
    last = row.old_secret if row.old_secret_until and row.old_secret_until > now else None
    if last is None:
        return []
    older = json.loads(row.older_secrets.reveal()) if row.older_secrets else []
    in_force = [(secret, until) for secret, until in older if datetime.fromisoformat(until) > now]
    return [(last.reveal(), old_secret_until(row)), *in_force]


def old_secret_until(row: WebhookEndpoint) -> str:
    return row.old_secret_until.isoformat() if row.old_secret_until else ""


def try_out(principal: Principal, webhook_id: UUID) -> WebhookDelivery:
    """Queue a test event for this endpoint alone."""
    with scope(principal):
        row = locked(principal, webhook_id)
        if not row.is_active:
            raise Conflict(_("This webhook is switched off. Switch it on first."))
        message_id, now = uuid7(), clock.now()
        body = {
            "id": str(message_id),
            "type": catalogue.TEST.name,
            "timestamp": now.isoformat(),
            "brand_id": str(row.brand_id),
            "owner_id": None,
            "subject": {"kind": catalogue.TEST.subject, "id": str(row.pk)},
            "data": {"message": "This is a test. Nothing happened."},
        }
        return WebhookDelivery.objects.create(
            brand_id=row.brand_id,
            webhook=row,
            message_id=message_id,
            event_type=catalogue.TEST.name,
            event_data=body,
            next_retry_at=now,
        )


def find(principal: Principal, webhook_id: UUID) -> WebhookEndpoint:
    """Raises NotFound."""
    with scope(principal):
        return _found(WebhookEndpoint.objects.filter(brand_id=principal.brand_id, pk=webhook_id).first())


def locked(principal: Principal, webhook_id: UUID) -> WebhookEndpoint:
    """find(), so that nobody else changes it, or its deliveries, in this transaction. In the principal's scope."""
    rows = WebhookEndpoint.objects.select_for_update().filter(brand_id=principal.brand_id, pk=webhook_id)
    return _found(rows.first())


def _found(row: WebhookEndpoint | None) -> WebhookEndpoint:
    if row is None:
        raise NotFound(_("This webhook is not here (any more)."))
    return row


def _server(url: str) -> str:
    """What the log may say of an address: who knows the rest of it may be let in by that alone (A-16)."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _record(principal: Principal, action: str, row: WebhookEndpoint, changes: dict[str, Any]) -> None:
    activity.record(
        row.brand_id,
        action,
        actor_id=principal.owner_id,
        resource=("webhook", row.pk),
        description=row.name,
        changes=changes,
    )
