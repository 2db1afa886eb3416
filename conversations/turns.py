"""The life of a turn in the database: begin, checkpoint, finish. What runs in between stands in runner.py.

begin() is at most nine statements in three short transactions, the session's two included; finish() is one transaction
and may be called any number of times, by the runner and by the reaper: the first one counts.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.db import IntegrityError

from accounts import idempotency
from accounts.models import Brand
from conversations.charging import charge
from conversations.errors import StillAnswering, TooLong
from conversations.statements import (
    BEGIN,
    BEGIN_UNSTORED,
    CHECKPOINT,
    ENDED,
    FINISH,
    LOAD,
    NEW_CONVERSATION,
    OLD_CONVERSATION,
    UNWELCOME,
)
from events import stream
from lib import clock
from lib.db import SERVICE, Principal, opening, scope, serve
from lib.errors import Conflict, DomainError, Invalid, NotFound
from lib.faults import fault
from lib.html import plain
from lib.ids import uuid7
from lib.logs import request_id
from providers import calls
from providers.calls import Call, Usage
from providers.offers import Offer, offer
from providers.shapes import clean
from quotas import ledger
from quotas.errors import QuotaExceeded, TooManyRunning

log = logging.getLogger(__name__)

OPENAI_ONLY = {"seed", "frequency_penalty", "presence_penalty"}  # refused elsewhere, never dropped quietly
MOST_HISTORY = 400  # messages read back at most; what does not fit into the model's window is dropped anyway
PROMPT_MARGIN = 1.25  # the hold leans upwards: an estimate may be 6 % low for code or Chinese

Messages = tuple[dict[str, Any], ...]


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks, already validated.

    model     id or api_identifier; None = the conversation's, else the first one offered
    messages  a program's whole exchange, which is then neither stored nor looked up; None = `text` in a conversation
    """

    text: str = ""
    conversation_id: UUID | None = None
    model: UUID | str | None = None
    prompt_id: UUID | None = None
    messages: Messages | None = None
    max_tokens: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Begun:
    """A turn that is stored and held, and may now run. `call` is None when the same request had begun it before."""

    turn_id: UUID
    principal: Principal
    offer: Offer
    call: Call | None
    held_tokens: int
    prompt_tokens: int
    started_at: datetime
    conversation_id: UUID | None = None
    question_id: UUID | None = None
    answer_id: UUID | None = None
    prompt_id: UUID | None = None
    history: Sequence[str] = ()  # ids of the messages sent along
    title: str = ""
    is_new: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """How a turn ended, as it stands in the database. Tokens are what was charged; all 0 when nothing had arrived."""

    status: str
    text: str
    is_charged: bool
    prompt_tokens: int
    completion_tokens: int
    cost_microusd: int
    finish_reason: str
    error_code: str
    error_detail: str
    seconds: float


def begin(principal: Principal, brand: Brand, question: Question, *, key: str = "", route: str = "send") -> Begun:
    """Store the question and its empty answer, hold what it may cost, and give what the runner needs.

    key     the caller's Idempotency-Key; the same key gives the same turn, with `call` None
    Raises  QuotaExceeded, TooManyRunning, NoSuchModel, NotFound, StillAnswering, TooLong, Conflict, KeyReused; nothing
            is held then, and nothing is stored
    """
    turn_id = uuid7()
    if question.messages is not None:
        ready = _prepare(principal, question, turn_id, None)
    else:
        names = {"conversation": question.conversation_id, "prompt": question.prompt_id, "most": MOST_HISTORY}
        with opening(principal, (LOAD, names)) as (loaded,):
            if key:
                asked = idempotency.fingerprint(
                    question.text, question.conversation_id, question.model, question.prompt_id
                )
                turn_id, first = idempotency.claim(principal, route=route, key=key, request_hash=asked)
                if first is not None:
                    return _again(principal, turn_id, first)
            ready = _prepare(principal, question, turn_id, loaded[0])
    fault("after_claim")
    try:
        ledger.reserve(
            brand,
            asker=("visitor" if principal.role == "app_visitor" else "user", principal.owner_id),
            amounts={"queries": 1, "messages": 1, "conversations": int(ready.is_new), "tokens": ready.held_tokens},
            reservation=turn_id,
        )
        fault("after_reserve")
        _store(ready, question)
    except BaseException as error:
        told = str(error) if isinstance(error, IntegrityError) else ""
        if "conversations_turn_pkey" in told:  # the first request was slow, not dead: the hold is its own
            raise Conflict("The same request is being worked on. Ask again in a moment.", retry_after=1) from error
        if not isinstance(error, QuotaExceeded | TooManyRunning):
            ledger.settle(turn_id, amounts={}, reason="not begun")
        if key:
            with scope(principal):
                idempotency.release(turn_id)
        if "one_running_turn" in told:
            raise StillAnswering(
                "An answer is still being written in this chat. Wait for it, or stop it first."
            ) from error
        raise
    return ready


def _prepare(principal: Principal, question: Question, turn_id: UUID, loaded: Any) -> Begun:
    settings: dict[str, Any] = {}
    title, is_new, system = "", False, ""
    model, prompt_id, conversation_id = question.model, question.prompt_id, question.conversation_id
    if loaded:
        if conversation_id and loaded.id is None:
            raise NotFound("This chat is not here (any more).")
        is_new = conversation_id is None
        conversation_id = conversation_id or uuid7()
        title = loaded.title or plain(question.text) or "New chat"
        model, prompt_id = model or loaded.provider_id, prompt_id or loaded.system_prompt_id
        if prompt_id and loaded.prompt_text is None:
            raise NotFound("This prompt is not offered here (any more). Choose another one.")
        settings, system = loaded.settings or {}, loaded.system_prompt or loaded.prompt_text or ""
    chosen = offer(model)
    if chosen.protocol == "anthropic" and (unknown := OPENAI_ONLY & question.params.keys()):
        names = ", ".join(sorted(unknown))
        raise Invalid(f"{chosen.name} does not know {names}; leave it out.", param=min(unknown))
    max_tokens = min(question.max_tokens or settings.get("max_tokens") or chosen.max_tokens, chosen.max_tokens)
    if question.messages is not None:
        messages: Messages = question.messages
        history_ids: list[str] = []
    else:
        room = chosen.context_window - max_tokens
        messages, history_ids = _fit(system, loaded.history, question.text, room)
    prompt_tokens = calls.estimate_tokens(messages)
    if prompt_tokens + max_tokens > chosen.context_window:
        raise TooLong(
            f"This is too long for {chosen.name}: about {prompt_tokens:,} tokens. Shorten it; your text is kept."
        )
    return Begun(
        turn_id=turn_id,
        principal=principal,
        offer=chosen,
        call=Call(
            protocol=chosen.protocol,
            model=chosen.model,
            messages=messages,
            max_tokens=max_tokens,
            base_url=chosen.base_url,
            params={
                **chosen.params,
                **{name: settings[name] for name in ("temperature", "top_p") if name in settings},
                **question.params,
            },
        ),
        held_tokens=int(prompt_tokens * PROMPT_MARGIN) + max_tokens,
        prompt_tokens=prompt_tokens,
        started_at=clock.now(),
        conversation_id=conversation_id,
        question_id=uuid7() if question.messages is None else None,
        answer_id=uuid7() if question.messages is None else None,
        prompt_id=UUID(str(prompt_id)) if prompt_id else None,
        history=history_ids,
        title=title,
        is_new=is_new,
    )


def _fit(
    system: str, history: Sequence[Mapping[str, Any]], text: str, budget_tokens: int
) -> tuple[Messages, list[str]]:
    """The messages that fit, oldest whole turns dropped first; the system prompt and the question always stay."""
    first = [{"role": "system", "content": system}] if system else []
    last = {"role": "user", "content": text}
    left = budget_tokens - calls.estimate_tokens([*first, last])
    kept: list[Mapping[str, Any]] = []
    for message in reversed([row for row in history if row["role"] in ("user", "assistant")]):
        left -= calls.estimate_tokens([message])
        if left < 0:
            break
        kept.insert(0, message)
    while kept and kept[0]["role"] != "user":
        kept.pop(0)
    said = [{"role": row["role"], "content": row["content"]} for row in kept]
    return (*first, *said, last), [row["id"] for row in kept]


def _store(ready: Begun, question: Question) -> None:
    assert ready.call is not None
    names: dict[str, Any] = {
        "turn": ready.turn_id,
        "brand": ready.principal.brand_id,
        "owner": ready.principal.owner_id,
        "provider": ready.offer.id,
        "key": ready.principal.key_id,
        "prompt_tokens": ready.prompt_tokens,
        "held_tokens": ready.held_tokens,
        "request": request_id.get(),
    }
    sql = BEGIN_UNSTORED
    if ready.conversation_id:
        sql = BEGIN.format(conversation=NEW_CONVERSATION if ready.is_new else OLD_CONVERSATION)
        sent = {"history": ready.history, "max_tokens": ready.call.max_tokens, "params": dict(ready.call.params)}
        body = {
            "conversation_id": ready.conversation_id,
            "question_id": ready.question_id,
            "answer_id": ready.answer_id,
        }
        names |= {
            "conversation": ready.conversation_id,
            "question": ready.question_id,
            "answer": ready.answer_id,
            "title": ready.title[:200],
            "text": question.text,
            "model": ready.offer.api_identifier,
            "model_name": ready.offer.name,
            "prompt": ready.prompt_id,
            "source": "api" if ready.principal.key_id else "website",
            "sent": _json(sent),
            "body": _json({**body, "provider_id": ready.offer.id, "title": ready.title}),
        }
    with opening(ready.principal, (sql, names), key=ready.turn_id) as (stored,):  # the reaper takes the same key
        if not stored:
            raise Conflict("This could not be begun in time, so nothing was asked. Send it again.", retry_after=1)


def _again(principal: Principal, turn_id: UUID, body: Mapping[str, Any]) -> Begun:
    return Begun(
        turn_id=turn_id,
        principal=principal,
        offer=offer(UUID(body["provider_id"])),
        call=None,
        held_tokens=0,
        prompt_tokens=0,
        started_at=clock.now(),
        conversation_id=UUID(body["conversation_id"]),
        question_id=UUID(body["question_id"]),
        answer_id=UUID(body["answer_id"]),
        title=body["title"],
        is_new=False,
    )


def finish(
    turn_id: UUID,
    *,
    status: str,
    text: str,
    usage: Usage | None = None,
    error: DomainError | None = None,
    offer: Offer,
    own_prompt_tokens: int,
    own_completion_tokens: int,
    held_tokens: int,
    started_at: datetime,
) -> Finished | None:
    """End a turn: text, charge, bill and news in one transaction, exactly once. None = it had ended before.

    own_completion_tokens  our count of what arrived; 0 = nothing did, so nothing is charged
    """
    due = charge(
        usage,
        own_prompt_tokens=own_prompt_tokens,
        own_completion_tokens=own_completion_tokens,
        held_tokens=held_tokens,
    )
    cost = offer.cost_microusd(due.prompt_tokens, due.completion_tokens)
    seconds = max(0.0, (clock.now() - started_at).total_seconds())
    finished = Finished(
        status=status,
        text=text,
        is_charged=own_completion_tokens > 0,
        prompt_tokens=due.prompt_tokens,
        completion_tokens=due.completion_tokens,
        cost_microusd=cost,
        finish_reason=usage.finish_reason if usage else "",
        error_code=error.code if error else "",
        error_detail=error.detail[:500] if error else "",
        seconds=seconds,
    )
    names = {
        "turn": turn_id,
        "status": status,
        "text": text,
        "completion_tokens": due.completion_tokens,
        "is_charged": finished.is_charged,
        "tokens": due.tokens,
        "cost": cost,
        "usage": _json(
            {"prompt_tokens": due.prompt_tokens, "completion_tokens": due.completion_tokens, "source": due.source}
        ),
        "ms": min(int(seconds * 1000), 2**31 - 1),
        "error_code": finished.error_code,
        "error_detail": finished.error_detail,
    }
    used = {"queries": 1, "messages": 1, "conversations": 1, "tokens": due.tokens} if finished.is_charged else {}
    settling = ledger.settling(turn_id, amounts=used, cost_microusd=cost, reason=status)
    # A turn that had ended before was settled with its end, so the second statement then finds nothing to settle.
    with opening(SERVICE, (FINISH, names), settling) as (ended, settled):
        fault("in_finish")
        if not ended:
            return None
        if finished.is_charged and not settled:
            log.error("turn %s is charged, but its hold was gone: nothing stands in the ledger", turn_id)
        brand_id, owner_id, conversation_id, message_id = ended[0]
        if due.excess_tokens:
            ledger.charge_house(brand_id, tokens=due.excess_tokens, reservation=turn_id)
        data = {
            "status": status,
            "model": offer.api_identifier,
            "tokens": due.tokens,
            "cost_microusd": cost,
            "ms": names["ms"],
            "conversation_id": conversation_id and str(conversation_id),
        }
        if due.is_odd and usage:
            told = list(usage.raw.items())[:8]
            data["usage_anomaly"] = {clean(str(name))[:40]: clean(str(value))[:40] for name, value in told}
        kind, subject_id = ("message", message_id) if message_id else ("turn", turn_id)
        stream.publish(
            brand_id,
            f"{kind}.{'completed' if finished.is_charged else 'failed'}",
            subject=(kind, subject_id),
            owner_id=owner_id,
            data=data,
        )
    return finished


def as_ended(turn_id: UUID, *, text: str) -> Finished | None:
    """How a turn ended that somebody else ended, or that we did without hearing of it. None = it still runs.

    text  what is said of an answer that is not stored
    """
    with opening(SERVICE, (ENDED, {"turn": turn_id})) as (rows,):
        if not rows:
            return None
        row = rows[0]
    return Finished(
        status=row.status,
        text=text if row.content is None else row.content,
        is_charged=row.is_charged,
        prompt_tokens=row.prompt_tokens or 0,
        completion_tokens=row.produced_tokens,
        cost_microusd=row.cost_microusd or 0,
        finish_reason="",
        error_code=row.error_code,
        error_detail=row.error_detail or "",
        seconds=0,
    )


def checkpoint(changes: Sequence[tuple[UUID, str | None, int]]) -> set[UUID]:
    """Heartbeat of every live turn of this process, and the text of those that grew: one statement.

    changes  (turn, text so far or None when it did not grow or is not kept, tokens produced by own count)
    Returns  the turns that still run; one that is missing was ended by the reaper, and must not go on
    """
    ids, texts, tokens = zip(*changes, strict=True)
    statement = (CHECKPOINT, {"ids": list(ids), "texts": list(texts), "tokens": list(tokens)})
    return {row.id for row in serve(statement, lazily=True)[0]}


def unwelcome(turn_ids: Sequence[UUID]) -> list[UUID]:
    """Those of these running turns whose asker left the brand, or whose key is not in force any more (I-08, I-11)."""
    with opening(SERVICE, (UNWELCOME, {"ids": list(turn_ids)})) as (rows,):
        return [row.id for row in rows]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
