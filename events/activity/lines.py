"""Reading the audit log: the lines of a brand that somebody looks for, and what each of them says in words."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Q, QuerySet, TextField
from django.db.models.functions import Cast
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts.models import User
from events.activity.changes import HIDDEN
from events.models import Activity, ActivityOrigin
from lib.db import SERVICE, scope
from lib.ids import first_at

ON_PAGE = 50
MOST_PEOPLE = 50  # whose lines are looked for at once
MOST_OWN = 10

Kind = Activity.ActorKind

# What a person's own account went through. They read these of themselves.
SECURITY = {
    "session.started": gettext_lazy("Signed in"),
    "session.refused": gettext_lazy("A sign-in failed"),
    "session.ended": gettext_lazy("Signed out"),
    "password.changed": gettext_lazy("Password changed"),
    "password.reset": gettext_lazy("Password set anew by mail"),
    "email.changed": gettext_lazy("E-mail address changed"),
    "second_factor.added": gettext_lazy("Second step switched on"),
    "second_factor.removed": gettext_lazy("Second step switched off"),
    "second_factor.renewed": gettext_lazy("New recovery codes made"),
    "account_elsewhere.added": gettext_lazy("Account elsewhere connected"),
    "account_elsewhere.removed": gettext_lazy("Account elsewhere disconnected"),
    "own_key.changed": gettext_lazy("Own key of a vendor changed"),
    "key.created": gettext_lazy("API key made"),
    "key.changed": gettext_lazy("API key changed"),
    "key.rotated": gettext_lazy("API key renewed"),
    "key.revoked": gettext_lazy("API key revoked"),
}
ACTIONS = SECURITY | {
    "activity.exported": gettext_lazy("Activity log exported"),
    "apikey.changed": gettext_lazy("API key changed"),
    "bucket.topped_up": gettext_lazy("Limit of the brand raised"),
    "brand.added": gettext_lazy("Brand made"),
    "brand.changed": gettext_lazy("Settings of the brand changed"),
    "catalogue.given": gettext_lazy("Catalogue of plans given"),
    "chats.exported": gettext_lazy("Chats exported"),
    "chats.imported": gettext_lazy("Chats imported"),
    "conversation.read": gettext_lazy("Chats of members read"),
    "data.exported": gettext_lazy("All own data exported"),
    "fallback.changed": gettext_lazy("Chain of models changed"),
    "invitation.sent": gettext_lazy("Invitation sent"),
    "invitation.withdrawn": gettext_lazy("Invitation withdrawn"),
    "mail.sent_again": gettext_lazy("Mail sent again"),
    "member.joined": gettext_lazy("Joined as a member"),
    "member.reinstated": gettext_lazy("Member let back in"),
    "member.removed": gettext_lazy("Member removed"),
    "member.restored": gettext_lazy("Removed member taken back"),
    "member.role_changed": gettext_lazy("Role of a member changed"),
    "member.suspended": gettext_lazy("Member suspended"),
    "membership.added": gettext_lazy("Member added by our staff"),
    "membership.changed": gettext_lazy("Role of a member changed by our staff"),
    "membership.deleted": gettext_lazy("Member removed by our staff"),
    "order.changed": gettext_lazy("Order of models changed"),
    "overage.changed": gettext_lazy("Charging beyond the plan changed"),
    "payment.refunded": gettext_lazy("Payment given back"),
    "person.erased": gettext_lazy("Account deleted for good"),
    "plan.assigned": gettext_lazy("Plan given"),
    "share.made": gettext_lazy("Chat shared by a link"),
    "share.revoked": gettext_lazy("Shared link closed"),
    "support.read": gettext_lazy("Content read by our staff, under a grant"),
    "supportgrant.added": gettext_lazy("Leave for our staff to read content given"),
    "supportgrant.changed": gettext_lazy("Leave for our staff to read content ended"),
    "template.changed": gettext_lazy("Templates of the brand changed"),
    "user.changed": gettext_lazy("Account of a member changed"),
    "webhook.created": gettext_lazy("Webhook made"),
    "webhook.changed": gettext_lazy("Webhook changed"),
    "webhook.switched_on": gettext_lazy("Webhook switched on"),
    "webhook.switched_off": gettext_lazy("Webhook switched off"),
    "webhook.secret_rotated": gettext_lazy("New signing secret of a webhook made"),
    "webhook.sent_again": gettext_lazy("Deliveries of a webhook sent again"),
    "webhook.deleted": gettext_lazy("Webhook deleted"),
}


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which lines. `since` and `until` are moments, the last one exclusive; `after` is the last line of the page before."""

    people: tuple[UUID, ...] | None = None  # None: everybody
    action: str = ""  # or how it begins: key.
    resource: str = ""  # its kind, or its id
    words: str = ""
    since: datetime | None = None
    until: datetime | None = None
    after: UUID | None = None


@dataclass(frozen=True, slots=True)
class Page:
    rows: list[Activity]
    more: UUID | None  # what the next page begins after


def page(brand_id: UUID, wanted: Wanted, *, most: int = ON_PAGE) -> Page:
    """The newest first. In a scope that may read the brand's log. One query."""
    found = list(_matching(brand_id, wanted).order_by("-id")[: most + 1])
    rows = found[:most]
    return Page(rows, rows[-1].pk if len(found) > most else None)


def _matching(brand_id: UUID, wanted: Wanted) -> QuerySet[Activity]:
    rows = Activity.objects.filter(brand_id=brand_id)
    if wanted.people is not None:
        rows = rows.filter(Q(actor__in=wanted.people) | Q(resource_type="user", resource_id__in=wanted.people))
    if wanted.action:
        rows = rows.filter(action__startswith=wanted.action)
    if wanted.resource:
        row_id = as_id(wanted.resource)
        rows = rows.filter(resource_id=row_id) if row_id else rows.filter(resource_type__iexact=wanted.resource)
    if wanted.words:
        rows = rows.annotate(text=Cast("changes", TextField()))
        rows = rows.filter(
            Q(description__icontains=wanted.words) | Q(action__icontains=wanted.words) | Q(text__icontains=wanted.words)
        )
    if wanted.since:
        rows = rows.filter(pk__gte=first_at(wanted.since))
    if wanted.until:
        rows = rows.filter(pk__lt=first_at(wanted.until))
    return rows.filter(pk__lt=wanted.after) if wanted.after else rows


def as_id(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None


def people_called(brand_id: UUID, given: str) -> tuple[UUID, ...]:
    """Members of the brand by id, or by how their address begins. Outside of any scope: no member's role reads people."""
    known = as_id(given)
    if known:
        return (known,)
    with scope(SERVICE):
        found = User.objects.filter(memberships__brand=brand_id, email__istartswith=given).values_list("pk", flat=True)
        return tuple(found[:MOST_PEOPLE])


def names(brand_id: UUID, rows: Iterable[Activity]) -> dict[UUID, str]:
    """Addresses of the members that lines are about, by id. Outside of any scope. Who is gone has no name."""
    ids = {row.actor_id for row in rows if row.actor_id}
    ids |= {row.resource_id for row in rows if row.resource_type == "user" and row.resource_id}
    with scope(SERVICE):
        return dict(User.objects.filter(pk__in=ids, memberships__brand=brand_id).values_list("pk", "email"))


def origins(rows: Iterable[Activity]) -> dict[UUID, ActivityOrigin]:
    """Where they were asked from, by the line's id, in the scope that read the lines."""
    return ActivityOrigin.objects.in_bulk([row.pk for row in rows])


def own(user_id: UUID) -> list[tuple[Activity, ActivityOrigin | None]]:
    """What a person's account went through lately, on every brand. Outside of any scope."""
    with scope(SERVICE):
        mine = Activity.objects.filter(Q(actor=user_id) | Q(resource_type="user", resource_id=user_id))
        mine = mine.filter(action__in=SECURITY)
        rows = list(mine.order_by("-id")[:MOST_OWN])
        asked = origins(rows)
    return [(row, asked.get(row.pk)) for row in rows]


# In words


@dataclass(frozen=True, slots=True)
class Told:
    """One value of a line. `before` is empty for what is no change, but belongs to the line."""

    name: str
    before: str
    after: str
    is_change: bool


def told(line: Activity) -> list[Told]:
    """A list of two is what was before and after; everything else is said as it is."""
    return [
        Told(name, _plain(value[0]), _plain(value[1]), True)
        if isinstance(value, list) and len(value) == 2
        else Told(name, "", _plain(value), False)
        for name, value in line.changes.items()
    ]


def _plain(value: Any) -> str:
    if value is None or value == "":
        return "–"
    if value == HIDDEN:
        return _("not shown")
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    if isinstance(value, list) and all(isinstance(one, str) for one in value):
        return ", ".join(value) or "–"
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def what(line: Activity) -> str:
    """What was done. Staff's pages write lines for every kind of row; those without a sentence here have a plain one."""
    if sentence := ACTIONS.get(line.action):
        return str(sentence)
    thing, _dot, did = line.action.rpartition(".")
    match did:
        case "added":
            return _("Added: %(thing)s") % {"thing": thing}
        case "changed":
            return _("Changed: %(thing)s") % {"thing": thing}
        case "deleted":
            return _("Deleted: %(thing)s") % {"thing": thing}
    return line.action


def who(line: Activity, known: dict[UUID, str]) -> str:
    """Who did it, as far as this brand may know: our staff have no names here."""
    match line.actor_kind:
        case Kind.STAFF:
            return _("Our staff")
        case Kind.SYSTEM:
            return _("The system")
        case Kind.NOBODY:
            return _("Somebody unknown")
    name = known.get(line.actor_id) if line.actor_id else None
    name = name or _("somebody who is no member any more")
    return _("%(name)s, by an API key") % {"name": name} if line.actor_kind == Kind.KEY else name
