"""The page of search, and the palette that opens anywhere."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import NoReverseMatch, reverse
from django.utils.cache import patch_vary_headers
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_safe

from accounts.access import BrandRequest, brand_member
from agents.models import Agent
from conversations.chats import retention, search
from conversations.chats.search import Filters, Results, Wanted
from lib.errors import Invalid
from lib.folding import words
from providers.offers import offers

MOST_IN_PALETTE = 8
FILTERS = ("archived", "agent", "model", "since", "until")


@brand_member
@require_safe
def page(request: BrandRequest) -> HttpResponse:
    """What was found; as it is typed, only the results."""
    typed, given = request.GET.get("q", ""), {name: request.GET.get(name, "") for name in FILTERS}
    wanted = search.parse(typed)
    results, status, instead = Results([]), 200, ""
    try:
        filters = search.filters(given, request.brand.zone)
        results = search.find(request.principal, wanted, filters, after=request.GET.get("after", ""))
        if not results.found and not wanted.problem:
            instead = search.instead(request.principal, wanted, filters)
    except Invalid as refused:
        wanted, status = Wanted(typed, problem=refused.detail), refused.status
    kept = {"q": wanted.typed, **{name: value for name, value in given.items() if value}}
    context: dict[str, Any] = {
        "wanted": wanted,
        "results": results,
        "instead": instead,
        "instead_url": "?" + urlencode({**kept, "q": instead}),
        "next_url": "?" + urlencode({**kept, "after": results.after}),
        "is_first": not request.GET.get("after"),
        "given": given,
        "is_filtered": any(given.values()),
    }
    is_part = "HX-Request" in request.headers
    if wanted.terms and not results.found:
        context["keeps_none"] = not retention.keeping_for(request.brand, request.principal.owner_id).is_listed
    if not is_part:
        context["models"] = [{"id": row.api_identifier, "name": row.name} for row in offers("chat")]
        context["agents"] = list(Agent.objects.filter(brand_id=request.brand.pk).order_by("name").values("id", "name"))
    template = "conversations/_results.html" if is_part else "conversations/search.html"
    response = render(request, template, context, status=status)
    patch_vary_headers(response, ["HX-Request"])
    return response


@brand_member
@require_safe
def palette(request: BrandRequest) -> HttpResponse:
    """The palette; with `q`, its list alone."""
    typed = request.GET.get("q")
    wanted = search.parse(typed or "")
    found: list[dict[str, Any]] = []
    if not wanted.terms:
        found = search.recent(request.principal, MOST_IN_PALETTE)
    elif not wanted.problem:
        found = search.find(request.principal, wanted, Filters()).found[:MOST_IN_PALETTE]
    context = {"wanted": wanted, "chats": found, "commands": _commands(request, wanted)}
    return render(
        request, "conversations/_palette.html" if typed is None else "conversations/_palette_list.html", context
    )


def _commands(request: BrandRequest, wanted: Wanted) -> list[dict[str, str]]:
    """Where one can go and what one can do; of it, what begins with the words that were typed."""
    pages = [
        (_("New chat"), "plus", "conversations:new"),
        (_("All chats"), "book", "conversations:history"),
        (_("Search"), "search", "conversations:search"),
        (_("Templates"), "grid", "templates"),
        (_("Settings"), "edit", "settings"),
        (_("Plan and usage"), "card", "plan-and-usage"),
        (_("Your keys"), "key", "own-keys"),
        (_("Notifications"), "bell", "notifications"),
        (_("Pricing"), "card", "pricing"),
    ]
    if request.standing in ("admin", "owner"):
        pages += [
            (_("Models of the brand"), "screen", "conversations:manage-models"),
            (_("Plan of the brand"), "grid", "manage-plan"),
        ]
    commands = [{"label": label, "icon": icon, "href": href} for label, icon, name in pages if (href := _address(name))]
    commands += [
        {"label": label, "icon": icon, "press": press}
        for label, icon, press in (
            (_("Light colours"), "sun", "theme-switch [value=light]"),
            (_("Dark colours"), "moon", "theme-switch [value=dark]"),
            (_("Colours of the system"), "screen", "theme-switch :is([value=system], [value=''])"),
            (_("Keyboard shortcuts"), "keyboard", "[data-open-keys]"),
            (_("Sign out"), "out", f"form[action='{reverse('account_logout')}'] button"),
        )
    ]
    asked = [word for term in wanted.terms for word in term]
    return [row for row in commands if all(any(own.startswith(word) for own in words(row["label"])) for word in asked)]


def _address(name: str) -> str:
    """ "" for what this installation does not have."""
    try:
        return reverse(name)
    except NoReverseMatch:
        return ""
