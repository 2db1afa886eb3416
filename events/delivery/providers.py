"""The mail providers that can tell what became of a mail, and how each proves that it is the one who calls.

anymail knows their ways of saying it; nothing else of it is in use: no signals, no addresses of its own.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from anymail.exceptions import AnymailConfigurationError, AnymailError
from anymail.signals import AnymailTrackingEvent, EventType, RejectReason
from django.conf import settings
from django.http import HttpRequest
from django.utils.module_loading import import_string
from standardwebhooks import Webhook, WebhookVerificationError

from events.delivery.reports import Became, Report
from events.models import BlockedAddress
from lib import clock
from lib.errors import DomainError, NotFound

Raw = Mapping[str, Any]
Reason = BlockedAddress.Reason


class NotFromThem(DomainError):
    """This call does not prove that it comes from the mail provider."""

    status, code = 400, "bad_signature"


class LogIn(NotFromThem):
    """The same, of one that asks without its password first."""

    status = 401


class NoReport(DomainError):
    """The call is the provider's, and its body is no report."""

    status, code = 400, "invalid"


@dataclass(frozen=True, slots=True)
class Provider:
    """
    view     the class of anymail's that reads its reports
    secret   the argument of that class which EMAIL_WEBHOOK_SECRET is: a signing key, or `user:password` where the provider
             signs nothing and can only log in. "" = the key of a signature after Standard Webhooks
    is_soft  whether what it reports as bounced may arrive another time
    is_shy   whether it logs in only once it was told to
    """

    view: str
    secret: str
    is_soft: Callable[[Raw], bool]
    is_shy: bool = False


def _mailgun_is_soft(raw: Raw) -> bool:
    return raw.get("event-data", {}).get("severity") == "temporary"


# SparkPost's classes of what came back: a full box, too large, timed out, their own policy, an answering machine ...
SOFT_CLASSES = {"20", "21", "22", "23", "24", "40", "60", "70", "100"}
PROVIDERS = {
    "amazon_ses": Provider(
        "events.delivery.sns.Reports",
        "webhook_secret",
        lambda raw: raw.get("bounce", {}).get("bounceType") != "Permanent",
        is_shy=True,
    ),
    "brevo": Provider(
        "anymail.webhooks.brevo.BrevoTrackingWebhookView",
        "webhook_secret",
        lambda raw: raw.get("event") == "soft_bounce",
    ),
    "mailersend": Provider(
        "anymail.webhooks.mailersend.MailerSendTrackingWebhookView",
        "signing_secret",
        lambda raw: raw.get("type") == "activity.soft_bounced",
    ),
    "mailgun": Provider("anymail.webhooks.mailgun.MailgunTrackingWebhookView", "webhook_signing_key", _mailgun_is_soft),
    "mailjet": Provider(
        "anymail.webhooks.mailjet.MailjetTrackingWebhookView",
        "webhook_secret",
        lambda raw: raw.get("hard_bounce") is False,
    ),
    "postmark": Provider(
        "anymail.webhooks.postmark.PostmarkTrackingWebhookView",
        "webhook_secret",
        lambda raw: raw.get("Type") == "SoftBounce",
    ),
    "resend": Provider(
        "anymail.webhooks.resend.ResendTrackingWebhookView",
        "",
        lambda raw: raw.get("data", {}).get("bounce", {}).get("type") == "Transient",
    ),
    "sendgrid": Provider(
        "anymail.webhooks.sendgrid.SendGridTrackingWebhookView",
        "tracking_webhook_verification_key",
        lambda raw: raw.get("type") == "blocked",
    ),
    "sparkpost": Provider(
        "anymail.webhooks.sparkpost.SparkPostTrackingWebhookView",
        "webhook_secret",
        lambda raw: str(raw.get("bounce_class")) in SOFT_CLASSES,
    ),
}
# What anymail raises of JSON that is no report: some of it is read before it is proved who sent it.
ODD = (LookupError, TypeError, ValueError, AttributeError, RecursionError)
BECAME = {
    EventType.DELIVERED: Became.DELIVERED,
    EventType.OPENED: Became.OPENED,
    EventType.CLICKED: Became.CLICKED,
    EventType.BOUNCED: Became.BOUNCED,
    EventType.COMPLAINED: Became.COMPLAINED,
    EventType.REJECTED: Became.FAILED,
    EventType.FAILED: Became.FAILED,
    EventType.DEFERRED: None,
    EventType.UNSUBSCRIBED: None,
}
BLOCKS = {
    RejectReason.BOUNCED: Reason.BOUNCED,
    RejectReason.INVALID: Reason.BOUNCED,
    RejectReason.SPAM: Reason.COMPLAINED,
    RejectReason.UNSUBSCRIBED: Reason.UNSUBSCRIBED,
}


def told(name: str, request: HttpRequest) -> list[Report]:
    """What a provider reports in this call, once it has proved itself. Raises NotFound, NotFromThem, NoReport."""
    secret, provider = settings.EMAIL_WEBHOOK_SECRET, PROVIDERS.get(name)
    if provider is None or name != settings.EMAIL_PROVIDER or not secret:
        raise NotFound
    if provider.is_shy and "Authorization" not in request.headers:
        raise LogIn
    try:
        view = import_string(provider.view)(**{provider.secret or "webhook_secret": secret})
        if provider.secret:
            view.run_validators(request)
        else:
            _prove(request, secret)
    except (AnymailError, WebhookVerificationError, *ODD) as error:
        raise NotFromThem from error
    try:
        return [report for event in view.parse_events(request) if (report := _report(event, provider))]
    except (AnymailError, AnymailConfigurationError, *ODD) as error:
        raise NoReport from error


def _prove(request: HttpRequest, secret: str) -> None:
    headers = {name.lower().replace("svix-", "webhook-"): value for name, value in request.headers.items()}
    Webhook(secret).verify(request.body, headers, json_parse=False)


def _report(event: AnymailTrackingEvent, provider: Provider) -> Report | None:
    """None for what changes nothing: that it is queued, that somebody subscribed, that a machine answered."""
    if event.event_type not in BECAME:
        return None
    blocks = None
    if event.event_type == EventType.COMPLAINED:
        blocks = Reason.COMPLAINED
    elif event.event_type == EventType.UNSUBSCRIBED:
        blocks = Reason.UNSUBSCRIBED
    elif event.event_type in (EventType.BOUNCED, EventType.REJECTED) and not provider.is_soft(event.esp_event):
        blocks = BLOCKS.get(event.reject_reason or RejectReason.BOUNCED)
    return Report(
        mail_id=_own_id(event.metadata),
        provider_message_id=str(event.message_id or "")[:200],
        became=BECAME[event.event_type],
        at=min(event.timestamp, clock.now()) if event.timestamp and event.timestamp.tzinfo else clock.now(),
        blocks=blocks,
        said=" ".join(str(event.mta_response or event.description or "").split()).replace("\x00", ""),
    )


def _own_id(metadata: Any) -> UUID | None:
    """The id that the postman sent along (events.postman)."""
    try:
        return UUID(str(metadata["mail"]))
    except (LookupError, TypeError, ValueError):
        return None
