"""A brand's chats, read by others than who asked: by its admins, each reading with a line in the audit log, and by every
member where the brand shares its history. Nobody but who asked changes anything.
"""

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode
from uuid import UUID

from django import forms
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts.access import BrandRequest, admin_goes_out, brand_admin, brand_reader
from accounts.models import Brand, Profile, User
from conversations.chats import listing, reading, retention, stats
from conversations.chats.listing import Wanted
from conversations.models import Conversation
from events import activity
from lib.db import SERVICE, scope
from lib.errors import Invalid, NotFound


class Place(forms.Form):
    after = forms.CharField(max_length=1000, required=False)
    archived = forms.BooleanField(required=False)
    owner = forms.UUIDField(required=False)


@brand_admin
@require_safe
def overview(request: BrandRequest) -> HttpResponse:
    """The brand in numbers: S0 getConversationStats()."""
    context = {
        "brand": request.brand,
        "here": "manage",
        "standing": request.standing,
        "stats": stats.of_brand(request.principal),
    }
    return render(request, "manage/overview.html", context)


@admin_goes_out
@require_safe
def of_admin(request: BrandRequest) -> HttpResponse:
    context = _list(request)
    context["names"] = _names(request.brand, context["rows"], "email")
    return render(request, "manage/conversations.html", context | {"here": "manage-chats"})


@admin_goes_out
@require_safe
def chat_of_admin(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    context = _chat(request, conversation_id)
    context["names"] = _names(request.brand, [context["chat"]], "email")
    return render(request, "manage/conversation.html", context | {"here": "manage-chats"})


@brand_reader
@require_safe
def everybodys(request: BrandRequest) -> HttpResponse:
    context = _list(request)
    context["names"] = _names(request.brand, context["rows"], "full_name")
    return render(request, "conversations/everybodys.html", context)


@brand_reader
@require_safe
def everybodys_chat(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    context = _chat(request, conversation_id)
    context["names"] = _names(request.brand, [context["chat"]], "full_name")
    return render(request, "conversations/everybodys_chat.html", context)


def _list(request: BrandRequest) -> dict[str, Any]:
    place = Place(request.GET)
    if not place.is_valid():
        raise Invalid(_("This place in the list is not known. Begin at the first page."))
    given, brand_id = place.cleaned_data, request.principal.brand_id
    wanted = Wanted(show="archived" if given["archived"] else "active", after=given["after"])
    with scope(request.principal) as standing:
        chats = Conversation.objects.filter(retention.listed_to_others(brand_id), brand_id=brand_id)
        if given["owner"]:
            chats = chats.filter(owner_id=given["owner"])
        page = listing.page(chats, wanted)
        if request.principal.role == "app_brand":  # titles are content too
            _record(request, None, {"owner": str(given["owner"] or ""), "chats": len(page.rows)})
    kept = {
        name: str(value)
        for name, value in (("archived", given["archived"] and "1"), ("owner", given["owner"]))
        if value
    }
    return {
        "brand": request.brand,
        "standing": standing,
        "rows": page.rows,
        "asked": wanted,
        "owner": given["owner"],
        "first": urlencode(kept),
        "more": urlencode({**kept, "after": page.more}) if page.more else "",
    }


def _chat(request: BrandRequest, conversation_id: UUID) -> dict[str, Any]:
    principal = request.principal
    with scope(principal) as standing:
        kept = Conversation.objects.filter(retention.listed_to_others(principal.brand_id), deleted_at=None)
        found = kept.filter(brand_id=principal.brand_id, pk=conversation_id).first()
        if found is None:
            raise NotFound(_("This chat is not here (any more)."))
        is_admin = principal.role == "app_brand"
        if is_admin:
            _record(request, found.pk, {"owner": str(found.owner_id)})
        return {
            "brand": request.brand,
            "standing": standing,
            "chat": found,
            "messages": reading.messages(replace(principal, owner_id=found.owner_id), found.pk),
            "timings": stats.answers(found.pk) if is_admin else (),
        }


def _record(request: BrandRequest, conversation_id: UUID | None, changes: dict[str, Any]) -> None:
    activity.record(
        request.principal.brand_id,
        "conversation.read",
        actor_id=request.principal.owner_id,
        resource=("conversation", conversation_id),
        changes=changes,
    )


def _names(brand: Brand, chats: list[Conversation], field: str) -> dict[UUID, str]:
    """Who asked: admins see addresses, members the names that people gave themselves. No member's role reads people; the
    service does, and only those of this brand.
    """
    owners = {chat.owner_id for chat in chats}
    with scope(SERVICE):
        members = User.objects.filter(pk__in=owners, memberships__brand=brand)
        if field == "email":
            known = dict(members.values_list("pk", "email"))
        else:
            known = dict(Profile.objects.filter(user__in=members).values_list("user_id", "full_name"))
    return {
        chat.owner_id: known.get(chat.owner_id)
        or (_("a visitor") if chat.owner_kind == Conversation.OwnerKind.VISITOR else _("a member"))
        for chat in chats
    }
