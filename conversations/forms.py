"""What a person may send. Everything else about a message (brand, owner, tokens, price) is decided by the server."""

import re
from typing import Any
from uuid import UUID

from django import forms
from django.utils.translation import gettext_lazy as _

from conversations.attachments import MOST_FILES
from conversations.turns import Question

MOST_CHARACTERS = 100_000
UNSTORABLE = re.compile("[\x00\ud800-\udfff]")


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


class QuestionForm(forms.Form):
    text = forms.CharField(
        max_length=MOST_CHARACTERS,
        strip=True,
        error_messages={
            "required": "Write something first.",
            "max_length": f"This is longer than {MOST_CHARACTERS:,} characters. Shorten it; your text is kept.",
        },
    )
    provider = forms.UUIDField(required=False, error_messages={"invalid": "Choose a model from the list."})
    prompt = forms.UUIDField(required=False, error_messages={"invalid": "Choose a prompt from the list."})
    attachment = FileIds(required=False)
    idempotency_key = forms.CharField(max_length=255, required=False)

    def clean_text(self) -> str:
        text: str = self.cleaned_data["text"]
        if UNSTORABLE.search(text):
            raise forms.ValidationError("The text holds characters that are no text. Paste it as plain text.")
        return text

    def question(self, conversation_id: UUID | None) -> Question:
        return Question(
            text=self.cleaned_data["text"],
            conversation_id=conversation_id,
            model=self.cleaned_data["provider"],
            prompt_id=self.cleaned_data["prompt"],
            attachments=self.cleaned_data["attachment"],
        )

    @property
    def first_error(self) -> str:
        return next(str(errors[0]) for errors in self.errors.values())
