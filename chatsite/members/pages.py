"""/manage/members/: a brand's people and invitations for its admins; /join/<token>/: an invitation for who got it."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import BrandRequest, admin_goes_out, public
from accounts.models import Membership, User
from chatsite.members import inviting, listing, standing
from chatsite.members.standing import Asked, Role
from lib import clock
from lib.db import SERVICE, Principal, scope
from lib.errors import DomainError, Invalid, NotAuthenticated

ROLES = {
    Role.MEMBER: (gettext_lazy("Member"), gettext_lazy("chats, with a plan and a history of their own")),
    Role.ADMIN: (
        gettext_lazy("Admin"),
        gettext_lazy("sees the numbers, runs models and settings, invites, and reads chats on record"),
    ),
    Role.OWNER: (gettext_lazy("Owner"), gettext_lazy("everything, and decides about admins and owners")),
}
SHOWN = 100  # invitations
DEEDS = ("role", "suspend", "reinstate", "remove", "restore")


class Place(forms.Form):
    q = forms.CharField(max_length=254, required=False)
    after = forms.UUIDField(required=False)
    member = forms.UUIDField(required=False)
    removed = forms.CharField(max_length=1000, required=False)


class ChangeForm(forms.Form):
    do = forms.ChoiceField(choices=[(name, name) for name in DEEDS])
    member = forms.UUIDField(required=False)
    role = forms.CharField(max_length=10, required=False)
    removed = forms.CharField(max_length=1000, required=False)


class InviteForm(forms.Form):
    email = forms.EmailField(max_length=254)
    role = forms.ChoiceField(choices=[(role, role) for role in ROLES])


class InvitationForm(forms.Form):
    do = forms.ChoiceField(choices=[(name, name) for name in ("resend", "withdraw")])
    invitation = forms.UUIDField()


@admin_goes_out
@require_POST
def change(request: BrandRequest) -> HttpResponse:
    """Change one member, and show the list; a refusal is said on the page, and nothing was changed then."""
    form = ChangeForm(request.POST)
    query = ""
    try:
        if not form.is_valid() or not (form.cleaned_data["member"] or form.cleaned_data["do"] == "restore"):
            raise Invalid(_("Choose a member, and what to change. Nothing was changed."))
        given, asked = form.cleaned_data, _asked(request)
        match given["do"]:
            case "role":
                standing.change_role(asked, given["member"], given["role"])
                said = _("Saved. They were told by mail.")
            case "suspend":
                standing.suspend(asked, given["member"])
                said = _("Suspended. They were told by mail.")
            case "reinstate":
                standing.reinstate(asked, given["member"])
                said = _("They have access again, and were told by mail.")
            case "remove":
                query, said = f"?{urlencode({'removed': standing.remove(asked, given['member'])})}", ""
            case _restore:
                standing.restore(asked, given["removed"])
                said = _("Taken back: they are a member again, with everything they had.")
    except DomainError as refused:
        return _page(request, refused=refused)
    if said:
        messages.success(request, said)
    return HttpResponseRedirect(reverse("manage-members") + query, status=303)


@admin_goes_out
@require_POST
def invite(request: BrandRequest) -> HttpResponse:
    """Invite an address, or send or withdraw an invitation that is open."""
    asked = _asked(request)
    if request.POST.get("do") == "invite":
        form = InviteForm(request.POST)
        if not form.is_valid():
            return _page(request, form=form)
    else:
        form = None
    try:
        if form is not None:
            sent = inviting.invite(asked, request.brand, form.cleaned_data["email"], form.cleaned_data["role"])
            said = _("%(email)s is invited: the mail is on its way.") % {"email": sent.email}
        else:
            chosen = InvitationForm(request.POST)
            if not chosen.is_valid():
                raise Invalid(_("Choose an invitation from the list. Nothing was changed."))
            invitation_id = chosen.cleaned_data["invitation"]
            if chosen.cleaned_data["do"] == "resend":
                sent = inviting.resend(asked, request.brand, invitation_id)
                said = _("Sent to %(email)s again. The link of the mail before is dead.") % {"email": sent.email}
            else:
                gone = inviting.withdraw(asked, request.brand, invitation_id)
                said = _("Withdrawn: the link that %(email)s got is dead.") % {"email": gone.email}
    except DomainError as refused:
        return _page(request, form=form, refused=refused)
    messages.success(request, said)
    return HttpResponseRedirect(reverse("manage-members") + "#invitations", status=303)


@public("whoever has the link of an invitation: nobody can guess one")
@require_http_methods(["GET", "HEAD", "POST"])
def invited(request: BrandRequest, token: str) -> HttpResponse:
    """What the mail leads to. Reading it uses nothing up, because mail programs open links too; joining does."""
    token_hash, user = inviting.digest(token), _signed_in(request)
    with scope(SERVICE):
        invitation = inviting.find(request.brand, token_hash)
    context: dict[str, Any] = {"invitation": invitation, "role": ROLES[Role(invitation.role)] if invitation else None}
    if invitation is None:
        return render(request, "accounts/invited.html", context, status=404)
    if request.method == "POST":
        if user is None:
            raise NotAuthenticated(_("Sign in first, then join."))
        inviting.accept(request.brand, token_hash, user)
        request.session.pop(inviting.SESSION, None)
        return redirect("conversations:new")
    if user is None:
        request.session[inviting.SESSION] = token_hash
        context |= {
            "sign_up": f"{reverse('account_signup')}?{urlencode({'email': invitation.email})}",
            "sign_in": f"{reverse('account_login')}?{urlencode({'next': request.path})}",
        }
    else:
        context["is_theirs"] = inviting.is_for(invitation, user)
    return render(request, "accounts/invited.html", context)


def _signed_in(request: BrandRequest) -> User | None:
    return User.objects.get(pk=request.user.pk) if request.user.is_authenticated else None


def _asked(request: BrandRequest) -> Asked:
    return Asked(request.principal, request.META.get("REMOTE_ADDR"), request.headers.get("User-Agent", ""))


def _page(request: BrandRequest, *, form: InviteForm | None = None, refused: DomainError | None = None) -> HttpResponse:
    place = Place(request.GET if request.method != "POST" else {"member": request.POST.get("member", "")})
    if not place.is_valid():
        raise Invalid(_("This place in the list is not known. Begin at the first page."))
    given, principal, brand = place.cleaned_data, request.principal, request.brand
    with scope(SERVICE):  # with the addresses of who invited
        invitations = list(inviting.open_ones(brand)[:SHOWN])
    with scope(principal) as request.standing:
        pass
    people = listing.page(principal, brand, wanted=given["q"], after=given["after"])
    may_give = standing.grantable(request.standing)
    context: dict[str, Any] = {
        "brand": brand,
        "here": "manage-members",
        "standing": request.standing,
        "people": people,
        "wanted": given["q"],
        "is_first": not (given["after"] or given["q"]),
        "more": urlencode({"after": people.more}) if people.more else "",
        "chosen": listing.one(principal, brand, given["member"]) if given["member"] else None,
        "removed": _removed(principal, given["removed"]),
        "invitations": [(row, row.expires_at <= clock.now()) for row in invitations],
        "roles": [(role, *ROLES[Role(role)]) for role in may_give],
        "role_names": {role: name for role, (name, _means) in ROLES.items()},
        "form": form or InviteForm(initial={"role": Role.MEMBER}),
        "error": refused.detail if refused else "",
    }
    status = refused.status if refused else 422 if form is not None and form.errors else 200
    return render(request, "manage/members.html", context, status=status)


page = admin_goes_out(require_safe(_page))


def _removed(principal: Principal, text: str) -> dict[str, str] | None:
    """Who was just put out, while that can be taken back."""
    found = standing.removed_one(principal, text) if text else None
    if found is None:
        return None
    with scope(SERVICE):
        if Membership.objects.filter(brand_id=principal.brand_id, user_id=found[0]).exists():
            return None
        return {"email": User.objects.values_list("email", flat=True).get(pk=found[0]), "token": text}
