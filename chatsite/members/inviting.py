"""Invitations: a mail to one address that lets its reader join, once, for a week, in a role that the inviter may give.

The link is the proof that somebody reads that mailbox; only its hash is stored. The inviter's own role counts when it is
used, too: whoever lost theirs has invited nobody (A-13).
"""

import hashlib
import secrets
from datetime import timedelta
from uuid import UUID

from allauth.account.models import EmailAddress
from django.db.models import QuerySet
from django.db.models.functions import Now
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import brands
from accounts.models import Brand, Invitation, Membership, User
from chatsite.members.joining import join_oneself
from chatsite.members.standing import RANK, Asked, acting, grantable, refuse_above
from events import activity, mail, stream
from events.models import EmailLog
from lib import clock
from lib.db import SERVICE, opening
from lib.errors import Conflict, DomainError, Forbidden, NotFound
from lib.ids import first_at

OPEN_FOR = timedelta(days=7)
SESSION = "invitation"  # where a browser that opened a link keeps the hash of its token until there is an account
MOST_IN_A_DAY = 200  # mails of one brand


class IsMember(Conflict):
    says = gettext_lazy("This person is a member already: change their role in the list. Nobody was invited.")
    code = "is_member"


class TooManyInvitations(DomainError):
    says = gettext_lazy("This brand has sent many invitations today. Nobody was invited; go on tomorrow.")
    status, code = 429, "too_many_invitations"


class NotInvited(NotFound):
    says = gettext_lazy("This invitation was used, withdrawn, or is over.")
    code = "not_invited"


class OtherAddress(Forbidden):
    says = gettext_lazy("This invitation is for another address than that of your account.")
    code = "other_address"


def open_ones(brand: Brand) -> QuerySet[Invitation]:
    """Those that nobody has used, the newest first; those that are over too, so that they can be sent again."""
    return Invitation.objects.filter(brand=brand, accepted_at=None).select_related("invited_by").order_by("-created_at")


def invite(asked: Asked, brand: Brand, email: str, role: str) -> Invitation:
    """Mail an invitation; another to the same address takes the place of the one before.

    Raises  AboveYou, IsMember, TooManyInvitations; nobody is invited then
    """
    email = email.strip().lower()
    with opening(SERVICE, key=brand.pk):
        mine = acting(asked.principal)
        refuse_above(mine, role)
        if Membership.objects.filter(brand=brand, user__email=email).exists():
            raise IsMember
        _refuse_a_flood(brand)
        Invitation.objects.filter(brand=brand, email=email, accepted_at=None).delete()
        return _sent(asked, mine, Invitation(brand=brand, email=email, role=role))


def resend(asked: Asked, brand: Brand, invitation_id: UUID) -> Invitation:
    """Mail it again, with a new link and a new week; the old link is dead. Raises as invite(), and NotInvited."""
    with opening(SERVICE, key=brand.pk):
        mine = acting(asked.principal)
        invitation = _open(brand, invitation_id)
        refuse_above(mine, invitation.role)
        _refuse_a_flood(brand)
        return _sent(asked, mine, invitation)


def withdraw(asked: Asked, brand: Brand, invitation_id: UUID) -> Invitation:
    """Its link is dead from now on. Raises NotInvited, AboveYou."""
    with opening(SERVICE, key=brand.pk):
        invitation = _open(brand, invitation_id)
        refuse_above(acting(asked.principal), invitation.role)
        asked.record("invitation.withdrawn", ("invitation", invitation.pk), {"role": invitation.role})
        Invitation.objects.filter(pk=invitation.pk).delete()
        return invitation


def digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def find(brand: Brand, token_hash: str) -> Invitation | None:
    """The invitation behind a link, while it can be used. In the service scope."""
    rows = open_ones(brand).filter(token_hash=token_hash, expires_at__gt=Now(), invited_by__is_active=True)
    invitation = rows.first()
    if invitation is None:
        return None
    inviter = Membership.objects.filter(brand=brand, user=invitation.invited_by, suspended_at=None).first()
    return invitation if inviter and invitation.role in grantable(inviter.role) else None


def is_for(invitation: Invitation, user: User) -> bool:
    """Whether an account has the address. Reads the door's tables: with no scope open, or as the service."""
    confirmed = EmailAddress.objects.filter(user_id=user.pk, verified=True, email__iexact=invitation.email)
    return user.email.lower() == invitation.email or confirmed.exists()


def accept(brand: Brand, token_hash: str, user: User) -> Membership:
    """Make the reader of the mail a member, once. A member already keeps the higher of the two roles.

    Raises  NotInvited, OtherAddress; nothing is changed then
    """
    with opening(SERVICE, key=brand.pk):
        invitation = find(brand, token_hash)
        if invitation is None:
            raise NotInvited
        if not is_for(invitation, user):
            raise OtherAddress
        membership = join_oneself(brand, user, invitation.role)
        if membership.suspended_at is not None:
            raise Forbidden(_("Your access to this brand is suspended. Write to its admins."))
        if RANK[membership.role] < RANK[invitation.role]:
            told = {"role": [membership.role, invitation.role]}
            activity.record(brand.pk, "member.role_changed", actor_id=user.pk, resource=("user", user.pk), changes=told)
            data = {"from": membership.role, "to": invitation.role}
            stream.publish(brand.pk, "member.role_changed", subject=("user", user.pk), owner_id=user.pk, data=data)
            Membership.objects.filter(pk=membership.pk).update(role=invitation.role)
            membership.role = invitation.role
        Invitation.objects.filter(pk=invitation.pk).update(accepted_at=Now())
        return membership


def _open(brand: Brand, invitation_id: UUID) -> Invitation:
    invitation = open_ones(brand).filter(pk=invitation_id).first()
    if invitation is None:
        raise NotInvited
    return invitation


def _refuse_a_flood(brand: Brand) -> None:
    of_late = EmailLog.objects.filter(pk__gte=first_at(clock.now() - timedelta(days=1)), brand=brand)
    if of_late.filter(email_type="invitation").count() >= MOST_IN_A_DAY:
        raise TooManyInvitations


def _sent(asked: Asked, mine: Membership, invitation: Invitation) -> Invitation:
    token = secrets.token_urlsafe(32)
    invitation.token_hash = digest(token)
    invitation.invited_by_id = mine.user_id
    invitation.expires_at = clock.now() + OPEN_FOR
    invitation.save()
    asked.record("invitation.sent", ("invitation", invitation.pk), {"role": invitation.role})
    inviter = User.objects.values_list("email", flat=True).get(pk=mine.user_id)
    link = brands.address(mine.brand, reverse("accounts:invited", args=[token]))
    mail.send(
        mine.brand_id,
        invitation.email,
        "mail/invitation",
        {"inviter": inviter, "days": OPEN_FOR.days},
        secrets={"invitation_url": link},
        email_type="invitation",
    )
    return invitation
