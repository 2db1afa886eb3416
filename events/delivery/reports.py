"""What is heard of a mail that left: in any order, any number of times, also before the postman has written that down.

A state only ever moves on along ORDER, and a moment only ever to the first one reported, so nothing has to be remembered of
what was heard before.
"""

import logging
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import F, Value
from django.db.models.functions import Least

from events.delivery import blocked
from events.models import BlockedAddress, EmailLog
from lib.db import SERVICE, scope
from lib.logs import blotted

Became = EmailLog.Status
# What came back may have been delivered first, to the machine that sent it back later; who complains has opened it.
ORDER = [
    Became.QUEUED,
    Became.SENT,
    Became.DELIVERED,
    Became.OPENED,
    Became.CLICKED,
    Became.SUPPRESSED,
    Became.FAILED,
    Became.BOUNCED,
    Became.COMPLAINED,
]
MOMENTS = {Became.DELIVERED: "delivered_at", Became.OPENED: "opened_at", Became.CLICKED: "clicked_at"}
log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """One thing that happened to one mail.

    became  its state since; None: it is as it was, and there is something to say
    at      when that happened, not when it was told
    blocks  why its address is written to no more
    said    by the other mail server
    """

    mail_id: UUID | None
    became: EmailLog.Status | None
    at: datetime
    provider_message_id: str = ""
    blocks: BlockedAddress.Reason | None = None
    said: str = ""


def apply(report: Report) -> bool:
    """Write down what happened. Returns whether there is such a mail; one that was swept away, or never ours, is none."""
    with scope(SERVICE):
        mail = _about(report)
        if mail is None:
            log.warning("a report is about no mail of ours", extra={"outcome": str(report.became or "")})
            return False
        this = EmailLog.objects.filter(pk=mail.pk)
        if report.became:
            became: dict[str, Any] = {"status": report.became}
            if report.became not in MOMENTS:
                became["error"] = blotted(report.said)[:300]
            this.filter(status__in=ORDER[: ORDER.index(report.became)]).update(**became)
        elif report.said and report.blocks is None:
            this.filter(status__in=[Became.QUEUED, Became.SENT]).update(error=blotted(report.said)[:300])
        if moment := MOMENTS.get(report.became) if report.became else None:
            this.update(**{moment: Least(F(moment), Value(report.at))})  # PostgreSQL's passes over null
        if report.blocks:
            blocked.block(mail, report.blocks, detail=blotted(report.said))
    return True


def _about(report: Report) -> EmailLog | None:
    """By the id that went along with it; a provider that was only spoken to by SMTP knows no more than the Message-ID."""
    if report.mail_id and (mail := EmailLog.objects.filter(pk=report.mail_id).first()):
        return mail
    if not report.provider_message_id:
        return None
    return EmailLog.objects.filter(provider_message_id=report.provider_message_id).order_by("-id").first()
