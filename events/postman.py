"""Takes the mails of the log to the mail server. Nobody else talks to it.

At least once: a worker that dies between the server's yes and its own commit leaves a mail that is sent a second time, with
the same Message-ID. Otherwise once: whoever tries a mail first moves its next attempt on, and so has it alone.
"""

import logging
import re
from collections.abc import Mapping
from datetime import timedelta
from smtplib import SMTPDataError, SMTPException, SMTPRecipientsRefused
from typing import Any
from uuid import UUID

import orjson
from anymail.exceptions import AnymailError, AnymailRequestsAPIError
from django.conf import settings
from django.core.cache import cache
from django.core.mail import EmailMultiAlternatives
from django.db.models import Case, F, Value, When
from django.db.models.functions import Now
from django.template import Context
from django.template.loader import get_template
from django.utils.translation import override

from accounts import brands
from accounts.models import Brand
from events.delivery import blocked, stopping, trails
from events.models import EmailLog
from lib.colour import srgb
from lib.db import SERVICE, scope
from lib.logs import blotted

ALONE_FOR = timedelta(minutes=5)  # longer than all time-outs of one attempt together (EMAIL_TIMEOUT)
PAUSES = [timedelta(minutes=minutes) for minutes in (1, 2, 10, 30, 120, 360)]  # then it has failed
SECRETS_FOR_S = 3600
AT_A_TIME = 100
log = logging.getLogger(__name__)


class Undeliverable(Exception):
    """No later attempt would do better."""


def secrets_of(mail_id: UUID) -> str:
    return f"mail:{mail_id}"


def deliver(mail_id: UUID) -> bool:
    """Send one mail if it is due. Returns whether the mail server took it now; what went wrong stands in the log."""
    with scope(SERVICE):
        due = EmailLog.objects.filter(pk=mail_id, status=EmailLog.Status.QUEUED, next_attempt_at__lte=Now())
        if not due.update(next_attempt_at=Now() + ALONE_FOR, attempts=F("attempts") + 1):
            return False
        mail = EmailLog.objects.select_related("brand").get(pk=mail_id)
    try:
        if mail.attempts > len(PAUSES) + 1:  # each attempt ended without a word: its worker died
            raise Undeliverable("Every attempt ended with its worker.")
        if stopped := blocked.stops(mail):
            _note(mail, status=EmailLog.Status.SUPPRESSED, error=stopped.get_reason_display())
            return False
        message = written(mail)
        message.send()
    except Undeliverable as error:
        _note(mail, status=EmailLog.Status.FAILED, error=str(error))
        return False
    except (SMTPException, OSError, AnymailError) as error:
        said = blotted(f"{type(error).__name__}: {error}")
        if _is_final(error) or mail.attempts > len(PAUSES):
            _note(mail, status=EmailLog.Status.FAILED, error=said)
        else:
            _note(mail, next_attempt_at=Now() + PAUSES[mail.attempts - 1], error=said)
        return False
    _note_that_it_left(mail, message)
    cache.delete(secrets_of(mail.pk))
    return True


def deliver_waiting() -> int:
    """Send all mails that are due, the longest waiting first. Returns how many the mail server took."""
    with scope(SERVICE):
        waiting = EmailLog.objects.filter(status=EmailLog.Status.QUEUED, next_attempt_at__lte=Now())
        due = list(waiting.order_by("next_attempt_at", "pk").values_list("pk", flat=True)[:AT_A_TIME])
    return sum(deliver(mail_id) for mail_id in due)


def unsent() -> int:
    """Mails of the last day that failed, or have waited for a quarter of an hour."""
    with scope(SERVICE):
        failed = EmailLog.objects.filter(status=EmailLog.Status.FAILED, created_at__gt=Now() - timedelta(days=1))
        late = EmailLog.objects.filter(status=EmailLog.Status.QUEUED, created_at__lt=Now() - timedelta(minutes=15))
        return failed.count() + late.count()


def rendered(template: str, brand: Brand | None, context: Mapping[str, Any]) -> str:
    """A text for a mail. It is plain text, so nothing in it is escaped."""
    around = {
        "brand": brand,
        "sender": brand.name if brand else "chatsite",
        "site": brands.address(brand) if brand else "",
    }
    source = get_template(template).template  # type: ignore[attr-defined]
    made: str = source.render(Context({**context, **around}, autoescape=False))
    return made.strip()


def written(mail: EmailLog) -> EmailMultiAlternatives:
    """The message as it goes out: the text, and the same in the brand's look.

    Raises  Undeliverable when its link is no longer kept
    """
    secrets = cache.get(secrets_of(mail.pk), {})
    if not secrets.keys() >= set(mail.template_data.get("secrets", [])):
        raise Undeliverable(
            "Its link was kept for an hour, in memory only. Whoever waits for it can ask for a new one."
        )
    language, stop_link = mail.template_data.get("language") or settings.LANGUAGE_CODE, stopping.link(mail)
    with override(language):
        data = {**mail.template_data, **secrets, "stop_link": stop_link}
        text = rendered(f"{mail.template_id}_message.txt", mail.brand, data)
    host = mail.brand.domain if mail.brand else "chatsite.invalid"
    headers = {"Message-ID": f"<{mail.pk}@{host}>", "Auto-Submitted": "auto-generated"}
    if settings.EMAIL_PROVIDER == "amazon_ses":  # by SMTP, where it reports with the headers of a mail
        headers["X-Metadata"] = orjson.dumps({"mail": mail.pk}).decode()
    if stop_link:  # RFC 8058; what is urgent or about signing in has none
        headers |= {"List-Unsubscribe": f"<{stop_link}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"}
    message = EmailMultiAlternatives(mail.subject, text, mail.from_email, [mail.to_email], headers=headers)
    message.attach_alternative(in_the_brands_look(text, mail.brand, language, trails.of(mail)), "text/html")
    message.metadata = {"mail": str(mail.pk)}  # type: ignore[attr-defined]  # a provider reports with it
    return message


def in_the_brands_look(text: str, brand: Brand | None, language: str, trail: trails.Trail | None = None) -> str:
    """The same words as HTML: a line that is an address becomes a link, everything else is shown as it is.

    trail  notes that it is opened and its links are followed, but for the one that stops such mails
    """

    def marked(line: str) -> tuple[str, str]:
        if not line.startswith(("https://", "http://")):
            return line, ""
        return line, trail.link(line) if trail and "/mail/stop/" not in line else line

    paragraphs = [
        [marked(line) for line in map(str.strip, paragraph.splitlines())] for paragraph in re.split(r"\n\s*\n", text)
    ]
    accent = srgb(0.46, float(brand.chroma), brand.hue) if brand else srgb(0.46, 0, 0)  # --accent-text by day
    look = {
        "brand": brand,
        "accent": accent,
        "paragraphs": paragraphs,
        "language": language,
        "pixel": trail.pixel() if trail else "",
    }
    return get_template("mail/frame.html").render(look)


def _is_final(error: Exception) -> bool:
    """Whether the server refused this address or this mail for good, and not us for now."""
    if isinstance(error, SMTPRecipientsRefused):
        return all(code >= 500 for code, _ in error.recipients.values())
    if isinstance(error, AnymailError):  # its provider refused the recipient, or cannot send such a mail at all
        return not isinstance(error, AnymailRequestsAPIError)
    return isinstance(error, SMTPDataError) and error.smtp_code >= 500


def _note_that_it_left(mail: EmailLog, message: EmailMultiAlternatives) -> None:
    """Its provider may have reported on it already: then the state is further than SENT, and stays."""
    status = getattr(message, "anymail_status", None)
    known_as = (status.message_id if status else None) or message.extra_headers["Message-ID"]
    left = Case(When(status=EmailLog.Status.QUEUED, then=Value(EmailLog.Status.SENT)), default=F("status"))
    with scope(SERVICE):
        EmailLog.objects.filter(pk=mail.pk).update(
            status=left,
            sent_at=Now(),
            error=Case(When(status=EmailLog.Status.QUEUED, then=Value("")), default=F("error")),
            provider=settings.EMAIL_BACKEND.split(".")[-2],
            provider_message_id=str(known_as)[:200],
        )
    _say(mail, EmailLog.Status.SENT)


def _note(mail: EmailLog, *, error: str, **found: Any) -> None:
    with scope(SERVICE):
        waiting = EmailLog.objects.filter(pk=mail.pk, status=EmailLog.Status.QUEUED)
        waiting.update(**found, error=error[:300])
    _say(mail, found.get("status", "later"), error[:300])


def _say(mail: EmailLog, outcome: str, error: str = "") -> None:
    said = {"task": mail.email_type, "attempts": mail.attempts, "outcome": outcome, "reason": error}
    log.log(logging.WARNING if error else logging.INFO, "mail", extra=said)
