"""What a model must be able to do to be asked something; what it cannot do is refused, never dropped quietly."""

from collections.abc import Mapping
from typing import Any

from django.utils.translation import gettext as _

from conversations.engine.history import Messages
from lib.errors import Invalid
from providers import calls
from providers.offers import Offer

# Parameters that a protocol does not know are refused, never dropped quietly.
OPENAI_ONLY = {"seed", "frequency_penalty", "presence_penalty", "reasoning_effort", "verbosity"}
UNKNOWN_TO = {
    "openai": {"top_k"},
    "anthropic": OPENAI_ONLY,
    "demo": {"top_k", "response_format", "reasoning_effort", "verbosity"},
}


def require(
    chosen: Offer, params: Mapping[str, Any], tool_choice: str, messages: Messages, said: Messages = ()
) -> None:
    """What this model must be able to do. Raises Invalid, with the field's name as `param`.

    said  what was said before and goes along: nobody can say it otherwise any more
    """
    if unknown := (UNKNOWN_TO[chosen.protocol] | chosen.unknown) & params.keys():
        raise Invalid(
            _("%(model)s does not know %(unknown)s; leave it out.")
            % {"model": chosen.name, "unknown": ", ".join(sorted(unknown))},
            param=min(unknown),
        )
    if chosen.protocol == "anthropic" and (params.get("response_format") or {}).get("type") == "json_object":
        raise Invalid(
            _("%(model)s writes JSON only by a schema: send a response_format of type json_schema.")
            % {"model": chosen.name},
            param="response_format",
        )
    if chosen.protocol == "demo" and tool_choice not in ("", "auto", "none"):
        raise Invalid(
            _("%(model)s never calls a tool, so it cannot be told to.") % {"model": chosen.name}, param="tool_choice"
        )
    if not chosen.image_tokens and calls.has_images(messages):
        raise Invalid(
            _("%(model)s takes no images, only text. Choose another model.") % {"model": chosen.name}, param="messages"
        )
    if not chosen.image_tokens and calls.has_images(said):
        raise Invalid(
            _(
                "There are images in this chat, and %(model)s takes only text. Choose another model, or start a new chat."
            )
            % {"model": chosen.name},
            param="model",
        )
    if chosen.protocol == "anthropic":
        _require_of_anthropic(chosen, params, messages)


def _require_of_anthropic(chosen: Offer, params: Mapping[str, Any], messages: Messages) -> None:
    """What its protocol has no word for, though it would change the answer."""
    if (params.get("temperature") or 0) > 1:
        raise Invalid(_("%(model)s takes a temperature from 0 to 1.") % {"model": chosen.name}, param="temperature")
    for number, message in enumerate(messages):
        if message.get("name"):
            raise Invalid(
                _("%(model)s knows no names of speakers: leave name out, or say it in the text.")
                % {"model": chosen.name},
                param=f"messages[{number}].name",
            )
        parts = message["content"] if isinstance(message["content"], list) else ()
        if any(part["type"] == "image_url" and part["image_url"].get("detail", "auto") != "auto" for part in parts):
            raise Invalid(
                _("%(model)s chooses the detail of a picture itself: leave it out.") % {"model": chosen.name},
                param="detail",
            )
