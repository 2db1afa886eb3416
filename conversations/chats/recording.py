"""What integrators record here of talks that went on elsewhere, with token counts of their own (scope `messages:record`).

The tokens of an assistant's message are charged, those of any other are only stored (Q-26); what a program says of money
is not asked for. What is charged and what it is charged for are stored in one transaction.
"""

from collections.abc import Callable, Mapping
from typing import Any
from uuid import UUID

from django.db.models import F
from django.db.models.functions import Now

from accounts import idempotency
from accounts.models import Brand
from conversations.models import Conversation, Message
from events import stream
from lib import clock
from lib.db import SERVICE, Principal, Statement, opening, scope, send
from lib.errors import NotFound
from lib.ids import uuid7
from providers.offers import known
from quotas import ledger, refusals, usage
from quotas.errors import QuotaExceeded
from quotas.models import UsageLog

# An empty pool is seen before the talk begins; the one token is given back at once.
A_CONVERSATION = {"conversations": 1, "messages": 0, "queries": 0, "tokens": 1}
OF_PURPOSE = {
    "conversation": (UsageLog.Type.CONVERSATION, "recorded"),
    "message": (UsageLog.Type.MESSAGE, "recorded"),
    "query": (UsageLog.Type.API_CALL, "tracked"),
}


def create_conversation_with_quota_check(
    principal: Principal,
    brand: Brand,
    *,
    title: str,
    model: str = "",
    system_prompt: str = "",
    settings: Mapping[str, Any] | None = None,
    key: str = "",
) -> dict[str, Any]:
    """Begin a conversation that is recorded: one of the plan's, where the plan counts them. Returns what REST tells.

    settings  temperature, top_p, max_tokens: checked, because a question that is asked here later takes them
    key       the caller's Idempotency-Key; the same key gives the same conversation
    Raises    QuotaExceeded, TooManyRunning, Conflict, KeyReused; nothing is stored then
    Source    S0 create_conversation_with_quota_check(), S2 check_conversation_limit()
    """
    asked = idempotency.fingerprint(title, model, system_prompt, sorted((settings or {}).items()))

    def store(conversation_id: UUID) -> dict[str, Any]:
        told = stream.publishing(
            brand.pk,
            "conversation.started",
            subject=("conversation", conversation_id),
            owner_id=principal.owner_id,
            data={"source": "api", "model": model},
        )
        charged = {"conversations": 1}
        _charge(
            principal, brand, conversation_id, charged, told, holds=A_CONVERSATION, purpose="conversation", model=model
        )
        made = Conversation.objects.create(
            pk=conversation_id,
            brand=brand,
            owner_id=principal.owner_id,
            title=title,
            model=model,
            provider_id=next(
                (row.id for row in known().values() if row.api_identifier == model and row.is_active), None
            ),
            system_prompt=system_prompt,
            settings=dict(settings or {}),
            source=Conversation.Source.API,
            last_message_at=Now(),
        )
        made.refresh_from_db()
        return {
            "id": str(made.pk),
            "title": made.title,
            "model": made.model,
            "system_prompt": made.system_prompt,
            "settings": made.settings,
            "created_at": made.created_at.isoformat(),
        }

    return _once(principal, brand, store, route="conversations", key=key, asked=asked)


def add_message_with_quota(
    principal: Principal,
    brand: Brand,
    conversation_id: UUID,
    *,
    role: str,
    content: str,
    tokens_used: int,
    model: str = "",
    metadata: Mapping[str, Any] | None = None,
    function_call: Mapping[str, Any] | None = None,
    key: str = "",
) -> dict[str, Any]:
    """Record one message. An assistant's counts as one message of the plan and as `tokens_used` tokens.

    metadata       the caller's own, told again as it is; nothing here reads it
    function_call  of an assistant {"calls": [{"id", "name", "arguments"}]}, which tools it called; of a function
                   {"call_id"}, whose result `content` is. The next question of this conversation tells models of both
    key            the caller's Idempotency-Key; the same key gives the same message
    Raises    NotFound for a conversation that is not the caller's; QuotaExceeded, TooManyRunning, Conflict, KeyReused;
              nothing is stored or charged then
    Source    S0 add_message_with_quota()
    """
    is_charged = role == Message.Role.ASSISTANT
    told = (conversation_id, role, content, tokens_used, model, repr(metadata))
    asked = idempotency.fingerprint(*told, repr(function_call)) if function_call else idempotency.fingerprint(*told)

    def store(message_id: UUID) -> dict[str, Any]:
        here = Conversation.objects.filter(
            pk=conversation_id, brand=brand, owner_id=principal.owner_id, deleted_at=None
        ).update(
            message_count=F("message_count") + 1,
            total_tokens_used=F("total_tokens_used") + tokens_used,
            last_message_at=Now(),
            updated_at=Now(),
        )
        if not here:  # deleted since it was looked for
            raise _no_such()
        told = stream.publishing(
            brand.pk,
            "message.created",
            subject=("message", message_id),
            owner_id=principal.owner_id,
            data={"conversation_id": str(conversation_id), "role": role},
        )
        if is_charged:
            amounts = {"messages": 1, "tokens": tokens_used}
            _charge(
                principal,
                brand,
                message_id,
                amounts,
                told,
                purpose="message",
                model=model,
                completion_tokens=tokens_used,
            )
        else:
            send(told)
        made = Message.objects.create(
            pk=message_id,
            brand=brand,
            owner_id=principal.owner_id,
            conversation_id=conversation_id,
            role=role,
            content=content,
            model=model,
            model_name=model,
            tokens_used=tokens_used,
            is_charged=is_charged,
            metadata={"recorded": dict(metadata or {})},
            function_call=dict(function_call) if function_call else None,
        )
        return {
            "id": str(message_id),
            "conversation_id": str(conversation_id),
            "role": role,
            "tokens_used": tokens_used,
            "is_charged": is_charged,
            "model": model,
            "metadata": dict(metadata or {}),
            **({"function_call": dict(function_call)} if function_call else {}),
            "created_at": made.created_at.isoformat(),
        }

    return _once(principal, brand, store, route="messages", key=key, asked=asked, within=conversation_id)


def track_query_usage(
    principal: Principal,
    brand: Brand,
    *,
    model: str = "",
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
    key: str = "",
) -> dict[str, Any]:
    """Charge one question that was asked elsewhere, as one that is asked here: from the plan, a pack, or as overage.

    key     the caller's Idempotency-Key; the same key is charged once
    Raises  QuotaExceeded, TooManyRunning, Conflict, KeyReused; nothing is charged then
    Source  S1 track_query_usage()
    """
    asked = idempotency.fingerprint(model, prompt_tokens, completion_tokens)
    used = {"queries": 1, "messages": 1, "tokens": prompt_tokens + completion_tokens}

    def store(row_id: UUID) -> dict[str, Any]:
        pocket = _charge(
            principal,
            brand,
            row_id,
            used,
            purpose="query",
            model=model,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        )
        return {
            "id": str(row_id),
            "pocket": pocket,
            "model": model,
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "created_at": clock.now().isoformat(),
        }

    return _once(principal, brand, store, route="queries", key=key, asked=asked)


def _once(
    principal: Principal,
    brand: Brand,
    store: Callable[[UUID], dict[str, Any]],
    *,
    route: str,
    key: str,
    asked: str,
    within: UUID | None = None,
) -> dict[str, Any]:
    """Store under an id that belongs to the caller's key, and keep the answer in the same transaction."""
    row_id = uuid7()
    with scope(principal):
        if within and not Conversation.objects.filter(pk=within, owner_id=principal.owner_id, deleted_at=None).exists():
            raise _no_such()
        if key:
            row_id, first = idempotency.claim(principal, route=f"record {route}", key=key, request_hash=asked)
            if first is not None:
                return first
    try:
        with opening(SERVICE):
            body = store(row_id)
            if key:
                idempotency.keep(row_id, body, status=201)
        return body
    except BaseException as error:
        if key:
            with scope(principal):
                idempotency.release(row_id)
        if isinstance(error, QuotaExceeded):
            refusals.tell(brand, principal.owner_id, error)
        raise


def _charge(
    principal: Principal,
    brand: Brand,
    row_id: UUID,
    amounts: Mapping[str, int],
    *told: Statement,
    purpose: str,
    model: str,
    holds: Mapping[str, int] | None = None,
    prompt_tokens: int = 0,
    completion_tokens: int = 0,
) -> str:
    """Hold, settle and write down one use that is over already. Returns the pocket that paid it; `told` goes along.

    holds  what there must be room for, where it is more than is charged
    """
    asked = holds or {"queries": 0, "messages": 0, "conversations": 0, **amounts}
    pocket = ledger.reserve(brand, asker=principal.payer, amounts=asked, reservation=row_id, purpose=purpose)
    usage_type, reason = OF_PURPOSE[purpose]
    send(
        ledger.settling(row_id, amounts=amounts, reason=reason),
        usage.logging(
            brand.pk,
            principal.owner_id,
            usage_type=usage_type,
            reservation=row_id,
            pocket=pocket,
            model=model,
            prompt_tokens=prompt_tokens,
            completion_tokens=completion_tokens,
        ),
        *told,
    )
    return pocket


def _no_such() -> NotFound:
    return NotFound("There is no such conversation here (any more).")
