"""The one door through which mail leaves: `send()`, in the transaction that is the reason for it.

The row of the log is the order to the postman. It is stored with whatever caused it or not at all, and sent after the commit
by a worker; if that fails, again and again for some hours (events.postman). What becomes of it then is events.delivery's.
"""

from collections.abc import Mapping
from datetime import timedelta
from email.utils import formataddr, parseaddr
from functools import partial
from typing import Any
from uuid import UUID

from django.conf import settings
from django.core.cache import cache
from django.db.models.functions import Now
from django.utils import translation
from django.utils.translation import get_language

from accounts import preferences
from accounts.models import Brand
from events.delivery import blocked
from events.models import EmailLog
from events.postman import SECRETS_FOR_S, rendered, secrets_of
from events.tasks import send_mail
from lib.db import SERVICE, on_commit, scope

SENDER_CHARS = 40  # of a brand's name: 40 of any script, encoded, leave room for the address in 320


def send(
    brand_id: UUID | None,
    to: str,
    template: str,
    context: Mapping[str, Any],
    *,
    secrets: Mapping[str, str] | None = None,
    user_id: UUID | None = None,
    email_type: str = "",
    once: str = "",
    after: timedelta | None = None,
) -> EmailLog:
    """Mail `to`, in the name of a brand or (None) of the house, once the open transaction has committed.

    template  a path without its end: `mail/notice` stands for notice_subject.txt and notice_message.txt; the HTML is made
              from the text
    context   plain JSON, kept in the log; the subject is made of nothing else. `stops` names the kind of notice that its
              reader can have no more of by one click
    secrets   links and tokens that open something: kept in memory until the mail is sent, never in a row
    once      a mail of this brand with the same key is the same mail: the first one is returned, and none is sent
    after     how long it waits at least, and can be rewritten meanwhile; half a minute later than that
    """
    with preferences.in_language_of(user_id):
        return _queued(brand_id, to, template, context, secrets or {}, user_id, email_type, once, after)


def rewrite(brand_id: UUID, once: str, context: Mapping[str, Any]) -> bool:
    """Let a mail that nobody has tried to send say something else. Returns whether there was one. In service scope."""
    waiting = EmailLog.objects.select_for_update(of=("self",)).select_related("brand")
    mail = waiting.filter(brand_id=brand_id, once=once, status=EmailLog.Status.QUEUED, attempts=0).first()
    if mail is None:
        return False
    with translation.override(mail.template_data["language"]):
        mail.template_data = {**mail.template_data, **context}
        mail.subject = _subject(mail.template_id, mail.brand, mail.template_data)
    mail.save(update_fields=["template_data", "subject"])
    return True


def can_send_again(mail: EmailLog) -> bool:
    """Whether it surely never left, can be written once more, and its address is not blocked (any more)."""
    never_left = mail.status in (EmailLog.Status.FAILED, EmailLog.Status.SUPPRESSED)
    return never_left and "secrets" not in mail.template_data and blocked.stops(mail) is None


def send_again(mail: EmailLog) -> bool:
    """Queue once more what was given up, as if it had been written now. Returns False for what can_send_again() denies."""
    if not can_send_again(mail):
        return False
    with scope(SERVICE):
        given_up = EmailLog.objects.filter(pk=mail.pk, status=mail.status)
        if not given_up.update(status=EmailLog.Status.QUEUED, attempts=0, error="", next_attempt_at=Now()):
            return False
        on_commit(partial(send_mail.delay, str(mail.pk)))
    return True


def _subject(template: str, brand: Brand | None, context: Mapping[str, Any]) -> str:
    return " ".join(rendered(f"{template}_subject.txt", brand, context).split())[:300]


def _queued(
    brand_id: UUID | None,
    to: str,
    template: str,
    context: Mapping[str, Any],
    secrets: Mapping[str, str],
    user_id: UUID | None,
    email_type: str,
    once: str,
    after: timedelta | None,
) -> EmailLog:
    """In the language that the mail is written in, which the postman finds in its data."""
    context = {**context, "language": get_language()}
    brand = Brand.objects.get(pk=brand_id) if brand_id else None
    name, address = parseaddr(settings.DEFAULT_FROM_EMAIL)
    mail = EmailLog(
        brand=brand,
        user_id=user_id,
        to_email=to,
        from_email=formataddr((" ".join(brand.name.split())[:SENDER_CHARS] if brand else name, address)),
        subject=_subject(template, brand, context),
        email_type=email_type or template.rpartition("/")[2],
        template_id=template,
        template_data={**context, **({"secrets": sorted(secrets)} if secrets else {})},
        once=once,
        next_attempt_at=Now() + after if after else Now(),
    )
    with scope(SERVICE):
        EmailLog.objects.bulk_create([mail], ignore_conflicts=bool(once))
        if once and (first := EmailLog.objects.get(brand=brand, once=once)).pk != mail.pk:
            return first
        if secrets:
            cache.set(secrets_of(mail.pk), dict(secrets), SECRETS_FOR_S)
        if after is None:
            on_commit(partial(send_mail.delay, str(mail.pk)))
    return mail
