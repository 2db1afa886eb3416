"""Chats as they are taken home: all that their owner may see of them, in the shape of docs/export.md.

Runs in the owner's scope. Nothing that a brand or the house keeps to itself is in it: of a brand's prompt its name, not
its text.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from uuid import UUID

from accounts.models import Brand
from conversations.models import Conversation, Message
from lib import clock
from lib.db import Principal
from providers.models import AIProvider, SystemPrompt

FORMAT, VERSION = "chatsite-chats", 1
AT_ONCE = 25  # chats whose messages are in memory together

Chat = dict[str, Any]
OF_CHAT = (
    *("title", "source", "model", "system_prompt", "settings", "metadata", "message_count", "total_tokens_used"),
    *("total_cost_microusd", "duration_seconds", "estimated_tokens", "usage_metadata", "created_at", "updated_at"),
    *("last_message_at", "archived_at", "pinned_at", "resolved_at"),
)
OF_MESSAGE = (
    *("role", "content", "status", "created_at", "model", "model_name", "tokens_used", "token_usage", "cost_microusd"),
    *("response_time_ms", "function_call", "error_code", "error_detail", "feedback_rating", "was_corrected"),
    "deleted_at",
)
ORIGIN = "imported_from"  # in a chat's metadata: the id that it had where it was first written


def collected(principal: Principal, ids: Sequence[UUID], *, with_bin: bool = False) -> Iterator[Chat]:
    """These chats of the principal's, in this order; what is deleted or another's is left out.

    with_bin  also those that are in the bin
    """
    own = Conversation.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
    if not with_bin:
        own = own.filter(deleted_at=None)
    for start in range(0, len(ids), AT_ONCE):
        some = ids[start : start + AT_ONCE]
        rows = own.in_bulk(some)
        messages = _messages(principal, rows)
        names = _names(rows.values())
        yield from (_chat(rows[id], messages[id], names) for id in some if id in rows)  # noqa: A001


def envelope(brand: Brand, chats: Iterable[Chat]) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "version": VERSION,
        "exported_at": clock.now(),
        "brand": {"slug": brand.slug, "name": brand.name},
        "chats": list(chats),
    }


def path(chat: Chat) -> list[dict[str, Any]]:
    """The messages that are shown, of a chat with all its versions. A deleted one says nothing."""
    return [message for message in chat["messages"] if message["is_current"] and not message["deleted_at"]]


def _messages(principal: Principal, chats: Iterable[UUID]) -> dict[UUID, list[Message]]:
    rows = Message.objects.filter(
        brand_id=principal.brand_id, owner_id=principal.owner_id, conversation_id__in=list(chats)
    )
    found: dict[UUID, list[Message]] = defaultdict(list)
    for row in rows.order_by("conversation_id", "id"):
        found[row.conversation_id].append(row)
    return found


def _names(chats: Iterable[Conversation]) -> dict[UUID | None, str]:
    wanted = {id for chat in chats for id in (chat.provider_id, chat.system_prompt_id) if id}  # noqa: A001
    return {
        **dict(AIProvider.objects.filter(pk__in=wanted).values_list("pk", "name")),
        **dict(SystemPrompt.objects.filter(pk__in=wanted).values_list("pk", "name")),
    }


def _chat(row: Conversation, messages: list[Message], names: dict[UUID | None, str]) -> Chat:
    return {
        "id": row.pk,
        "origin_id": row.metadata.get(ORIGIN) or row.pk,
        "status": row.status,
        **{name: getattr(row, name) for name in OF_CHAT},
        "context": {"type": row.context_type, "id": row.context_id, "label": row.context_label},
        "provider": {"id": row.provider_id, "name": names.get(row.provider_id, "")},
        "prompt": {"id": row.system_prompt_id, "name": names.get(row.system_prompt_id, "")},
        "messages": [_message(message) for message in messages],
    }


def _message(row: Message) -> dict[str, Any]:
    return {
        "id": row.pk,
        "parent_id": row.parent_id,
        "is_current": row.is_current,
        **{name: getattr(row, name) for name in OF_MESSAGE},
        "name": row.metadata.get("name", ""),
        "parts": row.metadata.get("parts"),
        "files": row.files,
        "file_text": row.file_text,
    }
