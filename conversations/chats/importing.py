"""Chats that come back: what export gave (docs/export.md), as new rows of whoever brings it.

A file is somebody's word and no more. Nothing of it counts as used or paid, names a model that is not here, or becomes a
second copy: where a chat began is part of its new id, so bringing it twice, or from two windows at once, changes nothing.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid5

from django.utils.dateparse import parse_datetime
from django.utils.translation import gettext as _

from conversations.chats.export import unwrapping
from conversations.chats.export.chats import ORIGIN
from conversations.engine import attachments
from conversations.models import Conversation, Message
from events import activity
from lib import clock
from lib.db import Principal, opening, send
from lib.errors import Invalid, TooLarge
from lib.html import plain
from lib.ids import uuid7
from providers.offers import offers

MOST_MESSAGES, MOST_LETTERS = 5000, 1_000_000  # in a chat, in a message
MOST_PROMPT = 32_000  # letters of its instructions, as of a conversation that a program records
MOST_IN_ALL = 50_000  # messages of a file: one transaction stores them all
HOME = UUID("5f1f7a2e-8a54-4b0e-9d52-6f2f0f7ac5b1")  # of ids that are made of where a chat began
ROLES, STATES = set(Message.Role.values), {"done", "stopped", "failed", "interrupted"}
SETTINGS = {"temperature": (0, 2), "top_p": (0, 1), "max_tokens": (1, 1_000_000)}

OF_MESSAGES = """
update conversations_message t set created_at = u.created_at
from unnest(%(ids)s::uuid[], %(created)s::timestamptz[]) u(id, created_at) where t.id = u.id
"""
OF_CHATS = """
update conversations_conversation t set created_at = u.created_at, last_message_at = u.used_at, updated_at = u.used_at
from unnest(%(ids)s::uuid[], %(created)s::timestamptz[], %(used)s::timestamptz[]) u(id, created_at, used_at)
where t.id = u.id
"""


@dataclass(slots=True)
class Brought:
    new: int = 0
    known: int = 0  # here already, in the bin perhaps


def bring(principal: Principal, content: bytes) -> Brought:
    """Store the chats of a file that are not here yet, in the principal's scope: all of them or none.

    One chat at a time is in memory; one file at a time for each person, so that another window finds what this one stored.
    Raises  NotAnExport, TooLarge, Invalid, which names the chat that is wrong
    """
    models = {offer.api_identifier: offer for offer in offers("chat")}
    brought, total = Brought(), 0
    stored: list[tuple[datetime, datetime, UUID]] = []  # last message, begun, id
    with opening(principal, key=principal.owner_id):
        own = Conversation.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
        for number, chat in enumerate(unwrapping.chats(content), 1):
            try:
                conversation, messages = _read(principal, chat, models)
                began = {conversation.pk, UUID(str(chat["id"])), UUID(conversation.metadata[ORIGIN])}
            except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
                raise Invalid(
                    _("Chat %(number)d of this file cannot be read, so nothing was stored.") % {"number": number}
                ) from error
            total += len(messages)
            if total > MOST_IN_ALL:
                raise TooLarge(_("A file may hold up to 50,000 messages. Export fewer chats at a time."))
            if own.filter(pk__in=began).exists():
                brought.known += 1
            else:
                stored.append(_store(conversation, messages))
                brought.new += 1
        if stored:
            _date(stored)
            activity.record(
                principal.brand_id,
                "chats.imported",
                actor_id=principal.owner_id,
                resource=("conversation", None),
                changes={"chats": brought.new},
            )
    return brought


def _date(stored: Sequence[tuple[datetime, datetime, UUID]]) -> None:
    """Bringing a chat is using it: by its own age the next sweep might delete it. The order among them stays."""
    now, by_age = clock.now(), sorted(stored, reverse=True)
    names = {
        "ids": [chat_id for _at, _begun, chat_id in by_age],
        "created": [begun for _at, begun, _chat_id in by_age],
        "used": [now - timedelta(milliseconds=rank) for rank in range(len(by_age))],
    }
    send((OF_CHATS, names))


def _read(
    principal: Principal, chat: Mapping[str, Any], models: Mapping[str, Any]
) -> tuple[Conversation, list[Message]]:
    origin = UUID(str(chat.get("origin_id") or chat["id"]))
    conversation = Conversation(
        id=uuid5(HOME, f"{principal.brand_id}{principal.owner_id}{origin}"),
        brand_id=principal.brand_id,
        owner_id=principal.owner_id,
        title=plain(_text(chat["title"], 1000), 200) or _("Imported chat"),
        system_prompt=_prompt(chat.get("system_prompt", "")),
        settings=_settings(chat.get("settings") or {}),
        metadata={ORIGIN: str(origin)},
        is_counted=False,  # its plan was charged nothing for it
        created_at=_moment(chat["created_at"]),
        last_message_at=_moment(chat.get("last_message_at") or chat["created_at"]),
        archived_at=_moment(chat["archived_at"]) if chat.get("archived_at") else None,
        **{f"context_{name}": _text((chat.get("context") or {}).get(name, ""), most) for name, most in CONTEXT.items()},
    )
    if offer := models.get(str(chat.get("model"))):
        conversation.model, conversation.provider_id = offer.api_identifier, offer.id
    messages = _messages(conversation, chat["messages"])
    conversation.message_count = sum(message.is_current for message in messages)
    return conversation, messages


def _prompt(given: Any) -> str:
    """Instructions that were cut would say something else, so those that are too long are refused."""
    if len(found := _text(given, MOST_LETTERS)) > MOST_PROMPT:
        raise ValueError("too long")
    return found


CONTEXT = {"type": 40, "id": 120, "label": 200}


def _messages(conversation: Conversation, given: Any) -> list[Message]:
    if not isinstance(given, list) or len(given) > MOST_MESSAGES:
        raise ValueError("messages")
    ids: dict[str, UUID] = {}
    found: list[Message] = []
    for each in given:
        if each["role"] not in ROLES:
            raise ValueError("role")
        parent = ids.get(str(each.get("parent_id")))
        if each.get("parent_id") is None and found and "parent_id" not in each:
            parent = found[-1].pk  # a file without versions
        row = Message(
            id=uuid7(),
            brand_id=conversation.brand_id,
            owner_id=conversation.owner_id,
            conversation=conversation,
            role=each["role"],
            content=_text(each["content"], MOST_LETTERS),
            status=each.get("status") if each.get("status") in STATES else "done",
            error_detail=_text(each.get("error_detail", ""), 500),
            model_name=_text(each.get("model_name", ""), 80),
            function_call=_function_call(each.get("function_call")),
            files=attachments.brought(each.get("files") or ()),
            file_text=_text(each.get("file_text") or "", MOST_LETTERS),
            parent_id=parent,
            # Another version of the first question: without a word of what it was, the database would hang it on the end.
            edited_from_id=found[0].pk if found and parent is None else None,
            is_current=each.get("is_current", True) is True,
            deleted_at=_moment(each["deleted_at"]) if each.get("deleted_at") else None,
            created_at=_moment(each["created_at"]),
        )
        ids[str(each["id"])] = row.pk
        found.append(row)
    _make_one_path(found)
    return found


def _make_one_path(messages: list[Message]) -> None:
    """The path that is shown is one: from the last message that says so back to the first."""
    by_id = {message.pk: message for message in messages}
    leaf = next((message for message in reversed(messages) if message.is_current), messages[-1] if messages else None)
    path = set()
    while leaf is not None:
        path.add(leaf.pk)
        leaf = by_id.get(leaf.parent_id) if leaf.parent_id else None
    for message in messages:
        message.is_current = message.pk in path


def _store(conversation: Conversation, messages: list[Message]) -> tuple[datetime, datetime, UUID]:
    begun, last = conversation.created_at, conversation.last_message_at
    written = [message.created_at for message in messages]
    Conversation.objects.bulk_create([conversation])
    Message.objects.bulk_create(messages, batch_size=500)
    send((OF_MESSAGES, {"ids": [message.pk for message in messages], "created": written}))
    assert last is not None  # _read() gave it one
    return last, begun, conversation.pk


def _text(given: Any, most: int) -> str:
    """What PostgreSQL stores: no NUL, no halves of pairs; too much is cut where it would only be a label."""
    if not isinstance(given, str):
        raise TypeError("text")
    if len(given) > most >= MOST_LETTERS:
        raise ValueError("too long")
    return given.replace("\0", "\ufffd").encode("utf-8", "replace").decode()[:most]


def _moment(given: Any) -> datetime:
    """As the file says, but never later than now: retention counts from it."""
    found = parse_datetime(given)
    if found is None or found.tzinfo is None or found.year < 1970:
        raise ValueError("time")
    return min(found, clock.now())


def _settings(given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: given[name]
        for name, (least, most) in SETTINGS.items()
        if type(given.get(name)) in ((int,) if name == "max_tokens" else (int, float)) and least <= given[name] <= most
    }


def _function_call(given: Any) -> dict[str, Any] | None:
    """Calls of tools and their results, in the one shape that history replays."""
    if given is None:
        return None
    if "call_id" in given:
        return {"call_id": _text(given["call_id"], 200)}
    names = {"id": 200, "name": 200, "arguments": 100_000}
    return {"calls": [{name: _text(call[name], most) for name, most in names.items()} for call in given["calls"]]}
