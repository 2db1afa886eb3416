"""The ways home: one chat as a file, many in a ZIP, and the page of what is mine."""

from io import BytesIO
from uuid import UUID

from django.db.models import Sum
from django.db.models.functions import Length
from django.http import HttpResponse, HttpResponseRedirect, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST, require_safe

from accounts import preferences
from accounts.access import BrandRequest, brand_member, member_goes_out
from accounts.confirming import confirmed
from conversations import tasks
from conversations.chats import listing, retention, sharing
from conversations.chats.export import background, packing
from conversations.chats.export.chats import collected
from conversations.models import UNDER_WAY, Export, Message
from conversations.pages import browsing
from lib import clock, files
from lib.db import Principal, scope
from lib.errors import Invalid, NotFound
from lib.figures import grouped

STRAIGHT = 50  # chats that are given at once; more are made in the background
STRAIGHT_LETTERS: dict[str, int] = {packing.Form.PDF: 200_000}  # of all together; drawing takes its time
MOST_STRAIGHT_LETTERS = 5_000_000
MOST = 50_000  # chats in one export
SHOWN = 10


@member_goes_out
@require_GET
def one(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    """One chat, in the form that ?as= names: json, markdown or pdf."""
    form = _form(request.GET.get("as", "json"))
    with scope(request.principal):
        chats = list(collected(request.principal, [conversation_id]))
        if not chats:
            raise NotFound(_("This chat is not here (any more)."))
        background.record_export(request.principal, "chats", form, 1)
    name, content = packing.one(chats[0], request.brand, form)
    response = HttpResponse(content)
    files.as_attachment(response, name, packing.TYPES[form])
    return response


@member_goes_out
@require_http_methods(["GET", "HEAD", "POST"])
def many(request: BrandRequest) -> HttpResponse:
    """The chats that `id` names, or `all` that the history shows at the address `back`; the form in `as`.

    Whoever only looks, or comes back after signing in again, is led to where chats are chosen.
    """
    if request.method != "POST":
        return HttpResponseRedirect(reverse("conversations:history"), status=303)
    form = _form(request.POST.get("as", ""))
    with scope(request.principal):
        ids = _wanted(request)
        if not ids:
            raise Invalid(_("No chat was chosen, so there is nothing to export. Mark some, or export all."))
        if len(ids) > STRAIGHT or _letters(request.principal, ids) > STRAIGHT_LETTERS.get(form, MOST_STRAIGHT_LETTERS):
            export = background.ask(request.principal, Export.Kind.CHATS, form, ids)
            tasks.go_on_with_export.delay_on_commit(str(export.pk))
            return HttpResponseRedirect(reverse("conversations:your-data") + "#exports", status=303)
        chats = list(collected(request.principal, ids))
        if not chats:
            raise NotFound(_("These chats are not here (any more)."))
        background.record_export(request.principal, "chats", form, len(chats))
    packed = BytesIO()
    packing.packed(packing.written(chats, request.brand, form), packed)
    response = HttpResponse(packed.getvalue())
    files.as_attachment(response, f"{request.brand.name} chats {clock.now():%Y-%m-%d}.zip", "application/zip")
    return response


@brand_member
@require_safe
def your_data(request: BrandRequest) -> HttpResponse:
    """What is made for this person and waits, and the links they gave away."""
    principal = request.principal
    own = Export.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
    exports = list(own.order_by("-id").defer("chats", "parts")[:SHOWN])
    context = {
        "brand": request.brand,
        "here": "your-data",
        "zone": preferences.zone(request),
        "exports": exports,
        "is_under_way": any(row.state in UNDER_WAY for row in exports),
        "shares": sharing.listed(principal),
    }
    return render(request, "settings/your_data.html", context)


@brand_member
@require_POST
@confirmed
def take_everything(request: BrandRequest) -> HttpResponse:
    export = background.ask_for_everything(request.principal)
    tasks.go_on_with_export.delay_on_commit(str(export.pk))
    return HttpResponseRedirect(reverse("conversations:your-data") + "#exports", status=303)


@member_goes_out
@require_POST
def cancel(request: BrandRequest, export_id: UUID) -> HttpResponse:
    with scope(request.principal):
        _own(request.principal, export_id)
    background.cancel(request.principal, export_id)
    return HttpResponseRedirect(reverse("conversations:your-data") + "#exports", status=303)


@member_goes_out
@require_GET
def download(request: BrandRequest, export_id: UUID) -> HttpResponseBase:
    with scope(request.principal):
        export = _own(request.principal, export_id)
    if not export.file_key:
        raise NotFound(_("This download is over: it is kept for 24 hours. Begin the export again."))
    name = background.file_name(export)
    return files.attached(export.file_key, name, brand_id=export.brand_id, content_type="application/zip")


def _form(given: str) -> str:
    if given not in packing.SUFFIXES:
        raise Invalid(_("A chat is exported as json, markdown or pdf."))
    return given


def _wanted(request: BrandRequest) -> list[UUID]:
    if request.POST.get("all"):
        wanted = browsing.Filters(QueryDict(request.POST.get("back", "")[:2000])).wanted(request.brand.zone)
        if wanted.show == "bin":
            raise Invalid(_("What is in the bin is not exported. Take it out first."))
        chats = listing.owned(request.principal).filter(listing.matching(wanted), retention.listed(request.principal))
        ids = list(chats.order_by("-last_message_at", "-id").values_list("pk", flat=True)[: MOST + 1])
    else:
        try:
            ids = list(dict.fromkeys(map(UUID, request.POST.getlist("id"))))
        except ValueError as error:
            raise Invalid(_("One of these is no chat.")) from error
    if len(ids) > MOST:
        raise Invalid(_("One export holds %(most)s chats at most. Choose fewer.") % {"most": grouped(MOST)})
    return ids


def _letters(principal: Principal, ids: list[UUID]) -> int:
    own = Message.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id, conversation_id__in=ids)
    return int(own.aggregate(letters=Sum(Length("content") + Length("file_text")))["letters"] or 0)


def _own(principal: Principal, export_id: UUID) -> Export:
    own = Export.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id).select_related("brand")
    found = own.filter(pk=export_id).defer("chats").first()
    if found is None:
        raise NotFound(_("This export is not here (any more)."))
    return found
