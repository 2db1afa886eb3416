"""What the composer shows: the models and prompts there are, which of them are picked, and what the next question costs."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID, uuid4

from conversations.chats import reading, starters
from conversations.engine import attachments, tuning
from knowledge import kinds
from lib.db import Principal
from lib.errors import Invalid
from quotas import words


def form(principal: Principal, conversation: Any, own: frozenset[UUID]) -> dict[str, Any]:
    """What `_composer.html` needs; `own` are the models that the member's own keys pay for. In the open scope."""
    offered = reading.choices(principal, own)
    provider_ids = [row["id"] for row in offered["providers"]]
    prompt_ids = [row["id"] for row in offered["prompts"]]
    provider_id = getattr(conversation, "provider_id", None)
    prompt_id = getattr(conversation, "system_prompt_id", None)
    return {
        **offered,
        "provider_id": provider_id if provider_id in provider_ids else next(iter(provider_ids), None),
        "prompt_id": prompt_id if prompt_id in prompt_ids else next(iter(prompt_ids), None),
        **(_files(principal, conversation) if principal.role == "app_user" else {}),
        "tuning": tuning.shown(conversation),
        "about": tuning.about(conversation) if conversation else None,
        "idempotency_key": uuid4(),
        "draft": "",
        "error": "",
    }


def _files(principal: Principal, conversation: Any) -> dict[str, Any]:
    """What waits for the next question, and what may be attached; a visitor attaches nothing."""
    return {
        "chips": attachments.chips(principal, getattr(conversation, "pk", None)),
        "most_files": attachments.MOST_FILES,
        "most_megabytes": attachments.MOST_BYTES // 1024**2,
        "accepted": kinds.ACCEPTED,
    }


def opened(principal: Principal, query: Mapping[str, str]) -> dict[str, Any]:
    """What a page of a new chat shows beside: starters, and what its link says it is about or begins with."""
    cards = starters.offered(principal)
    begun = next((card for card in cards if str(card.id) == query.get("template")), None)
    found: dict[str, Any] = {"starters": cards[: starters.CARDS], "draft": begun.text if begun else ""}
    try:
        return found | {"about": tuning.linked(query)}
    except Invalid as refused:
        return found | {"error": refused.detail}


def prices(with_plan: str) -> dict[str, str]:
    """What the composer says of the next question: which of the two, the model that is picked decides."""
    return {"plan": with_plan, "own": str(words.WITH_OWN_KEY)}
