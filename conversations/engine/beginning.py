"""The first half of a turn's life in the database: the question is stored, and what its answer may cost is held.

begin() is at most nine statements in three short transactions, the session's two included.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any
from uuid import UUID

import orjson
from django.db import IntegrityError
from django.utils.translation import gettext as _

from accounts import idempotency, limits
from accounts.keys import READ
from accounts.models import Brand
from conversations.engine import attachments, paying
from conversations.engine.preparing import (
    MOST_EXCHANGE,
    MOST_HISTORY,
    MOST_HISTORY_BYTES,
    MOST_SUMMARISED,
    PROMPT_MARGIN,
    prepare,
)
from conversations.engine.statements import (
    ANSWER,
    ASKED,
    BEGIN,
    BEGIN_UNSTORED,
    BEGUN_AND_SAID,
    EXCHANGE,
    HANDED,
    LOAD,
    LOAD_AFTER,
    LOAD_BESIDE,
    LOAD_BESIDE_FOR_VISITOR,
    LOAD_FOR_VISITOR,
    NEW_CONVERSATION,
    NEW_CONVERSATION_OF_VISITOR,
    OLD_CONVERSATION,
    QUESTION,
    SAID,
    SAME_CONVERSATION,
    SHOW,
    VISITOR,
)
from conversations.engine.turns import Begun, Question
from conversations.errors import StillAnswering
from events import stream
from lib import clock
from lib.db import Principal, Statement, opening, scope, send
from lib.errors import Conflict
from lib.faults import fault
from lib.ids import uuid7
from lib.logs import request_id
from providers import own_keys
from providers.offers import Offer, known
from quotas import ledger, refusals
from quotas.errors import QuotaExceeded, TooManyRunning


def begin(
    principal: Principal,
    brand: Brand,
    question: Question,
    *,
    key: str = "",
    route: str = "send",
    also: Iterable[tuple[str, UUID]] = (),
) -> Begun:
    """Store the question and its empty answer, hold what it may cost, and give what the runner needs.

    also    accounts that must have room beside the asker's, as ledger.reserve() takes them
    key     the caller's Idempotency-Key; the same key gives the same turn, with `call` None
    Raises  QuotaExceeded, TooManyRunning, TooManyCalls, NoSuchModel, NotFound, StillAnswering, TooLong, Conflict,
            KeyReused; nothing is held then, and nothing is stored
    """
    turn_id, calls_a_minute = uuid7(), None
    if question.messages is not None and not (key or question.after or question.conversation_id):
        ready = prepare(principal, question, turn_id, None, paying.keys_of(principal))
    else:
        names = {
            "brand": principal.brand_id,
            "owner": principal.owner_id,
            "conversation": question.conversation_id or question.continues,
            "after": question.after,
            "beside": question.branch and question.branch.message_id,
            "prompt": question.prompt_id,
            "most": MOST_EXCHANGE
            if question.messages is not None
            else MOST_SUMMARISED
            if question.continues
            else MOST_HISTORY,
            "most_bytes": MOST_HISTORY_BYTES,
            "only_key": None if principal.may(READ) else principal.key_id,
        }
        load = LOAD_BESIDE if question.branch else LOAD_AFTER if question.after else LOAD
        if principal.role == "app_visitor":
            load = LOAD_BESIDE_FOR_VISITOR if question.branch else LOAD_FOR_VISITOR
        files = attachments.loading(principal, question.attachments)
        with opening(principal, (load, names), *files) as (loaded, *attached):
            if key:
                asked = question.fingerprint()
                turn_id, first = idempotency.claim(principal, route=route, key=key, request_hash=asked)
                if first is not None:
                    return _again(principal, turn_id, first)
            keys = None if principal.for_brand else loaded[0].own_keys
            ready = prepare(principal, question, turn_id, loaded[0], keys, *attached)
            calls_a_minute = loaded[0].calls_a_minute
    fault("after_claim")
    try:
        if calls_a_minute is not None and not principal.is_counted:
            _count(principal, calls_a_minute)
        pocket = ledger.reserve(
            brand,
            asker=principal.payer,
            amounts={"queries": 1, "messages": 1, "conversations": int(ready.opens), "tokens": ready.held_tokens},
            reservation=turn_id,
            own_key=ready.own_key is not None,
            also=(*also, *_person(principal)),
        )
        fault("after_reserve")
        ready = replace(ready, pocket=pocket)
        _store(ready, question)
    except BaseException as error:
        told = str(error) if isinstance(error, IntegrityError) else ""
        if "conversations_turn_pkey" in told:  # the first request was slow, not dead: the hold is its own
            raise Conflict(_("The same request is being worked on. Ask again in a moment."), retry_after=1) from error
        if not isinstance(error, QuotaExceeded | TooManyRunning):
            ledger.settle(turn_id, amounts={}, reason="not begun")
        if key:
            with scope(principal):
                idempotency.release(turn_id)
        if isinstance(error, QuotaExceeded):
            refusals.tell(brand, principal.owner_id, error)
        if "one after the other" in told:
            raise Conflict(
                _("Something else was asked in this chat at the same moment. Look at it, and send again."),
                retry_after=1,
            ) from error
        if "one_running_turn" in told:
            raise StillAnswering(
                _("An answer is still being written in this chat. Wait for it, or stop it first."), retry_after=2
            ) from error
        raise
    return ready


def _person(principal: Principal) -> tuple[tuple[str, UUID], ...]:
    """Beside a brand that pays: whose turn it is, who must see its hold to begin it."""
    return (("user", principal.owner_id),) if principal.for_brand else ()


def _count(principal: Principal, most: int) -> None:
    """One question of the member's plan, which says how many in a minute. Raises TooManyCalls."""
    _left, full = limits.count([limits.of_person(principal.brand_id, principal.owner_id, most)])
    if full:
        raise limits.refuse(full, "person")


def begin_embedding(
    principal: Principal, brand: Brand, chosen: Offer, *, prompt_tokens: int, keys: Mapping[str, Any] | None = None
) -> Begun:
    """Hold what an embedding may cost. Its turn carries nothing but the bill: should we die, the reaper gives it back.

    keys    the asker's own, as paying.keys_of() gave them when the model was chosen
    Raises  as begin() does; nothing is held then
    """
    own_key = own_keys.paying(principal, chosen, keys)
    ready = Begun(
        turn_id=uuid7(),
        principal=principal,
        offer=chosen,
        call=None,
        held_tokens=int(prompt_tokens * PROMPT_MARGIN) + 1,
        prompt_tokens=prompt_tokens,
        started_at=clock.now(),
        own_key=own_key,
    )
    amounts = {"queries": 1, "messages": 0, "conversations": 0, "tokens": ready.held_tokens}
    try:
        pocket = ledger.reserve(
            brand,
            asker=principal.payer,
            amounts=amounts,
            reservation=ready.turn_id,
            own_key=own_key is not None,
            also=_person(principal),
        )
        ready = replace(ready, pocket=pocket)
        _store(ready, Question())
    except BaseException as error:
        if not isinstance(error, QuotaExceeded | TooManyRunning):
            ledger.settle(ready.turn_id, amounts={}, reason="not begun")
        if isinstance(error, QuotaExceeded):
            refusals.tell(brand, principal.owner_id, error)
        raise
    return ready


def _store(ready: Begun, question: Question) -> None:
    names: dict[str, Any] = {
        "turn": ready.turn_id,
        "brand": ready.principal.brand_id,
        "owner": ready.principal.owner_id,
        "provider": ready.offer.id,
        "key": ready.principal.key_id,
        "prompt_tokens": ready.prompt_tokens,
        "held_tokens": ready.held_tokens,
        "pocket": ready.pocket,
        "request": request_id.get(),
    }
    sql = BEGIN_UNSTORED
    if ready.conversation_id:
        assert ready.call is not None
        is_page = question.messages is None
        is_again = is_page and ready.question_id is None
        by_visitor = ready.principal.role == "app_visitor"
        said_last = {"id": ready.question_id, "role": "user"} if ready.question_id else next(reversed(ready.said), None)
        new = NEW_CONVERSATION_OF_VISITOR if by_visitor else NEW_CONVERSATION
        sql = BEGIN.format(
            before=VISITOR if by_visitor and ready.is_new else "",
            conversation=new if ready.is_new else SAME_CONVERSATION if is_again else OLD_CONVERSATION,
            said=EXCHANGE if not is_page else ANSWER if is_again else QUESTION,
            beside=(HANDED if question.attachments else "")
            + (BEGUN_AND_SAID if ready.is_new else SAID if said_last else ""),
        )
        sent = {"history": ready.history, "max_tokens": ready.call.max_tokens, "params": dict(ready.call.params)}
        if ready.memory_begins:
            sent["memory_begins"] = ready.memory_begins
        body = {
            "conversation_id": ready.conversation_id,
            "question_id": ready.question_id,
            "answer_id": ready.answer_id,
        }
        if not is_page:
            answer: dict[str, Any] = {
                "id": ready.answer_id,
                "turn_id": ready.turn_id,
                "role": "assistant",
                "content": "",
            }
            answer |= {"status": "pending", "function_call": None, "metadata": {}}
            said = [*ready.said, answer]
            parents = [None, *(row["id"] for row in said)]
            names["said"] = _json([{**row, "parent_id": parent} for row, parent in zip(said, parents, strict=False)])
            sent |= {"tool_choice": question.tool_choice, "asked": dict(question.asked)}
        if not is_page or ready.call.tools:
            sent["tools"] = [dict(tool) for tool in ready.call.tools]
        names |= {
            "conversation": ready.conversation_id,
            "question": ready.question_id,
            "answer": ready.answer_id,
            "parent": ready.parent_id,
            "edited": question.branch and question.branch.message_id,
            "partial": ready.so_far,
            "title": ready.title[:200],
            "text": question.text,
            "files": _json(ready.files),
            "file_text": ready.file_text,
            "attachments": list(question.attachments),
            "metadata": _json(dict(question.metadata)),
            "messages": 2 - is_again if is_page else len(ready.said) + 1,
            "settings": _json(dict(question.settings)),
            "own_prompt": question.own_prompt,
            "context_type": question.about.type,
            "context_id": question.about.id,
            "context_label": question.about.label,
            "continues": question.continues,
            "model": ready.offer.api_identifier,
            "model_name": ready.offer.name,
            "prompt": ready.prompt_id,
            "source": "api" if ready.principal.key_id else "website",
            "sent": _json(sent),
            "body": _json({**body, "provider_id": ready.offer.id, "title": ready.title}),
        }
        if ready.is_new:
            _subject, news = stream.publishing(
                ready.principal.brand_id,
                "conversation.started",
                subject=("conversation", ready.conversation_id),
                owner_id=ready.principal.owner_id,
                data={"source": names["source"], "model": names["model"]},
            )
            names |= news
        if said_last:
            _subject, news = stream.publishing(
                ready.principal.brand_id,
                "message.created",
                subject=("message", UUID(str(said_last["id"]))),
                owner_id=ready.principal.owner_id,
                data={"conversation_id": str(ready.conversation_id), "role": said_last["role"]},
            )
            names |= {f"said_{name}": value for name, value in news.items()}
    begun: list[Statement] = [(sql, names)]
    if question.branch:
        begun.append((SHOW, {"conversation": ready.conversation_id, "leaf": ready.answer_id}))
    with opening(ready.principal, *begun, key=ready.turn_id) as (stored, *_more):  # the reaper takes the same key
        if not stored:
            raise Conflict(_("This could not be begun in time, so nothing was asked. Send it again."), retry_after=1)


def _again(principal: Principal, turn_id: UUID, body: Mapping[str, Any]) -> Begun:
    """What the same request began before, in the open scope; its model is the one that answered, offered still or not."""
    (row,) = send((ASKED, {"turn": turn_id}))[0]
    return Begun(
        turn_id=turn_id,
        principal=principal,
        offer=known()[row.provider_id],
        call=None,
        held_tokens=0,
        prompt_tokens=0,
        started_at=clock.now(),
        conversation_id=UUID(body["conversation_id"]),
        question_id=UUID(body["question_id"]) if body["question_id"] else None,
        answer_id=UUID(body["answer_id"]),
        title=body["title"],
        is_new=False,
        instead_of=row.instead_of or "",
        attempts=row.attempts,
    )


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
