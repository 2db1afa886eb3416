"""Who opened a mail and followed its links, where a brand has switched that on. Two addresses of our own, both signed.

They say which mail it was, and nothing about who reads it. A link leads to what was in the mail and nowhere else, because its
target is in what was signed. The text version and mails about signing in have neither.
"""

from datetime import datetime
from uuid import UUID

from django.core import signing
from django.urls import reverse

from accounts import brands
from events.delivery import blocked, reports
from events.models import EmailLog
from lib import clock

OPENED, CLICKED = "chatsite.mail.opened", "chatsite.mail.clicked"


class Trail:
    """The addresses of one mail."""

    def __init__(self, mail: EmailLog) -> None:
        assert mail.brand is not None
        self.mail_id, self.brand = mail.pk, mail.brand

    def pixel(self) -> str:
        token = signing.dumps(self.mail_id.hex, salt=OPENED)
        return brands.address(self.brand, reverse("mail-opened", args=[token]))

    def link(self, target: str) -> str:
        token = signing.dumps([self.mail_id.hex, target], salt=CLICKED, compress=True)
        return brands.address(self.brand, reverse("mail-link", args=[token]))


def of(mail: EmailLog) -> Trail | None:
    """None where nobody looks: not switched on, or the mail opens something."""
    if mail.brand is None or not mail.brand.mail_tracking or blocked.is_about_signing_in(mail):
        return None
    return None if "secrets" in mail.template_data else Trail(mail)


def opened(token: str) -> bool:
    """Note that a mail was opened. Returns whether the address was ours."""
    try:
        mail_id = signing.loads(token, salt=OPENED)
    except signing.BadSignature:
        return False
    _note(mail_id, reports.Became.OPENED, clock.now())
    return True


def followed(token: str) -> str | None:
    """Note that a link was followed. Returns where it leads; None when the address is not ours."""
    try:
        mail_id, target = signing.loads(token, salt=CLICKED)
    except signing.BadSignature:
        return None
    _note(mail_id, reports.Became.CLICKED, clock.now())
    return str(target)


def _note(mail_id: str, became: EmailLog.Status, at: datetime) -> None:
    reports.apply(reports.Report(mail_id=UUID(mail_id), became=became, at=at))
