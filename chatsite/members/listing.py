"""A brand's people for its admins: who runs it, and its members, the newest first."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db.models import Case, Count, When

from accounts.models import Brand, Membership, Profile, User
from chatsite.members.standing import RANK, grantable
from lib import clock
from lib.db import SERVICE, Principal, scope
from lib.windows import WindowKind, window
from quotas.models import Account, UsageLog

PAGE = 50
MOST_FOUND = 200  # by a word of their address
Role = Membership.Role
BY_RANK = Case(When(role=Role.OWNER, then=0), When(role=Role.ADMIN, then=1), default=2)


@dataclass(frozen=True, slots=True)
class Person:
    user_id: UUID
    email: str
    name: str
    role: str
    joined_at: datetime
    suspended_at: datetime | None
    plan: str
    answers: int  # this month
    is_you: bool
    can_change: bool


@dataclass(frozen=True, slots=True)
class People:
    """`team` runs the brand; it is shown on the first page alone. `more` continues the members; "" = that was all."""

    team: list[Person]
    members: list[Person]
    more: str


def page(principal: Principal, brand: Brand, *, wanted: str = "", after: UUID | None = None) -> People:
    """With no scope open. `wanted` is a part of an address, and finds people of every role."""
    with scope(SERVICE):  # no role of a brand's reads people; only those of this brand are looked for
        found = User.objects.filter(memberships__brand=brand, email__icontains=wanted) if wanted else None
        ids = list(found.order_by("email").values_list("pk", flat=True)[:MOST_FOUND]) if found is not None else None
    with scope(principal) as standing:
        rows = Membership.objects.filter(brand_id=principal.brand_id)
        if ids is not None:
            team, members = list(rows.filter(user_id__in=ids).order_by(BY_RANK, "-id")), []
            more = ""
        else:
            team = [] if after else list(rows.exclude(role=Role.MEMBER).order_by(BY_RANK, "id"))
            newest = rows.filter(role=Role.MEMBER).order_by("-id")
            members = list((newest.filter(pk__lt=after) if after else newest)[: PAGE + 1])
            more = str(members[PAGE - 1].pk) if len(members) > PAGE else ""
            members = members[:PAGE]
    about = _about(brand, [row.user_id for row in (*team, *members)])
    people = [_person(row, about, principal, standing) for row in (*team, *members)]
    return People(people[: len(team)], people[len(team) :], more)


def one(principal: Principal, brand: Brand, user_id: UUID) -> Person | None:
    """One of them, to be changed. With no scope open."""
    with scope(principal) as standing:
        row = Membership.objects.filter(brand_id=principal.brand_id, user_id=user_id).first()
    return _person(row, _about(brand, [user_id]), principal, standing) if row else None


def _about(brand: Brand, ids: list[UUID]) -> dict[UUID, dict[str, Any]]:
    month = window(WindowKind.MONTH, clock.now(), zone=brand.zone)
    with scope(SERVICE):
        about: dict[UUID, dict[str, Any]] = {user.pk: {"email": user.email} for user in User.objects.filter(pk__in=ids)}
        names = Profile.objects.filter(user_id__in=ids).values_list("user_id", "full_name")
        plans = Account.objects.filter(brand=brand, kind=Account.Kind.USER, owner_id__in=ids)
        used = UsageLog.objects.filter(brand=brand, owner_id__in=ids, created_at__gte=month.opens_at)
        answers = used.exclude(usage_type=UsageLog.Type.CONVERSATION).values("owner_id").annotate(count=Count("pk"))
        for field, pairs in (
            ("name", names),
            ("plan", plans.values_list("owner_id", "plan_name")),
            ("answers", answers.values_list("owner_id", "count")),
        ):
            for user_id, value in pairs:
                about.get(user_id, {})[field] = value
    return about


def _person(row: Membership, about: dict[UUID, dict[str, Any]], principal: Principal, standing: str) -> Person:
    told = about.get(row.user_id, {})
    return Person(
        user_id=row.user_id,
        email=told.get("email", ""),
        name=told.get("name", ""),
        role=row.role,
        joined_at=row.created_at,
        suspended_at=row.suspended_at,
        plan=told.get("plan", ""),
        answers=told.get("answers", 0),
        is_you=row.user_id == principal.owner_id,
        can_change=RANK[row.role] <= RANK[standing] and bool(grantable(standing)),
    )
