"""What the chat page shows, as plain values: the list of chats, the messages, what is left. Runs in the member's scope."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any
from uuid import UUID

from django.utils.safestring import SafeString
from django.utils.translation import get_language
from django.utils.translation import gettext as _

from accounts import brands
from accounts.models import Brand, Profile
from conversations.chats import listing, places, retention
from conversations.engine import attachments
from conversations.engine.turns import Finished
from conversations.errors import TooLong, TooMuchSaid
from conversations.models import Conversation, Correction, Message, Turn
from lib import clock
from lib.db import Principal, send, serve
from lib.errors import DomainError, NotFound
from lib.html import render
from lib.money import dollars
from lib.sealed import CannotOpen
from providers import order, own_keys
from providers.models import SystemPrompt
from providers.offers import offers
from quotas.decision import Decision, can_user_query
from quotas.errors import QuotaExceeded
from quotas.models import Account, UsageLog
from quotas.standing import account_of
from quotas.words import meter_name, paid, resets

MOST_KEPT, LONGEST_KEPT = 512, 8000  # answers that a process keeps drawn, and characters of one: 20 MB at most
COUNTED = """
select is_counted from conversations_conversation
where id = coalesce(%(chat)s::uuid, (select conversation_id from conversations_message where id = %(answer)s::uuid))
      and brand_id = %(brand)s and owner_id = %(owner)s
"""
MEMORY_BEGINS = """
select t.sent ->> 'memory_begins' as begins
from conversations_message m join conversations_turn t on t.id = m.turn_id
where m.conversation_id = %(conversation)s and m.brand_id = %(brand)s and m.owner_id = %(owner)s
      and m.role = 'assistant' and m.is_current
order by m.id desc limit 1
"""
# Which of its versions each of these messages is, and of how many.
VERSIONS = """
select id, n, of
from (select id, row_number() over beside as n, count(*) over (partition by parent_id) as of
      from conversations_message
      where conversation_id = %(conversation)s
            and (parent_id = any(%(parents)s) or %(has_first)s and parent_id is null)
      window beside as (partition by parent_id order by id)) m
where of > 1 and id = any(%(ids)s)
"""


def own(principal: Principal) -> Any:
    """The member's conversations that can be read: not in the bin, and not over."""
    return listing.owned(principal).filter(retention.readable(principal), deleted_at=None)


def conversation(principal: Principal, conversation_id: UUID) -> Conversation:
    found: Conversation | None = own(principal).filter(pk=conversation_id).first()
    if found is None:
        raise NotFound(_("This chat is not here (any more)."))
    return found


def neighbours(principal: Principal, conversation: Conversation) -> dict[str, Conversation | None]:
    """The chat whose summary this one begins with, and the newest that begins with a summary of this one."""
    readable = own(principal).only("id", "title")
    before = readable.filter(pk=conversation.continues_id).first() if conversation.continues_id else None
    return {"before": before, "after": readable.filter(continues_id=conversation.pk).order_by("-id").first()}


def messages(principal: Principal, conversation_id: UUID, until: UUID | None = None) -> list[dict[str, Any]]:
    """The newest messages on the path that is shown, oldest first, as the page draws them; a running answer with its text
    so far."""
    rows = Message.objects.filter(
        brand_id=principal.brand_id, owner_id=principal.owner_id, conversation_id=conversation_id, is_current=True
    )
    if until:  # an earlier part of a long chat
        rows = rows.filter(pk__lte=until)
    drawn = _drawn(principal, list(rows.defer("file_text", "withdrawn").order_by("-id")[: places.MOST])[::-1])
    begins = _memory_begins(principal, conversation_id) if len(drawn) > 2 else ""
    for row in drawn:
        row["memory_begins"] = str(row["id"]) == begins
    return drawn


def _memory_begins(principal: Principal, conversation_id: UUID) -> str:
    """The first message that went along when the newest answer was asked for, if any was left out."""
    names = {"conversation": conversation_id, "brand": principal.brand_id, "owner": principal.owner_id}
    return "".join(row.begins or "" for row in send((MEMORY_BEGINS, names))[0])


def message(principal: Principal, message_id: UUID) -> tuple[Message, dict[str, Any]]:
    """One message, and how the page draws it. Raises NotFound."""
    found = Message.objects.filter(
        pk=message_id, brand_id=principal.brand_id, owner_id=principal.owner_id, conversation__in=own(principal)
    ).first()
    if found is None:
        raise NotFound(_("This message is not here (any more)."))
    return found, _drawn(principal, [found])[0]


def _drawn(principal: Principal, newest: Sequence[Message]) -> list[dict[str, Any]]:
    answers = [row.turn_id for row in newest if row.role == Message.Role.ASSISTANT and row.turn_id]
    of_answers = Turn.objects.filter(pk__in=answers)
    turns = {turn.message_id: turn for turn in of_answers.only("message_id", "partial", "pocket", "request_id")}
    beyond = owed_for([turn for turn in turns.values() if turn.pocket == "overage"])
    places, corrected, tools = versions(newest), _corrections(principal, newest), _tools(newest)
    found = []
    for row in newest:
        turn = turns.get(row.pk)
        told = (
            shown(row, turn.partial, turn.pocket, beyond.get(turn.pk, 0), turn.request_id)
            if turn is not None
            else shown(row)
        )
        found.append({**told, **places.get(row.pk, {}), **tools.get(row.pk, {}), "correction": corrected.get(row.pk)})
    return found


def _tools(rows: Sequence[Message]) -> dict[UUID, dict[str, Any]]:
    """Of messages in order: which tool each result is of, and which calls have none though something else was said since."""
    names, asked, found = dict[str, str](), dict[str, dict[str, Any]](), dict[UUID, dict[str, Any]]()
    for row in rows:
        function_call = row.function_call or {}
        if row.role == Message.Role.FUNCTION:
            call_id = function_call.get("call_id", "")
            asked.pop(call_id, None)
            found[row.pk] = {"tool": names.get(call_id, "")}
            continue
        for call in asked.values():
            call["is_left_out"] = True
        calls = [dict(call) for call in function_call.get("calls") or ()]
        asked = {call["id"]: call for call in calls}
        names |= {call["id"]: call["name"] for call in calls}
        if calls:
            found[row.pk] = {"calls": calls}
    return found


def versions(rows: Sequence[Message]) -> dict[UUID, dict[str, int]]:
    """Of messages of one conversation that have siblings: which of them each is, {"n", "of"}; one query for all."""
    if not rows:
        return {}
    names = {
        "conversation": rows[0].conversation_id,
        "parents": [row.parent_id for row in rows if row.parent_id],
        "has_first": any(row.parent_id is None for row in rows),
        "ids": [row.pk for row in rows],
    }
    return {row.id: {"n": row.n, "of": row.of} for row in send((VERSIONS, names))[0]}


def _corrections(principal: Principal, rows: Sequence[Message]) -> dict[UUID, Correction]:
    """What their reader said that they should have said, for that reader: no other role may see it."""
    ids = [row.correction_id for row in rows if row.correction_id and principal.role == "app_user"]
    return {found.message_id: found for found in Correction.objects.filter(pk__in=ids)} if ids else {}


def owed_for(turns: Sequence[Turn]) -> dict[UUID, int]:
    """What each of these turns cost its member beyond the plan, in micro-dollars."""
    if not turns:
        return {}
    lines = UsageLog.objects.filter(reservation__in=[turn.pk for turn in turns])
    return dict(lines.values_list("reservation", "total_cost_microusd"))


def owed(principal: Principal, turn_id: UUID) -> int:
    """What this turn of the principal's cost beyond the plan."""
    lines = UsageLog.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id, reservation=turn_id)
    return sum(lines.values_list("total_cost_microusd", flat=True))


def _as_html(content: str) -> SafeString:
    """An answer as HTML. Whoever reads a chat comes back to it, and drawing is most of what its page costs."""
    return _as_html_of_late(content, get_language()) if len(content) <= LONGEST_KEPT else render(content)


@lru_cache(MOST_KEPT)
def _as_html_of_late(content: str, language: str | None) -> SafeString:
    return render(content)


def shown(
    message: Message, partial: str = "", pocket: str = "", owed_microusd: int = 0, request_id: str = ""
) -> dict[str, Any]:
    """One message for `_message.html`."""
    is_answer = message.role == Message.Role.ASSISTANT
    content = message.content or partial
    return {
        "id": message.pk,
        "chat_id": message.conversation_id,
        "role": message.role,
        "content": content,
        "html": _as_html(content) if is_answer and content else "",
        "files": _files(message.files),
        "calls": (message.function_call or {}).get("calls", ()),
        "status": message.status,
        "error": message.error_detail,
        "error_code": message.error_code,
        "request_id": request_id,
        "charged": message.is_charged,
        "model": message.model_name,
        "turn_id": message.turn_id,
        "receipt": _receipt(
            message.model_name,
            message.tokens_used,
            (message.response_time_ms or 0) / 1000,
            message.metadata.get("instead_of", ""),
            paid(pocket, owed_microusd),
        )
        if is_answer and message.is_charged
        else None,
        "is_own_key": pocket == "own_key",
        "is_full": message.token_usage.get("finish_reason") == "length",
        "is_deleted": message.deleted_at is not None,
        "rating": message.feedback_rating,
        "created_at": message.created_at,
    }


def progress(principal: Principal, turn_id: UUID) -> tuple[str, dict[str, Any]]:
    """How far an answer has come, as stored: its text, and its message as the page draws it, its HTML when it has ended."""
    turn = Turn.objects.filter(pk=turn_id, brand_id=principal.brand_id, owner_id=principal.owner_id).first()
    message = Message.objects.filter(pk=turn.message_id).first() if turn and turn.message_id else None
    if turn is None or message is None:
        raise NotFound(_("This answer is not here (any more)."))
    is_running = message.status == Message.Status.PENDING
    beyond = owed(principal, turn_id) if turn.pocket == "overage" else 0
    told = shown(message, "" if is_running else turn.partial, turn.pocket, beyond, turn.request_id)
    place = versions([message]).get(message.pk, {})
    return message.content or turn.partial, {**told, **place}


def question(message_id: UUID, text: str, files: Sequence[Mapping[str, Any]] = ()) -> dict[str, Any]:
    """A question that was just stored."""
    return {"id": message_id, "role": "user", "content": text, "status": "done", "files": _files(files)}


def _files(files: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    return [{**file, "about": attachments.about(file)} for file in files]


def pending(message_id: UUID, turn_id: UUID, model_name: str) -> dict[str, Any]:
    """An answer that has just begun."""
    return {
        "id": message_id,
        "role": "assistant",
        "status": "pending",
        "turn_id": turn_id,
        "model": model_name,
        "html": "",
    }


def ended(
    message_id: UUID,
    model_name: str,
    finished: Finished,
    instead_of: str = "",
    pocket: str = "",
    owed_microusd: int = 0,
    versions: int = 1,
    request_id: str = "",
    chat_id: UUID | None = None,
) -> dict[str, Any]:
    """An answer that has just ended, without asking the database for what the runner knows.

    instead_of  name of the model that was asked first, when another one answered
    versions    of this answer; it is the newest
    """
    tokens = finished.prompt_tokens + finished.completion_tokens
    return {
        "id": message_id,
        "chat_id": chat_id,
        "role": "assistant",
        "content": finished.text,
        "html": _as_html(finished.text) if finished.text else "",
        "calls": finished.tool_calls,
        "status": finished.status,
        "error": finished.error_detail,
        "error_code": finished.error_code,
        "request_id": request_id,
        "charged": finished.is_charged,
        "model": model_name,
        "receipt": _receipt(model_name, tokens, finished.seconds, instead_of, paid(pocket, owed_microusd))
        if finished.is_charged
        else None,
        "is_own_key": pocket == "own_key",
        "is_full": finished.finish_reason == "length",
        "n": versions,
        "of": versions,
    }


def _receipt(model_name: str, tokens: int, seconds: float, instead_of: str, payer: str) -> dict[str, Any]:
    return {"model": model_name, "tokens": tokens, "seconds": seconds, "instead_of": instead_of, "paid": payer}


def choices(principal: Principal, own: Collection[UUID] = ()) -> dict[str, Any]:
    """What the selectors offer; `own` are the models that the member's own keys pay for."""
    offered = offers("chat", own=own, without=brands.by_id(principal.brand_id).withheld_models)
    prompts = SystemPrompt.objects.filter(brand_id=principal.brand_id, is_active=True)
    return {
        "providers": [
            {
                "id": row.id,
                "name": row.name,
                "description": row.description,
                "is_demo": row.protocol == "demo",
                "is_own_key": row.id in own,
            }
            for row in order.in_order(principal.brand_id, offered)
        ],
        "prompts": list(prompts.values("id", "name", "description")),
    }


def decide(principal: Principal, brand: Brand, *, chat: UUID | None = None, answer: UUID | None = None) -> Decision:
    """What the next question would meet in a chat, also the one of this answer; without either, in a new one.

    Outside of any scope: the service decides.
    """
    names = {"brand": principal.brand_id, "owner": principal.owner_id, "chat": chat, "answer": answer}
    is_counted = any(row.is_counted for row in serve((COUNTED, names))[0]) if chat or answer else False
    amounts = {"queries": 1, "messages": 1, "conversations": int(not is_counted), "tokens": 1}
    return can_user_query(brand, asker=(Account.Kind.USER.value, principal.owner_id), amounts=amounts)


def meters(decision: Decision, brand: Brand, now: datetime | None = None) -> list[dict[str, Any]]:
    """The member's own meters, for the foot of the sidebar; "0 of 0" of what the plan does not include says nothing."""
    now = now or clock.now()
    return [
        {
            "label": _("Questions today")
            if (row.meter, row.window) == ("queries", "day")
            else meter_name(row.meter).capitalize(),
            "used": row.used + row.held,
            "limit": row.limit,
            "left": row.left,
            "percent": row.percent,
            "level": "full" if row.percent >= 100 else "high" if row.percent >= 80 else "",
            "resets": resets(row.resets_at, brand.zone, now),
            "unlimited": row.limit is None,
            "instead": decision.detail if decision.can_query and not row.left and row.meter == decision.unit else "",
        }
        for row in decision.meters
        if row.limit != 0
    ]


def note(refused: DomainError | None, conversation_id: UUID | None = None) -> dict[str, Any]:
    """Why nothing can be asked now, and the ways on, for `_note.html`; what will pass by itself needs no note."""
    if isinstance(refused, own_keys.OwnKeyRefused | CannotOpen):
        return {"ways": ["keys"]}
    if isinstance(refused, TooLong | TooMuchSaid):
        return {"ways": ["summary", "new_chat"], "chat_id": conversation_id} if conversation_id else {}
    if refused is None or refused.status != QuotaExceeded.status:
        return {}
    cost = refused.extra.get("overage_price_microusd")
    return {
        "note_error": refused.detail,
        "ways": refused.extra["ways"],
        "overage_price": dollars(cost) if cost else "",
        "is_capped": refused.extra["reason"] == "own_cap_reached",
    }


def member(principal: Principal, brand: Brand, standing: str, email: str) -> Mapping[str, Any]:
    profile = Profile.objects.filter(user_id=principal.owner_id).first()
    name = (profile and profile.full_name) or email.split("@")[0]
    account = account_of(brand, kind=Account.Kind.USER, owner_id=principal.owner_id)
    return {
        "name": name,
        "email": email,
        "initials": "".join(word[0] for word in name.split()[:2]).upper() or "?",
        "avatar_url": profile.avatar_url if profile else "",
        "role": standing,
        "plan_name": account.plan_name if account else "",
        "keeping": retention.keeping_of(account, brand),
    }
