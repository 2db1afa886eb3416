"""How somebody becomes a member of a brand: membership and plan together, so that nobody is ever half a member."""

from django.http import HttpResponse
from django.shortcuts import redirect
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST

from accounts.access import BrandRequest, declare
from accounts.models import Brand, Membership, User
from billing.plans import assign_default_plan
from events import activity, stream
from lib.db import SERVICE, scope
from lib.errors import Forbidden, NotAuthenticated


def join(brand: Brand, user: User, role: str = Membership.Role.MEMBER) -> Membership:
    """Make a person a member with the brand's default plan; a member already stays as is. In the service scope."""
    return _joined(brand, user, role)[0]


def _joined(brand: Brand, user: User, role: str) -> tuple[Membership, bool]:
    with scope(SERVICE):
        membership, is_new = Membership.objects.get_or_create(brand=brand, user=user, defaults={"role": role})
        if is_new:
            assign_default_plan(brand, user.pk)
            stream.publish(brand.pk, "member.joined", subject=("user", user.pk), owner_id=user.pk)
        return membership, is_new


def join_oneself(brand: Brand, user: User, role: str = Membership.Role.MEMBER) -> Membership:
    """join(), of the person's own accord, which the brand's log says: once, however often they ask for it."""
    with scope(SERVICE):
        membership, is_new = _joined(brand, user, role)
        if is_new:
            told = {"role": [None, membership.role]}
            activity.record(brand.pk, "member.joined", actor_id=user.pk, resource=("user", user.pk), changes=told)
        return membership


@require_POST
def join_view(request: BrandRequest) -> HttpResponse:
    """Somebody who has an account on another brand joins this one."""
    if not request.user.is_authenticated:
        raise NotAuthenticated(_("Sign in first, then join."))
    if not request.brand.open_sign_up:
        raise Forbidden(_("This brand is by invitation only. Ask its admin for one."))
    user = User.objects.get(pk=request.user.pk)
    join_oneself(request.brand, user)
    return redirect("conversations:new")  # which leads on to what they did as a visitor


declare(join_view, "account")
