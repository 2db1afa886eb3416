"""/manage/models/: the brand's admins see how its models do, put them in order, and say which one
answers when another cannot."""

from typing import Any
from uuid import UUID

from django import forms
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.access import BrandRequest, brand_admin
from conversations.engine import health
from events import activity
from lib.errors import DomainError, Invalid
from providers import fallback, order
from providers.offers import offers


class ChainForm(forms.Form):
    do = forms.ChoiceField(choices=[(name, name) for name in ("add", "up", "down", "remove")])
    provider = forms.UUIDField(required=False)


@brand_admin
@require_POST
def chain(request: BrandRequest) -> HttpResponse:
    """Change the chain, and show it. A change that comes too late changes nothing."""
    form = ChainForm(request.POST)
    try:
        if not form.is_valid():
            raise Invalid(_("Choose a model from the list."))
        if provider_id := form.cleaned_data["provider"]:
            _change(request, form.cleaned_data["do"], provider_id)
        elif form.cleaned_data["do"] == "add":
            raise Invalid(_("Choose a model from the list."))
    except DomainError as refused:
        return _page(request, refused)
    return HttpResponseRedirect(reverse("conversations:manage-models") + "#chain", status=303)


class PlaceForm(forms.Form):
    do = forms.ChoiceField(choices=[("up", "up"), ("down", "down")])
    provider = forms.UUIDField()


@brand_admin
@require_POST
def place(request: BrandRequest) -> HttpResponse:
    """Move a model up or down in the list that members pick from."""
    form = PlaceForm(request.POST)
    if not form.is_valid():
        return _page(request, Invalid(_("Choose a model from the list.")))
    by = -1 if form.cleaned_data["do"] == "up" else 1
    order.move(
        request.principal.brand_id,
        offers("chat", without=request.brand.withheld_models),
        form.cleaned_data["provider"],
        by,
    )
    _record(request, "order.changed", form.cleaned_data["provider"], {"did": form.cleaned_data["do"]})
    return HttpResponseRedirect(reverse("conversations:manage-models") + "#order", status=303)


def _change(request: BrandRequest, did: str, provider_id: UUID) -> None:
    brand_id = request.principal.brand_id
    before = _chain(brand_id)
    if did == "add":
        fallback.add(brand_id, provider_id)
    elif did == "remove":
        fallback.remove(brand_id, provider_id)
    else:
        fallback.move(brand_id, provider_id, -1 if did == "up" else 1)
    _record(request, "fallback.changed", provider_id, {"did": did, "chain": [before, _chain(brand_id)]})


def _chain(brand_id: UUID) -> list[str]:
    return [str(place.provider_id) for place in fallback.places(brand_id)]


def _record(request: BrandRequest, action: str, provider_id: UUID, changes: dict[str, Any]) -> None:
    activity.record(
        request.principal.brand_id,
        action,
        actor_id=request.principal.owner_id,
        resource=("provider", provider_id),
        changes=changes,
    )


def _page(request: BrandRequest, refused: DomainError | None = None) -> HttpResponse:
    chain = fallback.places(request.principal.brand_id)
    taken = {place.provider_id for place in chain}
    context = {
        "brand": request.brand,
        "here": "manage-models",
        "standing": request.standing,
        "order": order.in_order(request.principal.brand_id, offers("chat", without=request.brand.withheld_models)),
        "places": chain,
        "choices": [row for row in offers("chat", without=request.brand.withheld_models) if row.id not in taken],
        "is_full": len(chain) >= fallback.MOST,
        "error": refused.detail if refused else "",
        **health.context(request.GET.get("period", ""), brand_id=request.principal.brand_id),
    }
    return render(request, "manage/models.html", context, status=refused.status if refused else 200)


models = brand_admin(require_safe(_page))
