"""/manage/deliveries/: what left a brand for somebody's mailbox or server, how it fared, and what can be done about it.

Owners see whole addresses, admins masked ones; nobody sees here what a mail said.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.conf import settings
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from accounts.access import BrandRequest, admin_goes_out
from events import activity
from events import mail as mails
from events.delivery import blocked
from events.models import EmailLog, WebhookDelivery
from lib.db import SERVICE, Principal, scope
from lib.errors import Conflict, Invalid, NotFound

ON_PAGE = 50
Status = EmailLog.Status
Called = WebhookDelivery.Status
# What each filter shows, of mails and of webhooks.
STATES: dict[str, tuple[str | Promise, tuple[str, ...], tuple[str, ...]]] = {
    "waiting": (gettext_lazy("Waiting"), (Status.QUEUED,), (Called.PENDING,)),
    "done": (
        gettext_lazy("Arrived or on its way"),
        (Status.SENT, Status.DELIVERED, Status.OPENED, Status.CLICKED),
        (Called.DELIVERED,),
    ),
    "trouble": (
        gettext_lazy("Did not arrive"),
        (Status.FAILED, Status.SUPPRESSED, Status.BOUNCED, Status.COMPLAINED),
        (Called.FAILED, Called.CANCELLED),
    ),
}
CALLED_IN_WORDS: dict[str, str | Promise] = {
    Called.PENDING: gettext_lazy("Waiting"),
    Called.DELIVERED: gettext_lazy("Delivered"),
    Called.FAILED: gettext_lazy("Not delivered"),
    Called.CANCELLED: gettext_lazy("Called off"),
}
IN_WORDS: dict[str, str | Promise] = {
    Status.QUEUED: gettext_lazy("Waiting"),
    Status.SENT: gettext_lazy("Handed over"),
    Status.DELIVERED: gettext_lazy("Delivered"),
    Status.OPENED: gettext_lazy("Opened"),
    Status.CLICKED: gettext_lazy("Link followed"),
    Status.FAILED: gettext_lazy("Not sent"),
    Status.SUPPRESSED: gettext_lazy("Held back"),
    Status.BOUNCED: gettext_lazy("Came back"),
    Status.COMPLAINED: gettext_lazy("Marked as spam"),
}
MEANS: dict[str, str | Promise] = {
    Status.QUEUED: gettext_lazy("It will be tried, again if it must, for about nine hours."),
    Status.SENT: gettext_lazy("The mail server took it. Whether it arrived is known where a mail provider reports it."),
    Status.DELIVERED: gettext_lazy("It lies in the mailbox."),
    Status.OPENED: gettext_lazy("Its picture was fetched, by a person or by a mail program."),
    Status.CLICKED: gettext_lazy("A link in it was followed."),
    Status.FAILED: gettext_lazy("It was given up. Below stands what the mail server said last."),
    Status.SUPPRESSED: gettext_lazy(
        "Mail to this address came back before, or was not wanted, so this one was not sent."
    ),
    Status.BOUNCED: gettext_lazy("The other mail server sent it back. Nothing more is sent to this address."),
    Status.COMPLAINED: gettext_lazy("Its reader called it spam. Nothing more is sent to this address."),
}


@dataclass(frozen=True, slots=True)
class Delivery:
    """One line of the page. `tone` is a chip's: "", accent, warn or danger."""

    id: UUID
    at: datetime
    what: str | Promise
    title: str
    to: str
    state: str | Promise
    tone: str
    attempts: int
    error: str
    next_at: datetime | None
    url: str


class Wanted(forms.Form):
    what = forms.ChoiceField(choices=[("", ""), ("mail", ""), ("webhook", "")], required=False)
    state = forms.ChoiceField(choices=[("", ""), *((code, "") for code in STATES)], required=False)
    after = forms.UUIDField(required=False)


@admin_goes_out
@require_safe
def page(request: BrandRequest) -> HttpResponse:
    """The newest first. A page begins after a row: ids of both kinds sort by the time they were made."""
    form = Wanted(request.GET)
    if not form.is_valid():
        raise Invalid(_("This place in the list is not known. Begin at the first page."))
    wanted = form.cleaned_data
    standing, found = _calls(request.principal, wanted)
    found += _mails(request.principal.brand_id, wanted, standing)
    found.sort(key=lambda row: row.id, reverse=True)
    rows, more = found[:ON_PAGE], len(found) > ON_PAGE
    kept = {name: wanted[name] for name in ("what", "state") if wanted[name]}
    with scope(request.principal):
        context = {
            "here": "deliveries",
            "standing": standing,
            "rows": rows,
            "wanted": wanted,
            "states": [(code, names[0]) for code, names in STATES.items()],
            "first": urlencode(kept),
            "more": urlencode({**kept, "after": rows[-1].id}) if more else "",
            "is_outbox": _is_outbox(),
        }
        return render(request, "manage/deliveries.html", context)


@admin_goes_out
@require_safe
def mail(request: BrandRequest, mail_id: UUID) -> HttpResponse:
    row = _mail(request, mail_id)
    can_send_again, why_blocked = mails.can_send_again(row), blocked.of(row.to_email)
    with scope(request.principal) as standing:
        context = {
            "here": "deliveries",
            "standing": standing,
            "mail": row,
            "row": _of_mail(row, standing),
            "means": MEANS[row.status],
            "blocked": blocked.WHY[why_blocked.reason] if why_blocked else "",
            "can_send_again": can_send_again,
            "has_link": "secrets" in row.template_data,
        }
        return render(request, "manage/delivery.html", context)


@admin_goes_out
@require_POST
def mail_again(request: BrandRequest, mail_id: UUID) -> HttpResponse:
    """Send again what was given up. What may have left, or held a link that is gone, is not sent twice."""
    row = _mail(request, mail_id)
    with scope(SERVICE):
        if not mails.send_again(row):
            raise Conflict(_("This mail is on its way already, or cannot be sent again."))
        activity.record(
            request.principal.brand_id,
            "mail.sent_again",
            actor_id=request.principal.owner_id,
            resource=("mail", row.pk),
        )
    messages.success(request, _("The mail is on its way again."))
    return HttpResponseRedirect(reverse("delivery-of-mail", args=[row.pk]), status=303)


def _mail(request: BrandRequest, mail_id: UUID) -> EmailLog:
    with scope(SERVICE):
        row = EmailLog.objects.select_related("brand").filter(brand_id=request.principal.brand_id, pk=mail_id).first()
    if row is None:
        raise NotFound(_("There is no such mail (any more)."))
    return row


def _mails(brand_id: UUID, wanted: dict[str, Any], standing: str) -> list[Delivery]:
    """The log of mails is the house's own, so it is asked as the service, for this brand's rows alone."""
    if wanted["what"] == "webhook":
        return []
    with scope(SERVICE):
        rows = EmailLog.objects.filter(brand_id=brand_id).defer("template_data")
        if wanted["state"]:
            rows = rows.filter(status__in=STATES[wanted["state"]][1])
        if wanted["after"]:
            rows = rows.filter(pk__lt=wanted["after"])
        return [_of_mail(row, standing) for row in rows.order_by("-pk")[: ON_PAGE + 1]]


def _calls(principal: Principal, wanted: dict[str, Any]) -> tuple[str, list[Delivery]]:
    """The standing of who asks, and calls of webhooks. Pages of their own say the rest, and send them again."""
    with scope(principal) as standing:
        if wanted["what"] == "mail":
            return standing, []
        rows = WebhookDelivery.objects.filter(brand_id=principal.brand_id).select_related("webhook")
        if wanted["state"]:
            rows = rows.filter(status__in=STATES[wanted["state"]][2])
        if wanted["after"]:
            rows = rows.filter(pk__lt=wanted["after"])
        newest = rows.defer("event_data", "response_body").order_by("-pk")[: ON_PAGE + 1]
        return standing, [_of_call(row) for row in newest]


def _of_call(row: WebhookDelivery) -> Delivery:
    waits = "accent" if row.attempt_count == 0 else "warn"
    return Delivery(
        id=row.pk,
        at=row.created_at,
        what=_("Webhook"),
        title=row.event_type,
        to=row.webhook.name,
        state=CALLED_IN_WORDS[row.status],
        tone={Called.PENDING: waits, Called.FAILED: "danger", Called.CANCELLED: "warn"}.get(Called(row.status), ""),
        attempts=row.attempt_count,
        error=_answer(row),
        next_at=row.next_retry_at if row.status == Called.PENDING else None,
        url=reverse("manage-webhook-delivery", args=[row.pk]),
    )


def _answer(row: WebhookDelivery) -> str:
    """What came of the last attempt, where that was not what it should be."""
    if row.status == Called.DELIVERED or not row.attempt_count:
        return ""
    if row.http_status:
        return _("It answered %(status)s.") % {"status": row.http_status}
    return _("No usable answer came.")


def _of_mail(row: EmailLog, standing: str) -> Delivery:
    tones = {Status.QUEUED: "accent" if row.attempts == 0 else "warn", Status.SUPPRESSED: "warn"}
    is_trouble = row.status in (Status.FAILED, Status.BOUNCED, Status.COMPLAINED)
    return Delivery(
        id=row.pk,
        at=row.created_at,
        what=_("Mail"),
        title=row.subject,
        to=row.to_email if standing == "owner" else _masked(row.to_email),
        state=IN_WORDS[row.status],
        tone="danger" if is_trouble else tones.get(Status(row.status), ""),
        attempts=row.attempts,
        error=row.error,
        next_at=row.next_attempt_at if row.status == Status.QUEUED else None,
        url=reverse("delivery-of-mail", args=[row.pk]),
    )


def _masked(address: str) -> str:
    name, _at, host = address.rpartition("@")
    return f"{name[:1]}•••@{host}"


def _is_outbox() -> bool:
    """Whether mails leave for nobody: on the machine of a developer."""
    return settings.EMAIL_BACKEND.endswith("console.EmailBackend")
