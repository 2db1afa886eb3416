"""Addresses that are written to no more, until somebody lifts that: our staff, or the person whose address it is.

What somebody has just asked for to get in (confirm the address, set a new password, a change of how they sign in) is sent all
the same: it is all that may bring them back, nobody gets many of these (chatsite.signup), and a box that was full for a week
may be read again.
"""

from datetime import timedelta
from uuid import UUID

from django.db.models import F, Q
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from accounts.models import User
from events.models import BlockedAddress, EmailLog
from lib import clock
from lib.db import SERVICE, scope
from lib.errors import Conflict

Reason = BlockedAddress.Reason
ABOUT_SIGNING_IN = ("account/", "mfa/", "socialaccount/")  # templates of what nobody can stop or be tracked by
LIFTED = Q(lifted_at__isnull=False, lifted_at__gte=F("blocked_at"))
AGAIN_AFTER = timedelta(hours=24)  # since the last time its person lifted it
WHY: dict[str, str | Promise] = {
    Reason.BOUNCED: _("A mail to this address came back, so we send no more there."),
    Reason.COMPLAINED: _("A mail of ours was marked as spam in this mailbox, so we send no more there."),
    Reason.UNSUBSCRIBED: _("Our mails were stopped from within this mailbox, so we send no more there."),
}


class TooSoon(Conflict):
    says = _("This address was tried again less than a day ago, without success. Change it, or try again tomorrow.")


def is_about_signing_in(mail: EmailLog) -> bool:
    return mail.template_id.startswith(ABOUT_SIGNING_IN)


def block(mail: EmailLog, reason: Reason, *, detail: str = "") -> bool:
    """Send no more to where this mail went. Returns whether that is news.

    What is heard again of a mail that left before the last lifting says nothing about the address as it is now.
    """
    values = {"reason": reason, "detail": detail[:300], "mail_id": mail.pk, "blocked_at": clock.now()}
    with scope(SERVICE):
        row, is_new = BlockedAddress.objects.get_or_create(address=mail.to_email.lower(), defaults=values)
        if is_new:
            return True
        lifted = BlockedAddress.objects.filter(LIFTED, pk=row.pk, lifted_at__lt=mail.sent_at or mail.created_at)
        return bool(lifted.update(**values))


def of(address: str) -> BlockedAddress | None:
    """Why nothing is sent there now."""
    with scope(SERVICE):
        return BlockedAddress.objects.exclude(LIFTED).filter(pk=address.lower()).first()


def stops(mail: EmailLog) -> BlockedAddress | None:
    """What keeps this very mail from being sent. Alerts to ADMINS go out as ever."""
    return None if is_about_signing_in(mail) or mail.brand_id is None else of(mail.to_email)


def lift(address: str, *, by: UUID) -> bool:
    """Write to it again. Returns whether it was blocked."""
    with scope(SERVICE):
        rows = BlockedAddress.objects.exclude(LIFTED).filter(pk=address.lower())
        return bool(rows.update(lifted_at=clock.now(), lifted_by=by))


def lift_own(user: User) -> bool:
    """The same by whose address it is, once a day, for what comes back costs all of us our good name. Raises TooSoon."""
    with scope(SERVICE):
        row = of(user.email)
        if row and row.lifted_at and row.lifted_at > clock.now() - AGAIN_AFTER:
            raise TooSoon
        return lift(user.email, by=user.pk)
