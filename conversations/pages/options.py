"""What a member changes about a chat beside asking: its settings, and what it is about."""

from typing import Any
from uuid import UUID

from django import forms
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_POST

from accounts.access import BrandRequest, brand_member
from conversations.chats import reading
from conversations.engine import tuning
from conversations.engine.tuning import TuningForm
from lib.errors import DomainError, Invalid
from providers.offers import known, offer


class Deed(forms.Form):
    do = forms.ChoiceField(choices=[(name, name) for name in ("save", "reset", "forget-context")])
    provider = forms.UUIDField(required=False)


@brand_member
@require_POST
def change(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    """Store it for the questions to come. A refusal says why, and nothing is stored."""
    found = reading.conversation(request.principal, conversation_id)
    deed, form, error = Deed(request.POST), TuningForm(request.POST), ""
    did = deed.data.get("do")
    try:
        if not deed.is_valid():
            raise Invalid(str(next(iter(deed.errors.values()))[0]))
        if did == "forget-context":
            found = tuning.forget_context(request.principal, conversation_id)
        elif did == "reset":
            found = tuning.tune(request.principal, conversation_id, settings={}, system_prompt="")
        else:
            if not form.is_valid():
                raise Invalid(form.first_error)
            picked = deed.cleaned_data["provider"] or found.provider_id
            tuning.require((picked and known().get(picked)) or offer(None), form.settings())
            found = tuning.tune(
                request.principal,
                conversation_id,
                settings=form.settings(),
                system_prompt=form.cleaned_data["system_prompt"],
            )
    except DomainError as refused:
        error = refused.detail
    if "HX-Request" not in request.headers:
        if error:
            messages.error(request, error)
        return HttpResponseRedirect(reverse("conversations:detail", args=[conversation_id]), status=303)
    context: dict[str, Any] = {
        "conversation": found,
        "tuning": tuning.shown(found),
        "tuning_error": error,
        "about": tuning.about(found),
        "oob": True,
    }
    if error:
        context["tuning"] = tuning.sent(request.POST)
    return render(request, "conversations/_options.html", context, status=400 if error else 200)
