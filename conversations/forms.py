"""What a person may send. Everything else about a message (brand, owner, tokens, price) is decided by the server."""

from dataclasses import replace
from typing import Any
from uuid import UUID

from django import forms
from django.utils.functional import lazy
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from conversations.engine import tuning
from conversations.engine.attachments import MOST_FILES
from conversations.engine.tuning import UNSTORABLE, TuningForm
from conversations.engine.turns import Question
from lib.errors import Invalid
from lib.figures import grouped

MOST_CHARACTERS = 100_000


class FileIds(forms.Field):
    """Ids of files that were attached, in the order in which they were."""

    widget = forms.MultipleHiddenInput

    def clean(self, value: Any) -> tuple[UUID, ...]:
        if len(value or ()) > MOST_FILES:
            raise forms.ValidationError(_("%(most)s files are the most for one question."), params={"most": MOST_FILES})
        try:
            return tuple(dict.fromkeys(UUID(one) for one in value or ()))
        except ValueError:
            raise forms.ValidationError(_("One of the files is not here any more. Attach it again.")) from None


def _too_long() -> str:
    told = {"most": grouped(MOST_CHARACTERS)}
    return gettext("This is longer than %(most)s characters. Shorten it; your text is kept.") % told


class QuestionForm(TuningForm):
    """A question, and of a new chat also its settings and what it is about: an old one keeps its own."""

    text = forms.CharField(
        max_length=MOST_CHARACTERS,
        strip=True,
        error_messages={
            "required": _("Write something first."),
            "max_length": lazy(_too_long, str)(),
        },
    )
    provider = forms.UUIDField(required=False, error_messages={"invalid": _("Choose a model from the list.")})
    prompt = forms.UUIDField(required=False, error_messages={"invalid": _("Choose a prompt from the list.")})
    attachment = FileIds(required=False)
    owner = forms.UUIDField(required=False)  # whom the page was drawn for; nobody's word is taken for it
    idempotency_key = forms.CharField(max_length=255, required=False)
    context_type = forms.CharField(required=False)
    context_id = forms.CharField(required=False)
    context_label = forms.CharField(required=False)

    def clean_text(self) -> str:
        text: str = self.cleaned_data["text"]
        if UNSTORABLE.search(text):
            raise forms.ValidationError(_("The text holds characters that are no text. Paste it as plain text."))
        return text

    def clean(self) -> None:
        super().clean()
        try:
            about = tuning.context(*(self.cleaned_data.get(f"context_{name}", "") for name in ("type", "id", "label")))
        except Invalid as refused:
            raise forms.ValidationError(refused.detail) from refused
        self.cleaned_data["about"] = about

    def question(self, conversation_id: UUID | None) -> Question:
        asked = Question(
            text=self.cleaned_data["text"],
            conversation_id=conversation_id,
            model=self.cleaned_data["provider"],
            prompt_id=self.cleaned_data["prompt"],
            attachments=self.cleaned_data["attachment"],
        )
        if conversation_id:
            return asked
        own = {"own_prompt": self.cleaned_data["system_prompt"], "about": self.cleaned_data["about"]}
        return replace(asked, settings=self.settings(), **own)
