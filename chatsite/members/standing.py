"""What a brand's owners and admins may do about its members: roles, suspending, removing, and taking that back.

Nobody does anything to somebody above them or gives a role above their own, and a brand keeps an owner who can act. All of
it is judged under the brand's lock, by what stands in the rows then: two owners who demote each other leave one.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any
from uuid import UUID

from django.core import signing
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import preferences
from accounts.models import Membership, User
from chatsite.members.joining import join
from chatsite.tasks import member_left
from events import activity, mail, stream
from lib import clock
from lib.db import SERVICE, Principal, on_commit, opening
from lib.errors import Conflict, Forbidden, Invalid, NotFound

Role = Membership.Role
RANK: dict[str, int] = {Role.MEMBER: 0, Role.ADMIN: 1, Role.OWNER: 2}
UNDO_FOR = timedelta(minutes=10)
SALT = "chatsite.members.removed"
TOO_LATE = gettext_lazy("It is too late to take this back. Invite them again: they find their chats as they were.")
# What the person is told by mail: a title, and what that means for them.
TOLD = {
    Role.MEMBER: (
        gettext_lazy("What you may do has changed"),
        gettext_lazy("At %(brand)s you are a member: you chat, with a plan and a history of your own."),
    ),
    Role.ADMIN: (
        gettext_lazy("What you may do has changed"),
        gettext_lazy(
            "At %(brand)s you are an admin: you see its numbers and its members, and may read their chats, on record."
        ),
    ),
    Role.OWNER: (
        gettext_lazy("What you may do has changed"),
        gettext_lazy("At %(brand)s you are an owner: you decide about everything there, about its admins too."),
    ),
    "suspended": (
        gettext_lazy("Your access is suspended"),
        gettext_lazy(
            "An admin of %(brand)s has suspended your access. Your chats are kept, and a plan that renews ends with the "
            "period that is paid. Write to them if this is a mistake."
        ),
    ),
    "reinstated": (
        gettext_lazy("You have access again"),
        gettext_lazy("At %(brand)s everything is as you left it."),
    ),
    "removed": (
        gettext_lazy("You are no longer a member"),
        gettext_lazy(
            "An admin of %(brand)s has ended your membership. You cannot open your chats there any more, and a plan that "
            "renews ends with the period that is paid. Write to them if this is a mistake."
        ),
    ),
}


class AboveYou(Forbidden):
    says = gettext_lazy("Only an owner decides about owners. Nothing was changed.")
    code = "above_you"


class LastOwner(Conflict):
    says = gettext_lazy("This is the only owner of the brand. Make somebody else an owner first. Nothing was changed.")
    code = "last_owner"


@dataclass(frozen=True, slots=True)
class Asked:
    """Who asks for a change, and from where: what the brand's log says of it."""

    principal: Principal
    ip_address: str | None = None
    user_agent: str = ""

    def record(self, action: str, resource: tuple[str, UUID | None], changes: Mapping[str, Any]) -> None:
        activity.record(
            self.principal.brand_id,
            action,
            actor_id=self.principal.owner_id,
            resource=resource,
            changes=dict(changes),
            ip_address=self.ip_address,
            user_agent=self.user_agent,
        )

    def publish(self, deed: str, user_id: UUID, data: dict[str, Any]) -> None:
        """Tell of it to programs too."""
        me = self.principal
        stream.publish(me.brand_id, f"member.{deed}", subject=("user", user_id), owner_id=me.owner_id, data=data)


def grantable(role: str) -> list[str]:
    """The roles that somebody with `role` may give, the least first."""
    return [] if role == Role.MEMBER else [each for each, rank in RANK.items() if rank <= RANK[role]]


def change_role(asked: Asked, user_id: UUID, role: str) -> Membership:
    """Raises NotFound, Invalid, AboveYou, LastOwner; nothing is changed then. A repeat changes nothing."""
    with opening(SERVICE, key=asked.principal.brand_id):
        theirs = _theirs(asked.principal, user_id)
        refuse_above(acting(asked.principal), role)
        if theirs.role != role:
            _keep_an_owner(theirs)
            asked.record("member.role_changed", ("user", user_id), {"role": [theirs.role, role]})
            asked.publish("role_changed", user_id, {"from": theirs.role, "to": role})
            Membership.objects.filter(pk=theirs.pk).update(role=role)
            theirs.role = role
            _tell(theirs, role)
        return theirs


def suspend(asked: Asked, user_id: UUID) -> Membership:
    """Sessions, keys and shared links on this brand stop at once; everything stays as it is. Raises as change_role()."""
    with opening(SERVICE, key=asked.principal.brand_id):
        theirs = _another(asked.principal, user_id)
        if theirs.suspended_at is None:
            theirs.suspended_at = clock.now()
            Membership.objects.filter(pk=theirs.pk).update(suspended_at=theirs.suspended_at)
            asked.record("member.suspended", ("user", user_id), {"role": theirs.role})
            asked.publish("suspended", user_id, {"role": theirs.role})
            _put_out(theirs, "suspended")
        return theirs


def reinstate(asked: Asked, user_id: UUID) -> Membership:
    """Let a suspended member back in. Raises as change_role()."""
    with opening(SERVICE, key=asked.principal.brand_id):
        theirs = _another(asked.principal, user_id)
        if theirs.suspended_at is not None:
            theirs.suspended_at = None
            Membership.objects.filter(pk=theirs.pk).update(suspended_at=None)
            asked.record("member.reinstated", ("user", user_id), {"role": theirs.role})
            asked.publish("reinstated", user_id, {"role": theirs.role})
            _tell(theirs, "reinstated")
        return theirs


def remove(asked: Asked, user_id: UUID) -> str:
    """End a membership. Returns what restore() takes back for UNDO_FOR. Raises as change_role().

    What they wrote stays as long as it would have: they find it again if they come back.
    """
    with opening(SERVICE, key=asked.principal.brand_id):
        theirs = _another(asked.principal, user_id)
        asked.record("member.removed", ("user", user_id), {"role": theirs.role})
        asked.publish("removed", user_id, {"role": theirs.role, "reason": "removed"})
        _put_out(theirs, "removed")
        Membership.objects.filter(pk=theirs.pk).delete()
    removed = [str(theirs.brand_id), str(user_id), theirs.role, theirs.suspended_at is not None]
    return signing.dumps(removed, salt=SALT)


def removed_one(principal: Principal, removed: str) -> tuple[UUID, str, bool] | None:
    """Whom remove() put out, in which role, and whether they were suspended; None when that cannot be taken back."""
    try:
        brand_id, user_id, role, was_suspended = signing.loads(removed, salt=SALT, max_age=UNDO_FOR)
    except signing.BadSignature:
        return None
    return (UUID(user_id), role, was_suspended) if brand_id == str(principal.brand_id) else None


def restore(asked: Asked, removed: str) -> Membership:
    """Take remove() back, once: who is a member by then stays as they are. Raises Invalid when it is too late, AboveYou."""
    found = removed_one(asked.principal, removed)
    if found is None:
        raise Invalid(str(TOO_LATE))
    user_id, role, was_suspended = found
    with opening(SERVICE, key=asked.principal.brand_id):
        mine = acting(asked.principal)
        refuse_above(mine, role)
        if here := Membership.objects.filter(brand=mine.brand, user=user_id).first():
            return here
        user = User.objects.filter(pk=user_id).first()
        if user is None:
            raise Invalid(str(TOO_LATE))
        theirs = join(mine.brand, user, role)
        if was_suspended:
            Membership.objects.filter(pk=theirs.pk).update(suspended_at=clock.now())
            asked.publish("suspended", user_id, {"role": theirs.role})
        asked.record("member.restored", ("user", user_id), {"role": role})
        return theirs


def acting(principal: Principal) -> Membership:
    """Who asks, as they stand now: whoever was demoted since the page was opened does nothing more. Raises NotFound"""
    rows = Membership.objects.select_related("brand").filter(brand_id=principal.brand_id, suspended_at=None)
    mine = rows.filter(user_id=principal.owner_id, user__is_active=True).first()
    if mine is None or mine.role == Role.MEMBER:
        raise NotFound(_("The address is wrong, or what was here has been deleted."))
    return mine


def refuse_above(mine: Membership, role: str) -> None:
    """Nobody gives more than they have (A-13). Raises Invalid for a role that is not known, AboveYou."""
    if role not in RANK:
        raise Invalid(_("Choose one of the roles. Nothing was changed."))
    if RANK[role] > RANK[mine.role]:
        raise AboveYou


def _theirs(principal: Principal, user_id: UUID) -> Membership:
    rows = Membership.objects.select_related("brand", "user")
    theirs = rows.filter(brand_id=principal.brand_id, user_id=user_id).first()
    if theirs is None:
        raise NotFound(_("This person is not a member (any more)."))
    if RANK[theirs.role] > RANK[acting(principal).role]:
        raise AboveYou
    return theirs


def _another(principal: Principal, user_id: UUID) -> Membership:
    """Somebody to be put out, or let in again."""
    if user_id == principal.owner_id:
        raise Invalid(_("This is you: ask another admin to do that. Nothing was changed."))
    theirs = _theirs(principal, user_id)
    _keep_an_owner(theirs)
    return theirs


def _keep_an_owner(theirs: Membership) -> None:
    """Raises LastOwner when nobody else could act as one."""
    owners = Membership.objects.filter(brand=theirs.brand_id, role=Role.OWNER, suspended_at=None, user__is_active=True)
    if theirs.role == Role.OWNER and theirs.suspended_at is None and not owners.exclude(pk=theirs.pk).exists():
        raise LastOwner


def _put_out(theirs: Membership, how: str) -> None:
    """Tell them now, and end what renews when nobody can take it back any more."""
    _tell(theirs, how)
    ids = [str(theirs.brand_id), str(theirs.user_id)]
    on_commit(partial(member_left.apply_async, ids, countdown=int(UNDO_FOR.total_seconds()) + 60))


def _tell(theirs: Membership, what: str) -> None:
    title, message = TOLD[what]
    if not theirs.user.is_active:
        return
    with preferences.in_language_of(theirs.user_id):
        said = {"title": str(title), "message": message % {"brand": theirs.brand.name}, "path": "", "action_label": ""}
        mail.send(
            theirs.brand_id, theirs.user.email, "mail/notice", said, user_id=theirs.user_id, email_type="membership"
        )
