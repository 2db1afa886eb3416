"""/settings/api-keys/ for a member's own keys, /manage/api-keys/ for all of a brand. A key's text is shown once, where it was
made, and is in no session, row or log.
"""

from dataclasses import dataclass
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST, require_safe

from accounts import confirming, keys, limits, preferences
from accounts.access import BrandRequest, admin_goes_out, member_goes_out
from accounts.models import ApiKey, Membership
from chatsite.api_keys import deeds
from lib import clock
from lib.db import SERVICE, scope
from lib.errors import DomainError, Invalid

DAYS = [("30", gettext_lazy("30 days")), ("90", gettext_lazy("90 days")), ("365", gettext_lazy("a year"))]
FOR_GOOD = ("", gettext_lazy("no end, until it is revoked"))
OVERLAPS = [
    ("day", gettext_lazy("for a day")),
    ("hour", gettext_lazy("for an hour")),
    ("week", gettext_lazy("for a week")),
    ("now", gettext_lazy("no longer: it stops now")),
]


class NewKeyForm(forms.Form):
    """`once` is the id of the row to be: a form that is sent twice makes one key."""

    once = forms.UUIDField(widget=forms.HiddenInput)
    name = forms.CharField(max_length=80)
    scopes = forms.MultipleChoiceField()
    days = forms.ChoiceField(choices=[*DAYS, FOR_GOOD], required=False, initial="90")
    per_minute = forms.IntegerField(min_value=1, max_value=keys.MOST_PER_MINUTE, initial=60)
    per_day = forms.IntegerField(min_value=1, max_value=keys.MOST_PER_DAY, initial=10_000)

    def __init__(self, *args: Any, standing: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        fields: dict[str, Any] = self.fields
        fields["scopes"].choices = list(keys.scopes_of(standing).items())
        fields["scopes"].error_messages["required"] = _("Choose what the key may do: one thing at least.")
        fields["name"].error_messages["required"] = _("Give the key a name: it says later what may be revoked.")


@dataclass(frozen=True, slots=True)
class Row:
    """One key as a page shows it."""

    key: ApiKey
    works: bool
    state: str  # works, ending (it expires within a week), expired, revoked
    scopes: list[tuple[str, Any, bool]]  # name, words, whether it counts
    today: int | None  # calls; None: nobody knows now
    who: str


def _change(request: BrandRequest) -> HttpResponse:
    """Make, renew or revoke a key. What is refused is said on the page, which has what was typed."""
    did = request.POST.get("do", "")
    if did == "revoke":
        with scope(request.principal):
            key = deeds.found(request.principal, _id(request, "key"))
        with scope(SERVICE):
            deeds.revoke(request.principal, key)
        messages.success(request, _("“%(name)s” is revoked. Nothing is answered to it any more.") % {"name": key.name})
        return HttpResponseRedirect(_here(request), status=303)
    confirming.require(request)
    form: NewKeyForm | None = None
    made: tuple[ApiKey, str] | None = None
    try:
        with scope(request.principal) as standing:
            if did == "rotate":
                overlap = request.POST.get("overlap", "")
                if overlap not in keys.OVERLAPS:
                    raise Invalid(_("Say how long the old key works yet."))
                made = deeds.rotate(request, _id(request, "key"), overlap, new_id=_id(request, "once"))
            elif did == "make":
                form = NewKeyForm(request.POST, standing=standing)
                made = _made(request, form) if form.is_valid() else None
            else:
                raise Invalid(_("A key is made, renewed or revoked."))
    except DomainError as refused:
        return _page(request, form=form, refused=refused)
    return _page(request, form=form if made is None else None, made=made)


def _made(request: BrandRequest, form: NewKeyForm) -> tuple[ApiKey, str]:
    told = form.cleaned_data
    return deeds.make(
        request,
        name=told["name"],
        scopes=told["scopes"],
        days=int(told["days"]) if told["days"] else None,
        is_brands=_is_brands(request),
        per_minute=told["per_minute"],
        per_day=told["per_day"],
        key_id=told["once"],
    )


def _id(request: BrandRequest, name: str) -> UUID:
    try:
        return UUID(request.POST.get(name, ""))
    except ValueError as error:
        raise Invalid(_("This key is not known. Load the page again.")) from error


def _page(
    request: BrandRequest,
    *,
    form: NewKeyForm | None = None,
    refused: DomainError | None = None,
    made: tuple[ApiKey, str] | None = None,
) -> HttpResponse:
    with scope(request.principal) as request.standing:
        rows = deeds.listed(request.principal)
    who = _addresses(request, rows)
    today = limits.calls_today((key.family_id or key.pk, key.brand.zone) for key in rows)
    with scope(request.principal) as request.standing:
        context: dict[str, Any] = {
            "brand": request.brand,
            "standing": request.standing,
            "here": "manage-api-keys" if _is_brands(request) else "api-keys",
            "is_brands": _is_brands(request),
            "change": _here(request, change=True),
            "zone": preferences.zone(request),
            "rows": [_row(key, who, today) for key in rows],
            "form": form or NewKeyForm(standing=request.standing, initial={"once": uuid4(), "scopes": ["chat"]}),
            "once": uuid4(),
            "overlaps": OVERLAPS,
            "refused": refused.detail if refused else "",
            "made": {"key": made[0], "text": made[1]} if made else None,
            "address": f"{request.scheme}://{request.get_host()}/v1",
        }
        template = "manage/api_keys.html" if _is_brands(request) else "settings/api_keys.html"
        is_wrong = refused or (form and form.errors)
        return render(request, template, context, status=(refused.status if refused else 422) if is_wrong else 200)


def _row(key: ApiKey, who: dict[UUID, tuple[str, str]], today: dict[UUID, int] | None) -> Row:
    works = keys.is_in_force(key)
    email, standing = who.get(key.user_id, ("", ""))
    counts = keys.scopes_of(standing)
    words = {**keys.SCOPES, **keys.BRAND_SCOPES}
    state = "works" if works else "expired" if key.is_active else "revoked"
    if works and key.expires_at and (key.expires_at - clock.now()).days < 7:
        state = "ending"
    return Row(
        key=key,
        works=works,
        state=state,
        scopes=[(name, words.get(name, name), name in counts) for name in key.scopes],
        today=None if today is None else today.get(key.family_id or key.pk, 0),
        who=email or _("somebody who left"),
    )


def _addresses(request: BrandRequest, rows: list[ApiKey]) -> dict[UUID, tuple[str, str]]:
    """Each person's address and standing. No role of people reads people; the service does, and only those of this brand."""
    ids = {key.user_id for key in rows}
    with scope(SERVICE):
        members = Membership.objects.filter(brand_id=request.principal.brand_id, user_id__in=ids, user__is_active=True)
        return {pk: (email, role) for pk, email, role in members.values_list("user_id", "user__email", "role")}


def _is_brands(request: BrandRequest) -> bool:
    return request.principal.role == "app_brand"


def _here(request: BrandRequest, *, change: bool = False) -> str:
    names = ("change-brand-api-key", "manage-api-keys") if _is_brands(request) else ("change-api-key", "api-keys")
    return reverse(names[0] if change else names[1])


own, of_brand = member_goes_out(require_safe(_page)), admin_goes_out(require_safe(_page))
change_own, change_of_brand = member_goes_out(require_POST(_change)), admin_goes_out(require_POST(_change))
