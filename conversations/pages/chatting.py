"""The chat pages. Reading is synchronous, inside the member's scope; what starts or watches an answer is async."""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable
from contextlib import suppress
from typing import Any, cast
from uuid import UUID

from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_POST, require_safe

from accounts import visitors
from accounts.access import (
    BrandRequest,
    View,
    as_asker,
    asker_of,
    brand_member,
    by_who_asks,
    declare,
    member_of,
    member_or_visitor_asks,
)
from accounts.models import User
from conversations.chats import listing, pending, places, reading, retention, stats
from conversations.engine import beginning, paying, runner, tuning, watching
from conversations.engine.live import Live, follow, hub
from conversations.engine.turns import Begun, Question
from conversations.forms import QuestionForm
from conversations.models import Message, Turn
from conversations.pages import attaching, browsing, composing, visiting
from lib.db import Principal, db, in_scope, scope
from lib.errors import DomainError, Invalid, NotAuthenticated, NotFound, Unavailable
from lib.sse import EventStream, event
from providers import own_keys
from quotas import words
from quotas.decision import Decision
from quotas.errors import AnonymousLimit


class Asking(BrandRequest):
    decision: Decision
    own_models: frozenset[UUID]


def _decided(view: View) -> View:
    """Before the member's scope opens, ask as the service what the next question would meet: the brand's pool is no
    member's to read. Whether this is a member at all is the scope's to prove; nothing is shown without it."""

    @functools.wraps(view)
    def wrapper(request: Asking, **ids: UUID) -> HttpResponseBase:
        _decide(request, member_of(request), ids.get("conversation_id"))
        response: HttpResponseBase = view(request, **ids)
        return response

    return wrapper


def _decide(request: HttpRequest, principal: Principal, conversation_id: UUID | None) -> None:
    asking = cast(Asking, request)
    asking.decision = reading.decide(principal, asking.brand, chat=conversation_id)
    asking.own_models = own_keys.payable(paying.keys_of(principal))


@_decided
@brand_member
@require_safe
def member_new(request: BrandRequest) -> HttpResponse:
    """A new chat; an embedding site's link may say what it is about, a starter's what is asked. Nothing is stored."""
    if visitors.has_cookie(request):
        return _welcome(request)
    page = _page(request, None) | composing.opened(request.principal, request.GET) | _waiting(request.principal, None)
    return render(request, "conversations/chat.html", page)


def new(request: BrandRequest) -> HttpResponseBase:
    """Whom an embedding site's link led here without an account asks at the front door, about the same."""
    if request.GET and not request.user.is_authenticated and request.brand.anonymous_allowance:
        return redirect(f"{reverse('conversations:home')}?{request.GET.urlencode()}")
    response: HttpResponseBase = member_new(request)
    return response


declare(new, "member")


def _welcome(request: BrandRequest) -> HttpResponseRedirect:
    """What they did as a visitor has to become theirs first."""
    return HttpResponseRedirect(f"{reverse('conversations:welcome')}?{urlencode({'next': request.get_full_path()})}")


@_decided
@brand_member
@require_safe
def member_detail(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    if visitors.has_cookie(request):
        return _welcome(request)
    found = reading.conversation(request.principal, conversation_id)
    return render(request, "conversations/chat.html", _page(request, found))


detail = by_who_asks(member_detail, visiting.detail)


def _page(request: BrandRequest, conversation: Any) -> dict[str, Any]:
    principal = request.principal
    decision = cast(Asking, request).decision
    form = composing.form(principal, conversation, cast(Asking, request).own_models)
    pays_itself = any(row["id"] == form["provider_id"] and row["is_own_key"] for row in form["providers"])
    part = places.part(principal, conversation.pk, request.GET.get("message", "")) if conversation else places.Part()
    messages = reading.messages(principal, conversation.pk, part.until) if conversation else []
    for row in messages:
        row["is_editing"] = str(row["id"]) == request.GET.get("edit")
    running = next((row["turn_id"] for row in messages if row["status"] == Message.Status.PENDING), None)
    member = reading.member(principal, request.brand, request.standing, cast(User, request.user).email)
    return {
        "brand": request.brand,
        "member": member,
        "chats": listing.sidebar(principal, request.brand.zone),
        "has_history": member["keeping"].is_listed,
        "kept": retention.words(member["keeping"], conversation) if conversation else "",
        "timings": stats.answers(conversation.pk) if conversation and request.standing in ("admin", "owner") else (),
        "undo": browsing.undoable(principal, request.GET),
        "conversation": conversation,
        **(reading.neighbours(principal, conversation) if conversation else {}),
        "messages": messages,
        "part": part,
        "earlier": places.earlier(principal, conversation.pk, messages) if conversation else None,
        "deleted_message_id": next(
            (row["id"] for row in messages if str(row["id"]) == request.GET.get("deleted")), None
        ),
        "meters": reading.meters(decision, request.brand),
        "running_turn_id": running,
        "pays_itself": pays_itself,
        "prices": composing.prices(words.price(decision)),
        **({} if pays_itself else reading.note(decision.refusal)),
        **form,
        **_waiting(principal, conversation),
    }


def _waiting(principal: Principal, conversation: Any) -> dict[str, Any]:
    """What was written before signing up and could not be sent: it is back in the composer, and goes once still."""
    waiting = pending.waiting(principal, conversation and conversation.pk)
    return pending.shown(waiting) | {"idempotency_key": pending.key_of(waiting)} if waiting else {}


@member_or_visitor_asks
@require_POST
async def send(request: BrandRequest, conversation_id: UUID | None = None) -> HttpResponse:
    """Take a question. Answers at once: with the turn for htmx, with a redirect to the chat for a plain form."""
    response = await _taken(request, conversation_id)
    visiting.remember(request, response)
    return response


async def _taken(request: BrandRequest, conversation_id: UUID | None) -> HttpResponse:
    form = QuestionForm(request.POST)
    try:
        runner.accept()
        if not form.is_valid():
            raise Invalid(form.first_error)
        begun, page = await asyncio.shield(_ask(request, form, conversation_id))  # also when the browser is gone
    except DomainError as refused:
        return await refused_in_words(request, refused, conversation_id, form)
    if "HX-Request" not in request.headers:
        return HttpResponseRedirect(reverse("conversations:detail", args=[begun.conversation_id]), status=303)
    response = HttpResponse(page)
    if conversation_id is None:
        response.headers["HX-Push-Url"] = reverse("conversations:detail", args=[begun.conversation_id])
    return response


async def _ask(request: BrandRequest, form: QuestionForm, conversation_id: UUID | None) -> tuple[Begun, str]:
    key = form.cleaned_data["idempotency_key"] or request.headers.get("Idempotency-Key", "")
    question = await attaching.with_files(request, form.question(conversation_id), key)
    begun = await db(_begin, request, question, key, form.cleaned_data["owner"])
    if begun.call is not None:
        runner.start(begun)
    return begun, await db(
        _turn, request, form, begun, conversation_id is None
    ) if "HX-Request" in request.headers else ""


def _begin(request: BrandRequest, question: Question, key: str, owner: UUID | None) -> Begun:
    """A page that was drawn for a member asks for that member: not for a visitor, and not for who is signed in since."""
    if owner and owner != request.user.pk:
        raise NotAuthenticated(_("Your session is over. Sign in again; your text is kept."))
    if not request.user.is_authenticated:
        return visiting.begin(request, question, key=key)
    principal = member_of(request)
    begun = beginning.begin(principal, request.brand, question, key=key)
    if key.startswith(pending.KEY):
        pending.sent(principal, key, begun.conversation_id)
    return begun


def _turn(request: BrandRequest, form: QuestionForm, begun: Begun, is_first: bool) -> str:
    assert begun.question_id is not None
    assert begun.answer_id is not None
    assert begun.conversation_id is not None
    context: dict[str, Any] = {
        "brand": request.brand,
        "is_new": is_first,  # also when it was sent before: the page that asks shows a new chat
        "question": reading.question(begun.question_id, form.cleaned_data["text"], begun.files),
        "answer": reading.pending(begun.answer_id, begun.turn_id, begun.offer.name),
        "handed": form.cleaned_data["attachment"],
        "memory_begins": begun.memory_begins,
        "chat_id": begun.conversation_id,
    }
    context["is_visitor"] = is_visitor = begun.principal.role == "app_visitor"
    if is_first:
        with scope(begun.principal):
            conversation = reading.conversation(begun.principal, begun.conversation_id)
            chats = {} if is_visitor else listing.sidebar(begun.principal, request.brand.zone)
            composer = composing.form(begun.principal, conversation, begun.own_models)
            context |= {"conversation": conversation, "chats": chats, **composer}
            # What the plan asks for the next one is known when this answer has ended: it is said then.
            context |= {"pays_itself": begun.own_key is not None, "prices": composing.prices("")}
    return render_to_string("conversations/_turn.html", context, request)


async def refused_in_words(
    request: BrandRequest, refused: DomainError, conversation_id: UUID | None, form: QuestionForm | None = None
) -> HttpResponse:
    """The reason in words, with the text kept: a note above the composer, or the page again without JavaScript."""
    if "HX-Request" in request.headers:
        context = {
            "note_error": refused.detail,
            "sign_in": refused.status == 401,
            "retry": refused.status >= 500 or refused.status in (409, 429),
            "request_id": getattr(request, "request_id", ""),
            **reading.note(refused, conversation_id),
        }
        note: str = await db(
            render_to_string, "conversations/_note.html", context, request
        )  # it may ask who is signed in
        if isinstance(refused, AnonymousLimit):
            note += await db(visiting.offer, request, refused)
        response = HttpResponse(note, status=refused.status)
        if wait := refused.extra.get("retry_after"):
            response.headers["Retry-After"] = str(int(wait) or 1)
        return response
    if refused.status in (401, 404):
        raise refused

    draft = request.POST.get("text", "")

    def draw(principal: Principal) -> str:
        request.principal, request.standing = principal, ""
        found = reading.conversation(principal, conversation_id) if conversation_id else None
        page = {**_page(request, found), "error": refused.detail, "draft": draft}
        if found is None and form:
            page |= {"about": form.cleaned_data.get("about"), "tuning": tuning.sent(request.POST)}
        page |= reading.note(refused, conversation_id)
        return render_to_string("conversations/chat.html", page, request)

    def drawn() -> str:
        if not request.user.is_authenticated:
            return visiting.draw(request, refused, conversation_id, draft)
        principal = member_of(request)
        _decide(request, principal, conversation_id)
        return in_scope(principal, draw)(principal)

    return HttpResponse(await db(drawn), status=refused.status)


@member_or_visitor_asks
@require_GET
async def stream(request: BrandRequest, turn_id: UUID) -> HttpResponseBase:
    """Server-sent events of one answer, from Last-Event-ID on, whichever process writes it."""
    offset = _offset(request.headers.get("Last-Event-ID") or request.GET.get("after", ""))
    if live := hub.get(turn_id):
        await as_asker(request, _may_watch, turn_id)
        return EventStream(_live_frames(request, live, offset))
    runner.accept()
    return EventStream(_distant_frames(request, turn_id, offset, await as_asker(request, reading.progress, turn_id)))


def _offset(given: str) -> int:
    if given and not (given.isascii() and given.isdecimal() and len(given) < 12):
        raise Invalid(_("Last-Event-ID must be the id of an event of this stream."))
    return int(given or 0)


def _may_watch(principal: Principal, turn_id: UUID) -> Principal:
    own = Turn.objects.filter(pk=turn_id, brand_id=principal.brand_id, owner_id=principal.owner_id)
    if not own.exclude(message_id=None).exists():
        raise NotFound(_("This answer is not here (any more)."))
    return principal


async def _live_frames(request: HttpRequest, live: Live, offset: int) -> AsyncGenerator[bytes, None]:
    async for frames in follow(live, offset):
        yield frames
    assert live.finished is not None
    assert live.begun.answer_id is not None
    begun = live.begun
    owed = 0
    if begun.pocket == "overage":
        with suppress(DomainError, DatabaseError):  # the receipt then says it without the sum
            owed = await as_asker(request, reading.owed, begun.turn_id)
    told = (begun.instead_of, begun.pocket, owed, begun.versions)
    ended = functools.partial(
        reading.ended,
        live.begun.answer_id,
        begun.offer.name,
        live.finished,
        *told,
        request_id=begun.request_id,
        chat_id=begun.conversation_id,
    )
    yield event("done", await _article(request, ended), live.body.length)


def _distant_frames(
    request: HttpRequest, turn_id: UUID, offset: int, so_far: watching.Seen
) -> AsyncGenerator[bytes, None]:
    async def look() -> watching.Seen:
        return await as_asker(request, reading.progress, turn_id)

    async def end(message: dict[str, Any] | DomainError, at: int) -> bytes:
        if isinstance(message, DomainError):
            return event("gone", message.detail, at)
        return event("done", await _article(request, lambda: message), at)

    return watching.from_afar(turn_id, offset, so_far, look=look, end=end)


async def _article(request: HttpRequest, ended: Callable[[], dict[str, Any]]) -> str:
    """An answer that has ended, with what is left now; without it when the database cannot say: the answer counts more.

    It is drawn on a thread: a long one takes a tenth of a second, and other people's answers go through the loop.
    """
    brand = request.brand  # type: ignore[attr-defined]

    def left(message: dict[str, Any]) -> dict[str, Any]:
        principal = asker_of(request)
        if principal.role == "app_visitor":
            return {"prices": visiting.left(principal, brand), "is_visitor": True}
        decision = reading.decide(principal, brand, answer=message["id"])
        # A model that is paid with an own key is asked so again, as long as nobody changes one of them.
        prices = {"pays_itself": message["is_own_key"], "prices": composing.prices(words.price(decision))}
        return {"meters": reading.meters(decision, brand), **prices}

    def drawn(*, asking: bool = True) -> str:
        message = ended()
        context = {"message": message, "brand": brand}
        with suppress(DomainError, DatabaseError):
            context |= left(message) if asking else {}
        return render_to_string("conversations/_ended.html", context, request)

    with suppress(Unavailable):
        return await db(drawn)
    return drawn(asking=False)


@member_or_visitor_asks
@require_POST
async def stop(request: BrandRequest, turn_id: UUID) -> HttpResponse:
    """Stop an answer. What has arrived is kept and charged; a second stop, or one that comes late, changes nothing."""
    principal = await as_asker(request, _may_watch, turn_id)
    await watching.stop(principal, turn_id)
    if "HX-Request" in request.headers or "application/json" in request.headers.get("Accept", ""):
        return HttpResponse(status=204)
    return HttpResponseRedirect(request.headers.get("Referer") or reverse("conversations:new"), status=303)
