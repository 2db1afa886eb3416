"""REST for integrators: conversations and messages that are recorded here (docs/doors.md)."""

import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

import orjson
from django.http import HttpResponse

from accounts.access import BrandRequest, api
from conversations.chats import recording
from conversations.doors import fields
from conversations.doors.exchange import as_json
from conversations.doors.fields import BadField
from conversations.models import Message

SCOPE = "messages:record"
MOST_TITLE, MOST_PROMPT, MOST_MODEL, MOST_METADATA_BYTES = 200, 32_000, 80, 16_000
MOST_TOKENS = 10**9  # of one message
SETTINGS: dict[str, tuple[float, float]] = {"temperature": (0, 2), "top_p": (0, 1)}
MOST_MAX_TOKENS = 1_000_000
NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")  # not the six letters of it that somebody wrote


@api("POST", needed=(SCOPE,))
def conversations(request: BrandRequest) -> HttpResponse:
    asked = fields.json_object(request.body)
    fields.known(asked, {"title", "model", "system_prompt", "settings"})
    made = recording.create_conversation_with_quota_check(
        request.principal,
        request.brand,
        title=fields.text("title", asked.get("title") or "New chat", most=MOST_TITLE),
        model=fields.text("model", asked.get("model") or "", most=MOST_MODEL),
        system_prompt=fields.text("system_prompt", asked.get("system_prompt") or "", most=MOST_PROMPT),
        settings=_settings(asked.get("settings")),
        key=request.headers.get("Idempotency-Key", ""),
    )
    return as_json(made, 201)


@api("POST", needed=(SCOPE,))
def messages(request: BrandRequest, conversation_id: UUID) -> HttpResponse:
    asked = fields.json_object(request.body)
    fields.known(asked, {"role", "content", "tokens_used", "model", "metadata"})
    made = recording.add_message_with_quota(
        request.principal,
        request.brand,
        conversation_id,
        role=fields.one_of("role", asked.get("role"), (Message.Role.USER, Message.Role.ASSISTANT, Message.Role.SYSTEM)),
        content=_content(asked.get("content")),
        tokens_used=fields.integer("tokens_used", asked.get("tokens_used", 0), 0, MOST_TOKENS),
        model=fields.text("model", asked.get("model") or "", most=MOST_MODEL),
        metadata=_metadata(asked.get("metadata")),
        key=request.headers.get("Idempotency-Key", ""),
    )
    return as_json(made, 201)


def _content(given: Any) -> str:
    if not (content := fields.text("content", given)).strip():
        raise BadField("content", "content is empty.")
    return content


def _settings(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, Mapping):
        raise BadField("settings", "settings must be an object.")
    fields.known(given, {*SETTINGS, "max_tokens"}, "settings")
    found: dict[str, Any] = fields.numbers(given, SETTINGS)
    if given.get("max_tokens") is not None:
        found["max_tokens"] = fields.integer("settings.max_tokens", given["max_tokens"], 1, MOST_MAX_TOKENS)
    return found


def _metadata(given: Any) -> dict[str, Any]:
    if given is None:
        return {}
    if not isinstance(given, dict):
        raise BadField("metadata", "metadata must be an object.")
    if len(orjson.dumps(given)) > MOST_METADATA_BYTES:
        raise BadField("metadata", f"metadata may have {MOST_METADATA_BYTES:,} bytes at most.")
    if NUL.search(orjson.dumps(given)):
        raise BadField("metadata", "metadata holds a NUL character.")
    return given
