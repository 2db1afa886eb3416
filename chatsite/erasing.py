"""Erasing one person: everything they wrote and told goes, on every brand; what the books need stays, without a name.

What goes is found in the models, not listed: every row that has an owner goes, unless its table is named in KEPT. So a table
that is added tomorrow is erased from unless somebody says here why it is not.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID

from allauth.account.models import EmailAddress
from allauth.mfa.models import Authenticator
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.apps import apps
from django.contrib.admin.models import LogEntry
from django.contrib.sessions.models import Session
from django.db.models import Q
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import Invitation, Membership, User
from billing import leaving
from conversations.models import Turn
from events import activity, stream
from events.models import BlockedAddress, EmailLog, WebhookEndpoint
from lib import files
from lib.db import SERVICE, on_commit, scope
from lib.errors import Conflict

# The books: numbers, dates and ids. And the stream, which nobody may rewrite; it has no content and no name, nor has the
# audit log, which has no owner either. Where its lines were asked from has one, and goes.
KEPT = {
    *("quotas.Account", "quotas.Bucket", "quotas.Entitlement", "quotas.Entry", "quotas.Hold", "quotas.Pack"),
    *("quotas.UsageLog", "billing.BillingTransaction", "billing.Customer", "billing.OverageReport"),
    *("billing.Subscription", "billing.SubscriptionHistory", "events.Event", "events.EmailLog"),
    "events.WebhookEndpoint",  # the brand's, whoever of its admins made it
}
NAME_FILES = {"avatar_key", "file_key", "parts"}  # the columns that hold keys of lib.files
DOOR = {"account", "admin", "mfa", "socialaccount", "usersessions"}  # _personal() has these, by the person


class NotYet(Conflict):
    says = gettext_lazy("This account cannot be deleted yet. Nothing was deleted.")
    code = "cannot_erase_yet"


@dataclass(frozen=True, slots=True)
class Erased:
    """How many rows and files went."""

    rows: int
    files: int


def check(user: User) -> None:
    """Raises NotYet for staff, for the last owner of a brand, and while an answer is being written."""
    if user.is_staff:
        raise NotYet(_("You are staff. Ask a colleague to take that from you first; then you can delete your account."))
    with scope(SERVICE):
        mine = Membership.objects.filter(user=user, role=Membership.Role.OWNER).select_related("brand")
        others = Membership.objects.filter(role=Membership.Role.OWNER, user__is_active=True, suspended_at=None)
        shared = set(others.exclude(user=user).values_list("brand_id", flat=True))
        alone = [row.brand.name for row in mine if row.brand_id not in shared]
        is_answering = Turn.objects.filter(owner_id=user.pk, status__in=["pending", "streaming"]).exists()
    if alone:
        raise NotYet(
            _(
                "You are the only owner of %(brands)s. Make somebody else an owner there first, or ask our staff to "
                "close "
                "it. Nothing was deleted."
            )
            % {"brands": ", ".join(alone)}
        )
    if is_answering:
        raise NotYet(_("An answer of yours is still being written. Stop it or wait for it, then delete your account."))


def erase(user: User, *, by: UUID | None = None) -> Erased:
    """End what renews, then erase. Safe to repeat. Raises NotYet, and what Stripe refuses; nothing is deleted then."""
    check(user)
    leaving.end_what_renews(user)
    with scope(SERVICE):
        roles = dict(Membership.objects.filter(user=user).order_by("brand_id").values_list("brand_id", "role"))
        for brand_id in roles or [None]:  # first, because where it was asked from goes too
            activity.record(brand_id, "person.erased", actor_id=by, resource=("user", user.pk))
        for brand_id, role in roles.items():
            told = {"role": role, "reason": "account_deleted"}
            stream.publish(brand_id, "member.removed", subject=("user", user.pk), owner_id=by, data=told)
        leaving.forget_what_stripe_told(user)
        keys, rows = _owned(user)
        rows += _personal(user)
        for key in keys:
            on_commit(partial(files.delete, key, brand_id=UUID(key.partition("/")[0])))
    return Erased(rows, len(keys))


def _owned(user: User) -> tuple[set[str], int]:
    """Delete the rows that have this owner, children first; returns the files they named, and how many went."""
    keys: set[str] = set()
    count = 0
    for model, column in reversed(list(owned_models())):
        rows = model._default_manager.filter(**{column: user.pk})
        # Only columns that we write ourselves: a title may look like the key of somebody else's file.
        columns = [field.attname for field in model._meta.concrete_fields if field.attname in NAME_FILES]
        for row in rows.values_list(*columns) if columns else ():
            values = (each for value in row for each in (value if isinstance(value, list) else [value]))
            keys |= {value for value in values if isinstance(value, str) and files.KEY.fullmatch(value)}
        count += rows.delete()[0]
    return keys, count


def owned_models() -> Iterator[tuple[Any, str]]:
    """Every model of ours whose rows are somebody's and go with them, with the column that says whose."""
    for model in apps.get_models():
        names = {field.attname for field in model._meta.concrete_fields}
        column = next((name for name in ("owner_id", "user_id") if name in names), None)
        if column and model._meta.label not in KEPT and model._meta.app_label not in DOOR:
            yield model, column


def _personal(user: User) -> int:
    """What stands at the door, and mails; the account itself stays as an empty shell, because the books point at it."""
    sessions = list(UserSession.objects.filter(user_id=user.pk).values_list("session_key", flat=True))
    # An address that nobody confirmed may be somebody else's, with their invitations and mails.
    confirmed = EmailAddress.objects.filter(user_id=user.pk, verified=True)
    addresses = {user.email, *confirmed.values_list("email", flat=True)}
    mailed = Q(user_id=user.pk)
    for address in addresses:
        mailed |= Q(to_email__iexact=address)
    gone = [
        Session.objects.filter(session_key__in=sessions),
        UserSession.objects.filter(user_id=user.pk),
        Authenticator.objects.filter(user_id=user.pk),
        SocialAccount.objects.filter(user_id=user.pk),
        EmailAddress.objects.filter(user_id=user.pk),
        Invitation.objects.filter(email__in=addresses),
        EmailLog.objects.filter(mailed),
        BlockedAddress.objects.filter(pk__in=[address.lower() for address in addresses]),
        LogEntry.objects.filter(user_id=user.pk),
    ]
    count = sum(rows.delete()[0] for rows in gone)
    WebhookEndpoint.objects.filter(user_id=user.pk).update(user=None)
    user.email = f"{user.pk}@erased.invalid"
    user.is_active, user.last_login = False, None
    user.set_unusable_password()
    user.save(update_fields=["email", "is_active", "last_login", "password"])
    return count
