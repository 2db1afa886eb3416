"""Rows as programs are told of them: by REST, and by realtime."""

from typing import Any

from conversations.models import Conversation, Message


def conversation_as_told(row: Conversation) -> dict[str, Any]:
    return {
        "id": row.pk,
        "title": row.title,
        "model": row.model,
        "status": row.status,
        "archived": row.archived_at is not None,
        "pinned": row.pinned_at is not None,
        "settings": row.settings,
        "context": {"type": row.context_type, "id": row.context_id, "label": row.context_label}
        if row.context_type
        else None,
        "message_count": row.message_count,
        "total_tokens_used": row.total_tokens_used,
        "total_cost_microusd": row.total_cost_microusd,
        "created_at": row.created_at,
        "updated_at": row.updated_at,
        "last_message_at": row.last_message_at,
    }


def message_as_told(row: Message) -> dict[str, Any]:
    return {
        "id": row.pk,
        "chat_id": row.conversation_id,
        "role": row.role,
        "content": row.content,
        "status": row.status,
        "function_call": row.function_call,
        "ai_provider_id": row.provider_id,
        "system_prompt_id": row.system_prompt_id,
        "model": row.model,
        "token_usage": row.token_usage or None,
        "tokens_used": row.tokens_used,
        "created_at": row.created_at,
    }
