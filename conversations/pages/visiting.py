"""The pages of somebody without an account: the front door, which is the composer, and the chats begun there.

What is offered to everybody is read as the service; what is the visitor's own, as the visitor.
"""

from contextlib import suppress
from typing import Any, cast
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.views.decorators.http import require_safe

from accounts import visitors
from accounts.access import BrandRequest, asker_of, asking, public
from conversations.chats import pending, places, reading
from conversations.engine import beginning
from conversations.engine.turns import Begun, Branch, Question
from conversations.models import Message, PendingMessage
from conversations.pages import composing
from lib.db import NOBODY, SERVICE, Principal, scope
from lib.errors import DomainError, NotAuthenticated, NotFound
from quotas import anonymous, words
from quotas.errors import AnonymousLimit

PAGE = "conversations/landing.html"


class Visiting(BrandRequest):
    visitor_id: UUID  # who asked in this request, and gets the cookie
    waiting: PendingMessage  # what met a limit in it


@public("the front door: what is offered to everybody, and of a visitor's own only to that visitor's cookie")
@require_safe
def home(request: BrandRequest) -> HttpResponse:
    if request.user.is_authenticated:
        return redirect("conversations:new")
    return render(request, PAGE, page(request, None))


@require_safe
def detail(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    return render(request, PAGE, page(request, conversation_id))


def begin(request: BrandRequest, question: Question, *, key: str, route: str = "send") -> Begun:
    """Begin a turn of a visitor's. A first question makes the visitor.

    Raises  as beginning.begin() does; what met a limit is kept then, and the refusal says so
    """
    asker = asker_of(request) if question.conversation_id or question.branch else _arrived(request)
    cast(Visiting, request).visitor_id = asker.owner_id
    also = anonymous.allow(request.brand, asker.owner_id, visitors.network_of(request))
    with asking(asker):
        is_written = route in ("send", Branch.EDIT)  # else its words stand in the chat
        try:
            begun = beginning.begin(asker, request.brand, question, key=key, route=route, also=also)
        except AnonymousLimit:
            if is_written:
                cast(Visiting, request).waiting = pending.keep(asker, question)
            raise
        if is_written:
            pending.drop(asker, question)
    return begun


def _arrived(request: BrandRequest) -> Principal:
    return visitors.arrive(request) if request.brand.anonymous_allowance else asker_of(request)


def remember(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """The answer to who has asked without an account carries the name that they are known by."""
    visitor_id = getattr(request, "visitor_id", None)
    if visitor_id:
        visitors.remember(response, cast(BrandRequest, request).brand, visitor_id)
    return response


def draw(request: BrandRequest, refused: DomainError, conversation_id: UUID | None, draft: str) -> str:
    """The page again, with the reason in words and the text in the composer: for browsers without JavaScript."""
    told = {**page(request, conversation_id), "draft": draft}
    if isinstance(refused, AnonymousLimit):
        told |= {"note_error": refused.detail, "limit": refused.detail, "is_met": True}
    else:
        told["error"] = refused.detail
    return render_to_string(PAGE, told, request)


def offer(request: BrandRequest, refused: AnonymousLimit) -> str:
    """The dialog that offers an account, with the message that waits on the server."""
    waiting = getattr(request, "waiting", None)
    shown = {"brand": request.brand, "limit": refused.detail, "waiting": waiting, "is_met": True, "oob": True}
    return render_to_string("conversations/_sign_up.html", shown, request)


def newest_waiting(request: BrandRequest) -> PendingMessage | None:
    """What this visitor could not send last, in any chat; nothing for somebody who is none. In no scope."""
    asker = _asker(request)
    if asker.owner_id == NOBODY:
        return None
    with suppress(NotFound), scope(asker):
        return pending.newest(asker)
    return None


def page(request: BrandRequest, conversation_id: UUID | None) -> dict[str, Any]:
    """What `landing.html` shows. Raises NotAuthenticated for a chat that is not this visitor's."""
    brand = request.brand
    asker = _asker(request)
    with scope(SERVICE):
        shown: dict[str, Any] = {
            **composing.form(asker, None, frozenset()),
            **({} if conversation_id else composing.opened(asker, request.GET)),
            "brand": brand,
            "is_visitor": True,
            "may_ask": brand.anonymous_allowance > 0,
            "groups": [],
            "messages": [],
            "prices": {"plan": words.free_left(brand.anonymous_allowance, brand.anonymous_allowance), "own": ""},
        }
        if not conversation_id:
            shown |= composing.opened(asker, request.GET)
    try:
        with asking(asker), scope(asker):
            return shown | _own(asker, request, conversation_id)
    except NotAuthenticated:
        if conversation_id:
            raise
        return shown  # nobody whom we know


def _own(asker: Principal, request: BrandRequest, conversation_id: UUID | None) -> dict[str, Any]:
    brand, own = request.brand, dict[str, Any]()
    left = anonymous.left(brand, asker.owner_id)
    own["prices"] = {"plan": words.free_left(left, brand.anonymous_allowance), "own": ""}
    if conversation_id:
        conversation = reading.conversation(asker, conversation_id)
        part = places.part(asker, conversation_id, request.GET.get("message", ""))
        messages = reading.messages(asker, conversation_id, part.until)
        running = (row["turn_id"] for row in messages if row["status"] == Message.Status.PENDING)
        own |= {"messages": messages, "part": part, "running_turn_id": next(running, None)}
        own |= composing.form(asker, conversation, frozenset()) | {"conversation": conversation}
    else:
        own["own_chats"] = list(reading.own(asker).order_by("-id").values("id", "title")[:3])
    if waiting := pending.waiting(asker, conversation_id):
        limit = words.without_account("visitor", brand)
        own |= pending.shown(waiting) | {"waiting": waiting, "limit": limit, "note_error": limit, "ways": ["sign_up"]}
    return own


def _asker(request: BrandRequest) -> Principal:
    visitor_id = getattr(request, "visitor_id", None) or visitors.of_request(request) or NOBODY
    return visitors.principal(request.brand, visitor_id)


def left(principal: Principal, brand: Any) -> dict[str, str]:
    """What the composer says when an answer has ended. In no scope."""
    with scope(principal):
        return {
            "plan": words.free_left(anonymous.left(brand, principal.owner_id), brand.anonymous_allowance),
            "own": "",
        }
