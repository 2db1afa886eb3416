"""Sharing a chat, taking a link back, and the page behind it."""

import re
from uuid import UUID

from django.core.cache import cache
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.safestring import mark_safe
from django.utils.translation import get_language
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST, require_safe

from accounts import preferences
from accounts.access import BrandRequest, brand_member, public
from conversations.chats import reading, sharing
from lib.errors import Invalid, NotFound
from lib.html import render as as_html

BUTTON = re.compile(r"<button .*?</button>", re.DOTALL)  # for copying code, by a script that this page has not
DRAWN_FOR_S = 600  # a snapshot never changes; how it is drawn may, with the next release


@brand_member
@require_safe
def share(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    """What a link would show, and the links there are."""
    principal = request.principal
    context = {
        "brand": request.brand,
        "here": "",
        "zone": preferences.zone(request),
        "conversation": reading.conversation(principal, conversation_id),
        "shown": sharing.shown(principal, conversation_id),
        "shares": sharing.listed(principal, conversation_id),
    }
    return render(request, "conversations/share.html", context)


@brand_member
@require_POST
def make_link(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    """A link of the chat as it is now, for as many `days`."""
    if request.POST.get("days") not in sharing.DAYS:
        raise Invalid(_("Choose how long the link works: 7, 30 or 90 days, or until you take it back."))
    days = sharing.DAYS[request.POST["days"]]
    made = sharing.share(request.principal, request.brand, conversation_id, days=days)
    address = reverse("conversations:share", args=[conversation_id])
    return HttpResponseRedirect(f"{address}#share-{made.pk}", status=303)


@brand_member
@require_POST
def revoke(request: BrandRequest, share_id: UUID) -> HttpResponse:
    if not sharing.exists(request.principal, share_id):
        raise NotFound(_("This link is not here (any more)."))
    sharing.revoke(request.principal, share_id)
    return HttpResponseRedirect(reverse("conversations:your-data") + "#links", status=303)


@public("whoever has a link of a chat may read the copy behind it; nobody's session is looked at")
@require_GET
def shared(request: BrandRequest, token: str) -> HttpResponse:
    try:
        found = sharing.find(request.brand, token)
    except sharing.NotShared:
        return _private(render(request, "conversations/shared_gone.html", {"brand": request.brand}, status=404))
    key = f"share-drawn:{found['id']}:{get_language()}"  # the words around code are the reader's
    drawn = cache.get(key)
    if drawn is None:
        drawn = [
            BUTTON.sub("", as_html(each["text"])) if each["role"] == "assistant" else "" for each in found["messages"]
        ]
        cache.set(key, drawn, DRAWN_FOR_S)
    # Sanitised by lib.html before it was put there.
    messages = [each | {"html": mark_safe(html)} for each, html in zip(found["messages"], drawn, strict=True)]  # noqa: S308
    sharing.count_view(found["id"], request.META.get("REMOTE_ADDR", ""))
    page = {"brand": request.brand, "zone": request.brand.zone, "share": found, "messages": messages}
    return _private(render(request, "conversations/shared.html", page))


def _private(response: HttpResponse) -> HttpResponse:
    """No search engine keeps it, and no page it leads to learns its address."""
    response.headers["X-Robots-Tag"] = "noindex, nofollow, noarchive"
    response.headers["Referrer-Policy"] = "no-referrer"
    return response
