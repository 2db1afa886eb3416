"""A chat that is too long: a summary is asked for, as one question, in the chat itself or as the first of a new one."""

from dataclasses import replace
from uuid import UUID

from django import forms
from django.http import HttpResponse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_POST

from accounts.access import BrandRequest, as_asker, as_member, member_or_visitor_asks
from conversations.chats import pending, reading
from conversations.engine import tuning
from conversations.engine.tuning import UNSTORABLE
from conversations.engine.turns import Question
from conversations.forms import MOST_CHARACTERS
from conversations.pages import chatting, message_acts
from lib.db import Principal, db
from lib.errors import DomainError, Invalid, NotAuthenticated


class SummaryForm(forms.Form):
    """`text` is what stands in the composer: it goes along to the new chat, and waits there."""

    into = forms.ChoiceField(choices=[("here", "here"), ("new", "new")], required=False)
    text = forms.CharField(max_length=MOST_CHARACTERS, required=False)
    provider = forms.UUIDField(
        required=False, error_messages={"invalid": gettext_lazy("Choose a model from the list.")}
    )
    owner = forms.UUIDField(required=False)


@member_or_visitor_asks
@require_POST
async def summarise(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    form = SummaryForm(request.POST)
    try:
        if not form.is_valid():
            raise Invalid(str(next(iter(form.errors.values()))[0]))
        if form.cleaned_data["into"] == "new":
            return await _start_anew(request, conversation_id, form)
        question = await as_asker(request, _here, conversation_id)
        return await message_acts.shown(request, await message_acts.begin(request, question, of=conversation_id))
    except DomainError as refused:
        return await chatting.refused_in_words(request, refused, conversation_id)


def _here(principal: Principal, conversation_id: UUID) -> Question:
    reading.conversation(principal, conversation_id)
    text = _(
        "Summarise our conversation so far, so that we can go on from your summary: what I wanted, what was decided, "
        "which facts and figures matter, and what is still open."
    )
    return Question(text=text, conversation_id=conversation_id)


async def _start_anew(request: BrandRequest, conversation_id: UUID, form: SummaryForm) -> HttpResponse:
    """Begin a chat with a summary of this one; what was written and not sent waits in its composer."""
    question = await as_member(request, _anew, conversation_id)
    owner, text = form.cleaned_data["owner"], form.cleaned_data["text"]
    if owner and owner != request.user.pk:
        raise NotAuthenticated(_("Your session is over. Sign in again; your text is kept."))
    if UNSTORABLE.search(text):
        raise Invalid(_("The text holds characters that are no text. Paste it as plain text."))
    question = replace(question, model=form.cleaned_data["provider"] or question.model)
    begun = await message_acts.begin(request, question, of=conversation_id)
    if text.strip() and begun.call is not None and begun.conversation_id is not None:
        await db(pending.lay_aside, begun.principal, begun.conversation_id, text)
    return await message_acts.shown(request, begun)


def _anew(principal: Principal, conversation_id: UUID) -> Question:
    """With the model, the prompt and the settings of the chat that it continues."""
    before = reading.conversation(principal, conversation_id)
    text = _(
        "Summarise our chat “%(title)s”, so that we can go on here from your summary: what I wanted, what was decided, "
        "which facts and figures matter, and what is still open."
    ) % {"title": before.title}
    return Question(
        text=text,
        continues=before.pk,
        model=before.provider_id,
        prompt_id=before.system_prompt_id,
        settings=before.settings,
        own_prompt=before.system_prompt,
        about=tuning.about(before),
    )
