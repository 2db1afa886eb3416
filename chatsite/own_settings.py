"""/settings/: what a person tells of themselves, and how they want the product. Each field is saved by itself."""

import re
from typing import Any, cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.forms.models import modelform_factory
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST, require_safe

from accounts import preferences
from accounts.access import BrandRequest, member_goes_out
from accounts.models import Profile, User
from chatsite import sign_in_ways
from events import choices
from events.delivery import blocked
from lib.db import Principal, scope
from lib.errors import Invalid
from lib.zones import ZONES

PHONE = re.compile(r"[+]?[\d\s()./-]{4,40}")
LABELS = {
    "full_name": _("Your name"),
    "company_name": _("Company"),
    "phone": _("Phone"),
    "language": _("Language"),
    "zone": _("Time zone"),
    "theme": _("Colours"),
    "enter_sends": _("Enter sends the message"),
    "shortcuts_on": _("Single keys are shortcuts"),
    "announce": _("When an answer is there, a screen reader says"),
}
HELP = {
    "full_name": _("Shown to you, and to the admins of this brand."),
    "phone": _("For the people who support you. Nobody calls without a reason."),
    "zone": _("For the dates you read. When a limit starts anew is decided by the zone of the brand."),
    "enter_sends": _("Off: Enter begins a new line, and Ctrl or ⌘ with Enter sends."),
    "shortcuts_on": _("N for a new chat, J and K from message to message; the list opens with the question mark."),
}
CHOICES = {
    "theme": [("light", _("Light")), ("dark", _("Dark")), ("", _("As the system"))],
    "announce": [
        ("full", _("the whole answer")),
        ("first", _("its first sentence")),
        ("end", _("only that it is done")),
    ],
}


class OneField(forms.ModelForm):
    def clean_phone(self) -> str:
        phone: str = self.cleaned_data["phone"].strip()
        if phone and not PHONE.fullmatch(phone):
            raise forms.ValidationError(gettext("Write it in digits, with + and the country first: +49 30 1234567."))
        return phone

    def clean_language(self) -> str:
        language: str = self.cleaned_data["language"]
        if language and language not in dict(settings.LANGUAGES):
            raise forms.ValidationError(gettext("We do not have this language. Choose one of the list."))
        return language


@member_goes_out
@require_POST
def change(request: BrandRequest) -> HttpResponse:
    """Save one field. What cannot be saved is said beside it, and stands there as it was typed."""
    name = request.POST.get("field", "")
    if name not in LABELS:
        raise Invalid(gettext("There is no such setting."))
    with scope(request.principal) as request.standing:
        profile = _profile(request.principal)
        form = modelform_factory(Profile, form=OneField, fields=[name])(request.POST, instance=profile)
        if is_saved := form.is_valid():
            Profile.objects.filter(pk=profile.pk).update(**{name: form.cleaned_data[name]})
            profile = _profile(request.principal)
    error = "" if is_saved else " ".join(map(str, form.errors.get(name, [])))
    if "HX-Request" in request.headers:
        context = {"error": error, "said": f"said-{name}"}
        response = render(request, "settings/_said.html", context, status=200 if is_saved else 422)
    elif is_saved:
        messages.success(request, gettext("Saved"))
        response = HttpResponseRedirect(f"{reverse('settings')}#{name}", status=303)
    else:
        response = _page(request, refused=(name, request.POST.get(name, ""), error))
    if is_saved:
        preferences.mirror(response, preferences.of_profile(profile))
    return response


@member_goes_out
@require_POST
def notify(request: BrandRequest) -> HttpResponse:
    """Save by which ways one kind of notice comes."""
    with scope(request.principal):
        kind, mail = request.POST.get("kind", ""), request.POST.get("mail", choices.AT_ONCE)
        if kind not in choices.KINDS or mail not in choices.BY_MAIL:
            raise Invalid(gettext("There is no such kind of notice."))
        choices.choose(request.principal, kind, in_app="in_app" in request.POST, mail=mail)
    if "HX-Request" in request.headers:
        return render(request, "settings/_said.html", {"error": "", "said": f"said-{kind}"})
    messages.success(request, gettext("Saved"))
    return HttpResponseRedirect(f"{reverse('settings')}#notices", status=303)


@member_goes_out
@require_POST
def try_address_again(request: BrandRequest) -> HttpResponse:
    """Somebody says that mails arrive at their address again."""
    try:
        blocked.lift_own(cast(User, request.user))
    except blocked.TooSoon as refused:
        messages.error(request, refused.detail)
    else:
        messages.success(request, gettext("We send you mails again."))
    return HttpResponseRedirect(f"{reverse('settings')}#notices", status=303)


def _profile(principal: Principal) -> Profile:
    profile, _is_new = Profile.objects.get_or_create(user_id=principal.owner_id)
    return profile


def _page(request: BrandRequest, refused: tuple[str, str, str] | None = None) -> HttpResponse:
    stopped = blocked.of(cast(User, request.user).email)
    ways = sign_in_ways.of(request)  # at the door: nobody inside a scope sees a session
    with scope(request.principal) as request.standing:
        profile = _profile(request.principal)
        context: dict[str, Any] = {
            "here": "settings",
            "profile": profile,
            "zone": preferences.of_profile(profile).zone or request.brand.zone,
            "fields": {name: _field(name, profile, request, refused) for name in LABELS},
            "refused": {"name": refused[0], "label": LABELS[refused[0]], "error": refused[2]} if refused else None,
            "kinds": choices.matrix(request.principal, runs_the_brand=request.standing in ("owner", "admin")),
            "by_mail": choices.BY_MAIL.items(),
            "blocked": blocked.WHY[stopped.reason] if stopped else "",
            **ways,
        }
        return render(request, "settings/settings.html", context, status=422 if refused else 200)


page = member_goes_out(require_safe(_page))


def _field(name: str, profile: Profile, request: BrandRequest, refused: tuple[str, str, str] | None) -> dict[str, Any]:
    is_refused = refused is not None and refused[0] == name
    choices: list[tuple[str, Any]] = [*CHOICES.get(name, [])]
    if name == "language":
        choices = [("", _("As the browser asks")), *settings.LANGUAGES]
    elif name == "zone":
        default = _("%(brand)s’s own: %(zone)s") % {"brand": request.brand.name, "zone": request.brand.zone}
        choices = [("", default), *((zone, zone.replace("_", " ")) for zone in ZONES)]
    column = Profile._meta.get_field(name)
    return {
        "name": name,
        "label": LABELS[name],
        "help": HELP.get(name, ""),
        "value": refused[1] if refused and is_refused else getattr(profile, name),
        "error": refused[2] if refused and is_refused else "",
        "choices": choices,
        "is_switch": isinstance(getattr(profile, name), bool),
        "max_length": getattr(column, "max_length", None),
        "autocomplete": {"full_name": "name", "company_name": "organization", "phone": "tel"}.get(name, "off"),
        "can_reset": name == "zone" and bool(profile.zone),
    }
