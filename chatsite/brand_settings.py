"""/manage/settings/: what a brand's admins decide for it. Every change stands in the brand's log, with what was before."""

from typing import Any

from django import forms
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _
from django.views.decorators.http import require_POST, require_safe

from accounts import brands
from accounts.access import BrandRequest, admin_goes_out
from accounts.models import Brand
from events import activity
from events.activity import changes
from lib.db import SERVICE, on_commit, scope
from lib.zones import ZONES
from providers.models import SystemPrompt
from providers.offers import offers

# By section of the page.
SECTIONS = (
    ("brand", _("Brand"), ("name", "zone")),
    ("look", _("Look"), ("hue", "chroma", "roundness")),
    (
        "people",
        _("Members and their chats"),
        ("open_sign_up", "shared_history", "sharing_on", "retention_days", "mail_tracking"),
    ),
    ("visitors", _("Visitors"), ("anonymous_allowance", "anonymous_per_network", "anonymous_per_day")),
)


class BrandSettingsForm(forms.ModelForm):
    zone = forms.ChoiceField(label=_("Time zone"), help_text=_("Where its days and months begin."))
    models = forms.MultipleChoiceField(required=False, label=_("Models on offer"))
    prompts = forms.MultipleChoiceField(required=False, label=_("Prompts on offer"))

    class Meta:
        model = Brand
        fields = [name for _code, _title, names in SECTIONS for name in names]
        labels = {
            "name": _("Name"),
            "hue": _("Colour"),
            "chroma": _("Strength of the colour"),
            "roundness": _("Roundness"),
            "open_sign_up": _("Anybody may sign up"),
            "shared_history": _("All members read all chats"),
            "sharing_on": _("Members may share a chat by a link"),
            "retention_days": _("Days that chats are kept"),
            "mail_tracking": _("Note which mails are opened"),
            "anonymous_allowance": _("Questions for one visitor"),
            "anonymous_per_network": _("Questions a day for one network"),
            "anonymous_per_day": _("Questions a day for all visitors"),
        }
        help_texts = {
            "hue": _(
                "Only the hue is yours to choose: what is light and what is dark follows, so that all of it is readable."
            ),
            "chroma": "",
            "roundness": "",
            "open_sign_up": _("Off: members join by invitation only."),
            "shared_history": _("Off: each member reads their own."),
            "sharing_on": _("Off: all links are closed at once."),
            "retention_days": _("Empty: as long as the plan says. The shorter of the two holds; pinned chats stay."),
            "mail_tracking": _(
                "And whose links are followed. Deliveries show it. Never of mails about signing in. Tell your members of it."
            ),
            "anonymous_allowance": _("In all, without an account. 0: nobody asks without one."),
            "anonymous_per_network": _("For all visitors of one network together."),
            "anonymous_per_day": _("For all visitors of this brand together."),
        }

    def __init__(self, *args: Any, prompts: list[SystemPrompt], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rows = prompts
        offered = [(str(row.id), row.name) for row in offers("chat", "embedding")]
        fields: dict[str, Any] = self.fields
        fields["zone"].choices = [(zone, zone.replace("_", " ")) for zone in ZONES]
        fields["models"].choices = offered
        fields["prompts"].choices = [(str(row.pk), row.name) for row in prompts]
        withheld = {str(row) for row in self.instance.withheld_models}
        self.initial["models"] = [code for code, _name in offered if code not in withheld]
        self.initial["prompts"] = [str(row.pk) for row in prompts if row.is_active]

    def clean_models(self) -> list[str]:
        chosen = self._chosen("models")
        chat = {str(row.id) for row in offers("chat")}
        if chat and not chat & set(chosen):
            raise forms.ValidationError(
                gettext("Offer one model for chats at least: without one nobody can ask anything.")
            )
        return chosen

    def clean_prompts(self) -> list[str]:
        return self._chosen("prompts")

    def _chosen(self, name: str) -> list[str]:
        """What stood on the page as it was ticked there; what was added since, as it is."""
        fields: dict[str, Any] = self.fields
        sent: Any = self.data
        ticked, shown, before = self.cleaned_data[name], sent.getlist("shown"), self.initial[name]
        return [code for code, _name in fields[name].choices if code in (ticked if code in shown else before)]


@admin_goes_out
@require_safe
def page(request: BrandRequest) -> HttpResponse:
    return _page(request, _form(request))


@admin_goes_out
@require_POST
def change(request: BrandRequest) -> HttpResponse:
    """Save all of it, or say what is wrong and save nothing."""
    form = _form(request, request.POST)
    if not form.is_valid():
        return _page(request, form)
    _store(request, form)
    messages.success(request, gettext("Saved. Every page of your brand follows within five seconds."))
    return HttpResponseRedirect(reverse("manage-settings"), status=303)


def _form(request: BrandRequest, sent: Any = None) -> BrandSettingsForm:
    """A brand's own row is the house's: its admins reach these columns of it, and no others."""
    with scope(SERVICE):
        brand = Brand.objects.get(pk=request.principal.brand_id)
        return BrandSettingsForm(sent, instance=brand, prompts=list(SystemPrompt.objects.filter(brand=brand)))


def _page(request: BrandRequest, form: BrandSettingsForm) -> HttpResponse:
    with scope(request.principal) as request.standing:
        sections = [
            {"code": code, "title": title, "fields": [form[name] for name in names]} for code, title, names in SECTIONS
        ]
        context = {"here": "manage-settings", "form": form, "sections": sections, "standing": request.standing}
        return render(request, "manage/settings.html", context, status=422 if form.errors else 200)


def _store(request: BrandRequest, form: BrandSettingsForm) -> None:
    before = Brand(**{name: form.initial[name] for name in BrandSettingsForm.Meta.fields})
    values = {name: form.cleaned_data[name] for name in BrandSettingsForm.Meta.fields}
    # Also those that nobody can be offered now: they come back as they went.
    known = dict.fromkeys([*form.instance.withheld_models, *(row.id for row in offers("chat", "embedding"))])
    withheld = [one for one in known if str(one) not in form.cleaned_data["models"]]
    on = set(form.cleaned_data["prompts"])
    with scope(SERVICE):
        brand_id = request.principal.brand_id
        Brand.objects.filter(pk=brand_id).update(**values, withheld_models=withheld)
        for row in form.rows:
            if row.is_active != (str(row.pk) in on):
                SystemPrompt.objects.filter(pk=row.pk, brand_id=brand_id).update(is_active=str(row.pk) in on)
        was = {name: getattr(before, name) for name in values if name in form.changed_data}
        told = changes.between(was, {name: values[name] for name in was})
        for name in ("models", "prompts"):
            if form.initial[name] != form.cleaned_data[name]:
                labels = dict(form.fields[name].choices)  # type: ignore[attr-defined]
                told[name] = [
                    ", ".join(labels[code] for code in form.initial[name]),
                    ", ".join(labels[code] for code in form.cleaned_data[name]),
                ]
        if told:
            activity.record(
                brand_id,
                "brand.changed",
                actor_id=request.principal.owner_id,
                resource=("brand", brand_id),
                changes=told,
            )
        on_commit(brands.forget)
