"""The history, the list beside the chat, and what is done with chats in either: forms that work without JavaScript."""

from datetime import UTC, date, datetime, time, timedelta
from typing import Any
from urllib.parse import urlencode
from uuid import UUID
from zoneinfo import ZoneInfo

from django import forms
from django.contrib.humanize.templatetags.humanize import intcomma
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse, QueryDict
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_POST, require_safe

from accounts import preferences
from accounts.access import BrandRequest, brand_member
from agents.models import Agent
from conversations.chats import keeping, listing, retention, stats
from conversations.chats.keeping import Done
from conversations.chats.listing import Wanted
from conversations.models import Conversation
from lib import dates
from lib.db import NOBODY, Principal
from lib.errors import Invalid, NotFound
from providers.offers import known

SHOWS = ("active", "archived", "bin")
KEPT_IN_ADDRESS = ("show", "sort", "order", "model", "agent", "since", "until", "after")


class Filters(forms.Form):
    """What the address of a history says. Unknown names in it are left alone, wrong values refused."""

    show = forms.ChoiceField(choices=[(name, name) for name in SHOWS], required=False)
    sort = forms.ChoiceField(
        label=gettext_lazy("Sort by"),
        choices=[
            ("updated", gettext_lazy("Last message")),
            ("created", gettext_lazy("Begun")),
            ("title", gettext_lazy("Title")),
            ("messages", gettext_lazy("Messages")),
            ("tokens", gettext_lazy("Tokens")),
        ],
        required=False,
    )
    order = forms.ChoiceField(choices=[("asc", "asc"), ("desc", "desc")], required=False)
    model = forms.CharField(max_length=80, required=False)
    agent = forms.UUIDField(required=False)
    since = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}))
    until = forms.DateField(required=False, widget=forms.DateInput(attrs={"type": "date"}))
    after = forms.CharField(max_length=1000, required=False)

    def wanted(self, zone: str) -> Wanted:
        """Raises  Invalid, with the field's name as `param`."""
        if not self.is_valid():
            field, errors = next(iter(self.errors.items()))
            raise Invalid(_("This list cannot be shown: %(reason)s") % {"reason": errors[0]}, param=field)
        given = self.cleaned_data
        return Wanted(
            show=given["show"] or "active",
            sort=given["sort"] or "updated",
            descends=given["order"] != "asc" if given["order"] else None,
            model=given["model"],
            agent=given["agent"],
            since=_midnight(given["since"], zone),
            until=_midnight(given["until"], zone, days=1),
            after=given["after"],
        )


def _midnight(day: date | None, zone: str, days: int = 0) -> datetime | None:
    """When a day begins where the brand is, or one that many later."""
    if day is None or not date.min < day < date.max - timedelta(days=2):
        return None
    return datetime.combine(day + timedelta(days=days), time(), ZoneInfo(zone)).astimezone(UTC)


class Deed(forms.Form):
    do = forms.ChoiceField(
        choices=[(n, n) for n in ("rename", "pin", "unpin", "archive", "unarchive", "delete", "restore")],
        error_messages={
            "required": gettext_lazy("Say what is to be done."),
            "invalid_choice": gettext_lazy("Say what is to be done."),
        },
    )
    title = forms.CharField(max_length=2000, required=False, strip=False)


@brand_member
@require_safe
def history(request: BrandRequest) -> HttpResponse:
    """All of a member's chats, by filter and order, page by page; what was just done can be taken back on it."""
    principal, brand = request.principal, request.brand
    filters = Filters(request.GET)
    wanted = filters.wanted(brand.zone)
    rules = retention.keeping_for(brand, principal.owner_id)
    kept = stats.of_member(principal)
    page = listing.page(listing.owned(principal).filter(retention.listed(principal)), wanted)
    context = {
        "brand": brand,
        "filters": filters,
        "asked": wanted,
        "is_filtered": bool(wanted.model or wanted.agent or wanted.since or wanted.until),
        "kept": kept,
        "shows": [
            (name, label, count, _address(request.GET, show=name, after=""))
            for name, label, count in (
                ("active", _("Chats"), kept.active),
                ("archived", _("Archived"), kept.archived),
                ("bin", _("Bin"), kept.in_bin),
            )
        ],
        "models": _model_names(kept.models),
        "agents": Agent.objects.filter(pk__in=kept.agents).values("pk", "name") if kept.agents else (),
        "sorts": filters.fields["sort"].choices,  # type: ignore[attr-defined]
        "rows": _rows(page.rows, rules, preferences.zone(request)),
        "rule": retention.rule(rules),
        "rules": rules,
        "back": _address(request.GET),
        "first": _address(request.GET, after=""),
        "more": _address(request.GET, after=page.more) if page.more else "",
        "undo": undoable(principal, request.GET),
    }
    return render(request, "conversations/history.html", context)


def _rows(chats: list[Conversation], rules: retention.Keeping, zone: str) -> list[dict[str, Any]]:
    """As the table shows them, in words: fifty rows are half of the page's work, and a template is slow at finding words."""
    names = dict(_model_names([chat.model for chat in chats]))
    said, addresses = [], {name: reverse(f"conversations:{name}", args=[NOBODY]) for name in ("detail", "facts")}
    for chat in chats:
        said_at = chat.last_message_at or chat.created_at
        at = said_at.astimezone(ZoneInfo(zone))
        address = addresses["facts" if chat.deleted_at else "detail"]
        said.append(
            {
                "id": str(chat.pk),
                "title": chat.title,
                "choose": _("Choose %(title)s") % {"title": chat.title},
                "href": address.replace(str(NOBODY), str(chat.pk)),
                "is_running": chat.is_running,  # type: ignore[attr-defined]
                "is_pinned": chat.pinned_at is not None,
                "model": names[chat.model],
                "messages": intcomma(chat.message_count),
                "tokens": intcomma(chat.total_tokens_used),
                "at": said_at.isoformat(),
                "when": f"{dates.said(at.date(), 'j M Y')}, {at:%H:%M}",
                "kept": retention.words(rules, chat),
            }
        )
    return said


def _model_names(identifiers: list[str]) -> list[tuple[str, str]]:
    """Models by the name that people see; what is offered no more keeps its identifier."""
    names = {row.api_identifier: row.name for row in known().values()}
    return sorted(((name, names.get(name, name)) for name in set(identifiers)), key=lambda pair: pair[1].lower())


def _address(given: QueryDict, **changed: str) -> str:
    """The query of a history's address with something changed; of what we do not know nothing is kept."""
    kept = {name: given[name] for name in KEPT_IN_ADDRESS if given.get(name)}
    return urlencode({name: value for name, value in {**kept, **changed}.items() if value})


@brand_member
@require_safe
def more(request: BrandRequest) -> HttpResponse:
    """Older chats for the end of the sidebar's list."""
    chats = listing.sidebar(request.principal, request.brand.zone, after=request.GET.get("after", ""))
    return render(request, "conversations/_chat_rows.html", {"chats": chats})


@brand_member
@require_safe
def facts(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    """One chat: what it came to, until when it is kept, and what can be done with it. The row menu without JavaScript."""
    mine = listing.owned(request.principal).filter(retention.readable(request.principal))
    found = mine.filter(pk=conversation_id).first()
    if found is None:
        raise NotFound(_("This chat is not here (any more)."))
    rules = retention.keeping_for(request.brand, request.principal.owner_id)
    context = {
        "brand": request.brand,
        "chat": found,
        "kept": retention.words(rules, found),
        "may_pin": rules.may_pin,
    }
    return render(request, "conversations/facts.html", context)


@brand_member
@require_POST
def keep_one(request: BrandRequest, conversation_id: UUID) -> HttpResponseBase:
    return _done(request, *_do(request, [conversation_id]), conversation_id)


@brand_member
@require_POST
def keep(request: BrandRequest) -> HttpResponseBase:
    """Several chats at once."""
    return _done(request, *_do(request, _ids(request.POST.getlist("id"))), None)


def _ids(given: list[str]) -> list[UUID]:
    if len(given) > keeping.MOST:
        raise Invalid(_("At most %(most)s chats at once. Nothing was changed.") % {"most": keeping.MOST})
    try:
        return [UUID(text) for text in given]
    except ValueError as error:
        raise Invalid(_("Choose chats from the list.")) from error


def _do(request: BrandRequest, ids: list[UUID]) -> tuple[Done, str]:
    form = Deed(request.POST)
    if not form.is_valid():
        raise Invalid(str(next(iter(form.errors.values()))[0]))
    deed, who = form.cleaned_data["do"], request.principal
    if deed == "rename":
        if len(ids) != 1:
            raise Invalid(_("Only one chat at a time can have a new title."))
        return keeping.rename(who, ids[0], form.cleaned_data["title"]), deed
    if deed == "pin":
        return keeping.pin(who, request.brand, ids), deed
    work = {
        "unpin": keeping.unpin,
        "archive": keeping.archive,
        "unarchive": keeping.unarchive,
        "delete": keeping.move_to_bin,
        "restore": keeping.restore,
    }
    return work[deed](who, ids), deed


UNDOABLE = {"delete": "deleted", "archive": "archived"}


def _done(request: BrandRequest, done: Done, deed: str, conversation_id: UUID | None) -> HttpResponseBase:
    """Back to where it was done, with the way to take it back."""
    did = {"did": UNDOABLE[deed], "at": done.at.isoformat()} if deed in UNDOABLE and done.ids else {}
    if not _wants_json(request):
        if conversation_id and deed not in UNDOABLE:
            return HttpResponseRedirect(reverse("conversations:facts", args=[conversation_id]), status=303)
        return _to_history(request, did)
    told = {"toast": "", "go": ""}
    if did and request.POST.get("open"):  # the chat that is open is gone: on to a new one, which says so
        told["go"] = f"{reverse('conversations:new')}?{urlencode(did)}"
    elif did:
        undo = {"deed": did["did"], "at": did["at"], "said": _said(did["did"], len(done.ids))}
        told["toast"] = render_to_string("conversations/_toast.html", {"undo": undo}, request)
    return JsonResponse(told | {"chats": _list(request)})


@brand_member
@require_POST
def undo(request: BrandRequest) -> HttpResponseBase:
    """Take back what was deleted or archived at one moment. A second time, or after other changes, nothing happens."""
    at = _moment(request.POST.get("at", ""))
    if at is None:
        raise Invalid(_("It is not known any more what this would take back. The bin has what was deleted."))
    keeping.take_back(request.principal, request.POST.get("deed", ""), at)
    if _wants_json(request):
        return JsonResponse({"toast": "", "go": "", "chats": _list(request)})
    return _to_history(request, {})


@brand_member
@require_POST
def empty_bin(request: BrandRequest) -> HttpResponse:
    keeping.empty_bin(request.principal)
    return HttpResponseRedirect(f"{reverse('conversations:history')}?show=bin", status=303)


def _wants_json(request: HttpRequest) -> bool:
    return "application/json" in request.headers.get("Accept", "")


def _to_history(request: HttpRequest, did: dict[str, str]) -> HttpResponse:
    kept = _address(QueryDict(request.POST.get("back", "")))
    query = "&".join(part for part in (kept, urlencode(did)) if part)
    return HttpResponseRedirect(f"{reverse('conversations:history')}{'?' if query else ''}{query}", status=303)


def _list(request: BrandRequest) -> str:
    """The sidebar's list as it is now, as long as it was."""
    rows = request.POST.get("rows", "")
    chats = listing.sidebar(
        request.principal,
        request.brand.zone,
        rows=int(rows) if rows.isascii() and rows.isdecimal() and len(rows) < 6 else 0,
    )
    rules = retention.keeping_for(request.brand, request.principal.owner_id)
    return render_to_string("conversations/_chats.html", {"chats": chats, "has_history": rules.is_listed}, request)


def undoable(principal: Principal, given: QueryDict) -> dict[str, Any] | None:
    """What a page's address says was just done, if it was and still is; for `_toast.html`."""
    deed, at = given.get("did"), _moment(given.get("at", ""))
    if at is None or deed not in keeping.TAKE_BACK:
        return None
    count = listing.owned(principal).filter(**{f"{deed}_at": at}).count()
    return {"deed": deed, "at": at.isoformat(), "said": _said(deed, count)} if count else None


def _moment(text: str) -> datetime | None:
    try:
        at = parse_datetime(text)
    except ValueError:
        return None
    return at if at and at.tzinfo else None


def _said(deed: str, count: int) -> str:
    if deed == "archived":
        return ngettext("Archived. The history has it.", "%(count)s chats archived. The history has them.", count) % {
            "count": count
        }
    return ngettext(
        "Moved to the bin, where it stays for up to 30 days.",
        "%(count)s chats moved to the bin, where they stay for up to 30 days.",
        count,
    ) % {"count": count}
