"""What is done with one message of a page: ask again, edit, go on, turn over, delete, rate, correct, copy.

Each is a plain form. With JavaScript the answer is what takes the old one's place: the thread, where other messages are shown
now, or the message alone; without it, the way back to the chat at that message.
"""

import asyncio
from typing import Any
from uuid import UUID, uuid4

from django import forms
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import (
    BrandRequest,
    View,
    as_asker,
    brand_member,
    brand_visitor,
    by_who_asks,
    member_of,
    member_or_visitor_asks,
)
from conversations.chats import branches, judging, reading, withdrawing
from conversations.engine import beginning, runner
from conversations.engine.tuning import UNSTORABLE
from conversations.engine.turns import Begun, Branch, Question
from conversations.forms import QuestionForm
from conversations.pages import chatting, visiting
from lib.db import Principal, db
from lib.errors import DomainError, Invalid


def asker(view: View) -> View:
    """Members, and visitors with a chat of their own."""
    return by_who_asks(brand_member(view), brand_visitor(view))


class AgainForm(forms.Form):
    provider = forms.UUIDField(
        required=False, error_messages={"invalid": gettext_lazy("Choose a model from the list.")}
    )


@asker
@require_safe
def message(request: BrandRequest, message_id: UUID) -> HttpResponse:
    return _shown(request, message_id)


@asker
@require_safe
def markdown(request: BrandRequest, message_id: UUID) -> HttpResponse:
    """A message as it was written, for whoever copies it."""
    found, _told = reading.message(request.principal, message_id)
    return HttpResponse(found.content.strip(), content_type="text/markdown; charset=utf-8")


@member_or_visitor_asks
@require_http_methods(["GET", "HEAD", "POST"])
async def edit(request: BrandRequest, question_id: UUID) -> HttpResponse:
    """The form that edits a question, and what it sends: the edited one stands beside the first."""
    if request.method != "POST":
        return await as_asker(request, _edit_form, request, question_id)
    form = QuestionForm(request.POST)
    if not form.is_valid():
        return await _refused(request, Invalid(form.first_error), question_id)
    question = Question(
        text=form.cleaned_data["text"],
        model=form.cleaned_data["provider"],
        prompt_id=form.cleaned_data["prompt"],
        branch=Branch(Branch.EDIT, question_id),
    )
    return await _ask(request, question, question_id)


def _edit_form(principal: Principal, request: BrandRequest, message_id: UUID) -> HttpResponse:
    found, told = reading.message(principal, message_id)
    if "HX-Request" not in request.headers:
        return HttpResponseRedirect(
            f"{_chat(found.conversation_id)}?message={message_id}&edit={message_id}#message-{message_id}", status=303
        )
    context = {"message": {**told, "is_editing": True}, "brand": request.brand, "idempotency_key": uuid4()}
    context["is_visitor"] = principal.role == "app_visitor"
    return HttpResponse(render_to_string("conversations/_message.html", context, request))


@member_or_visitor_asks
@require_POST
async def again(request: BrandRequest, message_id: UUID) -> HttpResponse:
    """Another answer to the same question, by the same model or the one that is chosen."""
    form = AgainForm(request.POST)
    if not form.is_valid():
        return await _refused(request, Invalid(str(form.errors["provider"][0])), message_id)
    question = Question(model=form.cleaned_data["provider"], branch=Branch(Branch.AGAIN, message_id))
    return await _ask(request, question, message_id)


@member_or_visitor_asks
@require_POST
async def go_on(request: BrandRequest, message_id: UUID) -> HttpResponse:
    """Go on with an answer that was stopped or cut off."""
    return await _ask(request, Question(branch=Branch(Branch.ON, message_id)), message_id)


async def _ask(request: BrandRequest, question: Question, message_id: UUID) -> HttpResponse:
    try:
        begun = await begin(request, question, of=message_id)
    except DomainError as refused:
        return await _refused(request, refused, message_id)
    return await shown(request, begun)


async def begin(request: BrandRequest, question: Question, *, of: UUID) -> Begun:
    """Ask, also when the browser is gone meanwhile; `of` is the message or the chat that the page's button belongs to."""
    runner.accept()
    return await asyncio.shield(_begun(request, question, of))


async def shown(request: BrandRequest, begun: Begun) -> HttpResponse:
    """The thread with what has begun in it, or the way there."""
    assert begun.conversation_id is not None
    if "HX-Request" not in request.headers:
        return HttpResponseRedirect(f"{_chat(begun.conversation_id)}#message-{begun.answer_id}", status=303)
    return await as_asker(request, _thread, request, begun.conversation_id)


async def _begun(request: BrandRequest, question: Question, of: UUID) -> Begun:
    begun = await db(_begin, request, question, of)
    if begun.call is not None:
        runner.start(begun)
    return begun


def _begin(request: BrandRequest, question: Question, of: UUID) -> Begun:
    """A page has one key for all its buttons: with the id of what each is for it is that one's, so a double click is one."""
    given = request.POST.get("idempotency_key", "") or request.headers.get("Idempotency-Key", "")
    key = f"{given[:200]} {of}" if given else ""
    route = question.branch.way if question.branch else "summary" if question.continues else "summarise"
    if UNSTORABLE.search(key):
        raise Invalid(_("An Idempotency-Key is plain text of 1 to 200 characters."))
    if not request.user.is_authenticated:
        return visiting.begin(request, question, key=key, route=route)
    return beginning.begin(member_of(request), request.brand, question, key=key, route=route)


async def _refused(request: BrandRequest, refused: DomainError, message_id: UUID) -> HttpResponse:
    if "HX-Request" in request.headers:
        return await chatting.refused_in_words(request, refused, None)
    found, _told = await as_asker(request, reading.message, message_id)
    return await chatting.refused_in_words(request, refused, found.conversation_id)


@asker
@require_POST
def turn_over(request: BrandRequest, message_id: UUID) -> HttpResponse:
    """Show the version before or after this one, or this one."""
    by = {"-1": -1, "0": 0, "1": 1}.get(request.POST.get("by", ""))
    if by is None:
        raise Invalid(_("The version before is -1, the one after is 1, the message’s own is 0."))
    conversation_id = branches.turn_over(request.principal, message_id, by)
    if "HX-Request" not in request.headers:
        here = "" if by else f"?message={message_id}#message-{message_id}"
        return HttpResponseRedirect(_chat(conversation_id) + here, status=303)
    return _thread(request.principal, request, conversation_id)


@asker
@require_POST
def delete(request: BrandRequest, message_id: UUID) -> HttpResponse:
    withdrawing.delete(request.principal, message_id)
    return _shown(request, message_id, deleted_message_id=message_id)


@asker
@require_POST
def restore(request: BrandRequest, message_id: UUID) -> HttpResponse:
    withdrawing.restore(request.principal, message_id)
    return _shown(request, message_id)


@brand_member
@require_POST
def rate(request: BrandRequest, message_id: UUID) -> HttpResponse:
    rating = {"1": 1, "0": 0, "-1": -1}.get(request.POST.get("rating", ""))
    if rating is None:
        raise Invalid(_("An answer is good, bad or neither: 1, -1 or 0."))
    judging.rate(request.principal, message_id, rating, reason=_text(request, "reason"))
    return _shown(request, message_id)


@brand_member
@require_POST
def correct(request: BrandRequest, message_id: UUID) -> HttpResponse:
    judging.correct(request.principal, message_id, _text(request, "text"))
    return _shown(request, message_id)


def _text(request: HttpRequest, name: str) -> str:
    text = request.POST.get(name, "")
    if UNSTORABLE.search(text):
        raise Invalid(_("The text holds characters that are no text. Paste it as plain text."))
    return text


def _shown(request: BrandRequest, message_id: UUID, **context: Any) -> HttpResponse:
    """The message as it is now."""
    found, told = reading.message(request.principal, message_id)
    if "HX-Request" not in request.headers:
        undo = f"&deleted={message_id}" if context else ""
        here = f"?message={message_id}{undo}#message-{message_id}"
        return HttpResponseRedirect(_chat(found.conversation_id) + here, status=303)
    return HttpResponse(
        render_to_string("conversations/_changed.html", {"message": told, "brand": request.brand, **context}, request)
    )


def _thread(principal: Principal, request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    context = {
        "messages": reading.messages(principal, conversation_id),
        "brand": request.brand,
        "is_visitor": principal.role == "app_visitor",
    }
    return HttpResponse(render_to_string("conversations/_thread.html", context, request))


def _chat(conversation_id: UUID) -> str:
    return reverse("conversations:detail", args=[conversation_id])
