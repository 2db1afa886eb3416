"""/templates/ and /manage/templates/: people keep their own starters, a brand's admins those of the brand."""

from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.access import BrandRequest, brand_admin, brand_member
from conversations.chats import starters
from conversations.chats.starters import StarterForm
from events import activity
from lib.errors import DomainError, Invalid


class Deed(forms.Form):
    do = forms.ChoiceField(choices=[(name, name) for name in ("add", "save", "delete", "restore")])
    template = forms.UUIDField(required=False)


@brand_member
@require_safe
def choices(request: BrandRequest) -> HttpResponse:
    """What `/` in the composer lists."""
    names = ("id", "title", "text", "needs")
    found = starters.offered(request.principal)
    return JsonResponse({"templates": [{name: getattr(card, name) for name in names} for card in found]})


def _page(request: BrandRequest, form: StarterForm | None = None, refused: DomainError | None = None) -> HttpResponse:
    principal, is_brands = request.principal, request.principal.role == "app_brand"
    kept, edited = starters.kept(principal), _wanted(request, "edit")
    if form is None:
        row = next((row for row in kept if row.pk == edited), None)
        form = StarterForm(initial={"title": row.title, "text": row.text, "needs": row.needs} if row else None)
        edited = row.pk if row else None
    deleted = _wanted(request, "deleted")
    context: dict[str, Any] = {
        "brand": request.brand,
        "standing": request.standing,
        "here": "manage-templates" if is_brands else "templates",
        "is_brands": is_brands,
        "kept": kept,
        "of_brand": [] if is_brands else [card for card in starters.offered(principal) if not card.is_own],
        "form": form,
        "edited": edited,
        "deleted": starters.shelf(principal).filter(pk=deleted).exclude(deleted_at=None).first() if deleted else None,
        "error": refused.detail if refused else "",
        "action": reverse("conversations:change-brand-template" if is_brands else "conversations:change-template"),
    }
    return render(
        request, "manage/templates.html" if is_brands else "conversations/templates.html", context,
        status=refused.status if refused else 400 if form.errors else 200,
    )  # fmt: skip


def _wanted(request: BrandRequest, name: str) -> UUID | None:
    try:
        return UUID(request.POST.get("template", "") or request.GET.get(name, ""))
    except ValueError:
        return None


def _change(request: BrandRequest) -> HttpResponse:
    deed = Deed(request.POST)
    form = StarterForm(request.POST)
    try:
        if not deed.is_valid():
            raise Invalid(_("Choose a template from the list."))
        did, starter_id, query = deed.cleaned_data["do"], deed.cleaned_data["template"], ""
        if did in ("add", "save"):
            if not form.is_valid():
                return _page(request, form)
            if did == "add" or starter_id is None:
                starters.add(request.principal, **form.cleaned_data)
            else:
                starters.change(request.principal, starter_id, **form.cleaned_data)
        elif starter_id is None:
            raise Invalid(_("Choose a template from the list."))
        elif did == "delete":
            starters.delete(request.principal, starter_id)
            query = f"?deleted={starter_id}"
        else:
            starters.restore(request.principal, starter_id)
    except DomainError as refused:
        return _page(request, form, refused)
    page = "conversations:templates"
    if request.principal.role == "app_brand":
        page = "conversations:manage-templates"
        activity.record(
            request.principal.brand_id,
            "template.changed",
            actor_id=request.principal.owner_id,
            resource=("template", starter_id),
            changes={"did": did},
        )
    return HttpResponseRedirect(reverse(page) + query, status=303)


own, of_brand = brand_member(require_safe(_page)), brand_admin(require_safe(_page))
change_own, change_of_brand = brand_member(require_POST(_change)), brand_admin(require_POST(_change))
