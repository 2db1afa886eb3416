"""The life of a turn in the database: begin, checkpoint, finish. What runs in between stands in runner.py.

begin() is at most nine statements in three short transactions, the session's two included; finish() is one transaction
and may be called any number of times, by the runner and by the reaper: the first one counts.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson
from django.db import IntegrityError

from accounts import idempotency
from accounts.keys import READ
from accounts.models import Brand
from conversations import history, paying
from conversations.charging import charge
from conversations.errors import StillAnswering, TooLong
from conversations.history import Messages
from conversations.statements import (
    ASK_TO_STOP,
    ASKED,
    BEGIN,
    BEGIN_UNSTORED,
    CHECKPOINT,
    ENDED,
    EXCHANGE,
    FINISH,
    HAND_OVER,
    KEEP,
    LOAD,
    LOAD_AFTER,
    LOAD_FOR_VISITOR,
    NEW_CONVERSATION,
    OLD_CONVERSATION,
    QUESTION,
    UNWELCOME,
)
from events import stream
from lib import clock, metrics
from lib.db import SERVICE, Principal, Statement, opening, scope, send, serve
from lib.errors import Conflict, DomainError, Invalid, NotFound, TooLarge
from lib.faults import fault
from lib.ids import uuid7
from lib.logs import request_id
from providers import breaker, calls, fallback, own_keys
from providers.calls import Call, Usage
from providers.models import ProviderKey
from providers.offers import Offer, known, offer
from providers.shapes import clean
from quotas import ledger, refusals
from quotas import usage as usage_log
from quotas.errors import QuotaExceeded, TooManyRunning

log = logging.getLogger(__name__)

# Parameters that a protocol does not know are refused, never dropped quietly.
OPENAI_ONLY = {"seed", "frequency_penalty", "presence_penalty", "reasoning_effort", "verbosity"}
UNKNOWN_TO = {
    "openai": {"top_k"},
    "anthropic": OPENAI_ONLY,
    "demo": {"top_k", "response_format", "reasoning_effort", "verbosity"},
}
MOST_HISTORY = 400  # messages read back at most; what does not fit into the model's window is dropped anyway
MOST_EXCHANGE = 4000  # of a program's, where nothing is dropped unless it says so
MOST_HISTORY_BYTES = 16 * 1024**2  # of either: pictures are large, and a fork copies them
TOOLS_TOKENS = 600  # held for what a vendor says around tools; Anthropic's words for them are up to 500
PROMPT_MARGIN = 1.25  # the hold leans upwards: an estimate may be 6 % low for code or Chinese


@dataclass(frozen=True, slots=True)
class Question:
    """What somebody asks, already validated.

    model        id or api_identifier; None = the conversation's, else the first one offered
    messages     what a program says, in the shape of providers.Call; None = a page's `text` in a conversation
    after        the turn whose answer a program continues; with `conversation_id` it continues that one's end
    system       a program's instructions for this answer; no later one has them
    is_stored    keep a program's messages and the answer as a conversation of its person
    is_fitted    drop the oldest messages of a program's conversation that do not fit, instead of refusing
    metadata     of a program, for the conversation
    asked        what a program said beside, kept with a stored turn to be told again
    """

    text: str = ""
    conversation_id: UUID | None = None
    model: UUID | str | None = None
    prompt_id: UUID | None = None
    messages: Messages | None = None
    max_tokens: int | None = None
    params: Mapping[str, Any] = field(default_factory=dict)
    tools: tuple[Mapping[str, Any], ...] = ()
    tool_choice: str = ""
    after: UUID | None = None
    system: str = ""
    is_stored: bool = False
    is_fitted: bool = False
    metadata: Mapping[str, Any] = field(default_factory=dict)
    asked: Mapping[str, Any] = field(default_factory=dict)

    def fingerprint(self) -> str:
        """What makes two requests with one Idempotency-Key the same."""
        if self.messages is None:
            return idempotency.fingerprint(self.text, self.conversation_id, self.model, self.prompt_id)
        return idempotency.fingerprint(self)


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
    said: Sequence[Mapping[str, Any]] = ()  # rows of what a program said, to be stored
    title: str = ""
    is_new: bool = False
    opens: bool = False  # it costs one of the plan's conversations: none of this chat's answers has cost it yet
    params: Mapping[str, Any] = field(default_factory=dict)  # what was asked for, without the model's own defaults
    instead_of: str = ""  # name of the model that was asked first and could not answer
    attempts: Sequence[Mapping[str, Any]] = ()  # of a turn that was begun before: its calls that failed
    pocket: str = ""  # what pays for it, as reserve() said
    own_key: ProviderKey | None = None  # the member's, sealed: the vendor is paid with it, and nobody else is asked
    own_models: frozenset[UUID] = frozenset()  # all that the member's own keys pay for


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
    tool_calls: Sequence[Mapping[str, str]] = ()  # {"id", "name", "arguments"}
    cached_tokens: int = 0  # of the prompt's
    reasoning_tokens: int = 0  # of the answer's
    stop_sequence: str = ""  # the one that ended it, where the vendor says so


def begin(principal: Principal, brand: Brand, question: Question, *, key: str = "", route: str = "send") -> Begun:
    """Store the question and its empty answer, hold what it may cost, and give what the runner needs.

    key     the caller's Idempotency-Key; the same key gives the same turn, with `call` None
    Raises  QuotaExceeded, TooManyRunning, NoSuchModel, NotFound, StillAnswering, TooLong, Conflict, KeyReused; nothing
            is held then, and nothing is stored
    """
    turn_id = uuid7()
    if question.messages is not None and not (key or question.after or question.conversation_id):
        ready = _prepare(principal, question, turn_id, None, paying.keys_of(principal))
    else:
        names = {
            "brand": principal.brand_id,
            "owner": principal.owner_id,
            "conversation": question.conversation_id,
            "after": question.after,
            "prompt": question.prompt_id,
            "most": MOST_HISTORY if question.messages is None else MOST_EXCHANGE,
            "most_bytes": MOST_HISTORY_BYTES,
            "only_key": None if principal.may(READ) else principal.key_id,
        }
        load = LOAD_FOR_VISITOR if principal.role == "app_visitor" else LOAD_AFTER if question.after else LOAD
        with opening(principal, (load, names)) as (loaded,):
            if key:
                asked = question.fingerprint()
                turn_id, first = idempotency.claim(principal, route=route, key=key, request_hash=asked)
                if first is not None:
                    return _again(principal, turn_id, first)
            ready = _prepare(principal, question, turn_id, loaded[0], loaded[0].own_keys)
    fault("after_claim")
    try:
        pocket = ledger.reserve(
            brand,
            asker=("visitor" if principal.role == "app_visitor" else "user", principal.owner_id),
            amounts={"queries": 1, "messages": 1, "conversations": int(ready.opens), "tokens": ready.held_tokens},
            reservation=turn_id,
            own_key=ready.own_key is not None,
        )
        fault("after_reserve")
        ready = replace(ready, pocket=pocket)
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
        if isinstance(error, QuotaExceeded):
            refusals.tell(brand, principal.owner_id, error)
        if "one_running_turn" in told:
            raise StillAnswering(
                "An answer is still being written in this chat. Wait for it, or stop it first."
            ) from error
        raise
    return ready


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
            asker=("user", principal.owner_id),
            amounts=amounts,
            reservation=ready.turn_id,
            own_key=own_key is not None,
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


def _prepare(
    principal: Principal, question: Question, turn_id: UUID, loaded: Any, keys: Mapping[str, Any] | None
) -> Begun:
    settings: dict[str, Any] = {}
    title, system, rows = "", question.system, []
    model, prompt_id, conversation_id = question.model, question.prompt_id, question.conversation_id
    is_page = question.messages is None
    if loaded:
        if (conversation_id or question.after) and loaded.id is None:
            raise _no_such(question)
        if question.after and loaded.after_status == "pending":
            raise StillAnswering("The answer that this continues is still being written. Wait for it.")
        if loaded.history is None:
            raise TooLarge(
                f"This conversation holds more than {MOST_HISTORY_BYTES // 1024**2} MB of texts and pictures, too much to "
                "go on with. Start a new one, and leave out pictures that are not needed any more."
            )
        title, conversation_id, rows = loaded.title, loaded.id, loaded.history
        model, prompt_id = model or loaded.provider_id, prompt_id or loaded.system_prompt_id
        if prompt_id and loaded.prompt_text is None:
            raise NotFound("This prompt is not offered here (any more). Choose another one.")
        settings = loaded.settings or {}
        if not question.after:
            system = system or loaded.system_prompt or loaded.prompt_text or ""
    is_fork = bool(question.after and loaded.is_fork)  # what was said after that answer stays as it is
    is_stored = is_page or question.is_stored
    is_new = is_stored and (conversation_id is None or is_fork)
    new: Messages = ({"role": "user", "content": question.text},) if question.messages is None else question.messages
    own_models = own_keys.payable(keys)
    chosen = offer(model, own=own_models)
    require(chosen, question.params, question.tool_choice, new)
    own_key = own_keys.paying(principal, chosen, keys)
    max_tokens = min(question.max_tokens or settings.get("max_tokens") or chosen.max_tokens, chosen.max_tokens)
    first: Messages = ({"role": "system", "content": system},) if system else ()
    said = list(history.replayed(rows, is_trusted=not is_page))
    if is_page or question.is_fitted:
        extra = calls.estimate_tokens((), question.tools)
        said = history.fitting(first, said, new, chosen.context_window - max_tokens - extra, chosen.image_tokens)
    messages = (*first, *(message for _, message in said), *new)
    prompt_tokens = calls.estimate_tokens(messages, question.tools, image_tokens=chosen.image_tokens)
    if schema := question.params.get("response_format"):
        prompt_tokens += calls.estimate_tokens((), (schema,))
    if prompt_tokens + max_tokens > chosen.context_window:
        raise TooLong(
            f"This is too long for {chosen.name}: about {prompt_tokens:,} tokens. Shorten it; your text is kept."
        )
    asked_for: dict[str, Any] = {
        **{name: settings[name] for name in ("temperature", "top_p") if name in settings},
        **question.params,
    }
    ready = Begun(
        turn_id=turn_id,
        principal=principal,
        offer=chosen,
        call=Call(
            protocol=chosen.protocol,
            model=chosen.model,
            messages=messages,
            max_tokens=max_tokens,
            base_url=paying.address(chosen, own_key),
            params={**chosen.params, **asked_for},
            tools=question.tools,
            tool_choice=question.tool_choice,
        ),
        held_tokens=int(prompt_tokens * PROMPT_MARGIN) + max_tokens + (TOOLS_TOKENS if question.tools else 0),
        prompt_tokens=prompt_tokens,
        started_at=clock.now(),
        params=asked_for,
        own_key=own_key,
        own_models=own_models,
    )
    _refuse_if_it_rests(ready)
    if not is_stored:
        return ready
    copied = [history.copied(row) for row in rows] if is_fork else []
    return replace(
        ready,
        conversation_id=uuid7() if is_new or conversation_id is None else conversation_id,
        question_id=uuid7() if is_page else None,
        said=() if is_page else [*copied, *(history.as_row(message, turn_id) for message in new)],
        answer_id=uuid7(),
        prompt_id=UUID(str(prompt_id)) if prompt_id else None,
        history=[row_id for row_id, _ in said],
        title=title or history.title_of(new) or "New chat",
        is_new=is_new,
        opens=is_new or not loaded.is_counted,
    )


def _no_such(question: Question) -> NotFound:
    if question.messages is None:
        return NotFound("This chat is not here (any more).")
    if question.after:
        return NotFound("There is no such response here (any more).", param="previous_response_id")
    return NotFound("There is no such conversation here (any more).", param="conversation")


def require(chosen: Offer, params: Mapping[str, Any], tool_choice: str, messages: Messages) -> None:
    """What this model must be able to do. Raises Invalid, with the field's name as `param`."""
    if unknown := UNKNOWN_TO[chosen.protocol] & params.keys():
        raise Invalid(f"{chosen.name} does not know {', '.join(sorted(unknown))}; leave it out.", param=min(unknown))
    if chosen.protocol == "anthropic" and (params.get("response_format") or {}).get("type") == "json_object":
        raise Invalid(
            f"{chosen.name} writes JSON only by a schema: send a response_format of type json_schema.",
            param="response_format",
        )
    if chosen.protocol == "demo" and tool_choice not in ("", "auto", "none"):
        raise Invalid(f"{chosen.name} never calls a tool, so it cannot be told to.", param="tool_choice")
    if not chosen.image_tokens and calls.has_images(messages):
        raise Invalid(f"{chosen.name} takes no images, only text. Choose another model.", param="messages")
    if chosen.protocol == "anthropic":
        _require_of_anthropic(chosen, params, messages)


def _require_of_anthropic(chosen: Offer, params: Mapping[str, Any], messages: Messages) -> None:
    """What its protocol has no word for, though it would change the answer."""
    if (params.get("temperature") or 0) > 1:
        raise Invalid(f"{chosen.name} takes a temperature from 0 to 1.", param="temperature")
    for number, message in enumerate(messages):
        if message.get("name"):
            raise Invalid(
                f"{chosen.name} knows no names of speakers: leave name out, or say it in the text.",
                param=f"messages[{number}].name",
            )
        parts = message["content"] if isinstance(message["content"], list) else ()
        if any(part["type"] == "image_url" and part["image_url"].get("detail", "auto") != "auto" for part in parts):
            raise Invalid(f"{chosen.name} chooses the detail of a picture itself: leave it out.", param="detail")


def _refuse_if_it_rests(ready: Begun) -> None:
    """A model that rests is refused before anything is held, unless the brand's chain has one that can take over.

    With a member's own key nobody takes over.
    """
    assert ready.call is not None
    rest = paying.rest_of(ready.call, ready.own_key) if ready.own_key else fallback.rest_of(ready.offer)
    if rest is None:
        return
    if not ready.own_key and next_begun(
        ready, {ready.offer.id}, fallback.chain(ready.principal, ready.principal.brand_id)
    ):
        return
    refused = breaker.refusal(rest)
    refused.name(ready.offer.name)
    raise refused


def next_begun(begun: Begun, tried: set[UUID], chain: Sequence[UUID]) -> Begun | None:
    """The same turn, under the same hold, for the next model of the chain that can do it; None = there is none."""
    call = begun.call
    assert call is not None

    def can(offer: Offer) -> bool:
        try:
            require(offer, begun.params, call.tool_choice, call.messages)
        except Invalid:
            return False
        is_dearer = calls.has_images(call.messages) and offer.image_tokens > begun.offer.image_tokens  # than is held
        return not is_dearer and not (call.tools and offer.protocol == "demo")

    found = fallback.stand_in(
        chain, call=call, params=begun.params, prompt_tokens=begun.prompt_tokens, tried=tried, can=can
    )
    if found is None:
        return None
    return replace(begun, offer=found[0], call=found[1], instead_of=begun.instead_of or begun.offer.name)


def hand_over(begun: Begun, attempts: Sequence[Mapping[str, Any]]) -> Begun | None:
    """Give a turn that has no piece yet to the next model of its brand's chain, and store that before it is asked.

    attempts  the calls that failed so far; a model that is among them is not asked again
    None      there is no other model, or somebody else ended the turn
    """
    tried = {UUID(attempt["provider_id"]) for attempt in attempts}
    with opening(SERVICE):
        following = next_begun(begun, tried, fallback.chain(SERVICE, begun.principal.brand_id))
        if following is None:
            return None
        names = {
            "turn": begun.turn_id,
            "provider": following.offer.id,
            "model": following.offer.api_identifier,
            "model_name": following.offer.name,
            "instead_of": following.instead_of,
            "attempts": _json(attempts),
        }
        return following if send((HAND_OVER, names))[0] else None


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
        is_page = ready.question_id is not None
        sql = BEGIN.format(
            conversation=NEW_CONVERSATION if ready.is_new else OLD_CONVERSATION, said=QUESTION if is_page else EXCHANGE
        )
        sent = {"history": ready.history, "max_tokens": ready.call.max_tokens, "params": dict(ready.call.params)}
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
            names["said"] = _json([*ready.said, answer])
            sent |= {"tools": [dict(tool) for tool in question.tools], "tool_choice": question.tool_choice}
            sent["asked"] = dict(question.asked)
        names |= {
            "conversation": ready.conversation_id,
            "question": ready.question_id,
            "answer": ready.answer_id,
            "title": ready.title[:200],
            "text": question.text,
            "metadata": _json(dict(question.metadata)),
            "messages": 2 if is_page else len(ready.said) + 1,
            "model": ready.offer.api_identifier,
            "model_name": ready.offer.name,
            "prompt": ready.prompt_id,
            "source": "api" if ready.principal.key_id else "website",
            "sent": _json(sent),
            "body": _json({**body, "provider_id": ready.offer.id, "title": ready.title}),
        }
    begun: list[Statement] = [(sql, names)]
    if ready.is_new:
        begun.append(
            stream.publishing(
                ready.principal.brand_id,
                "conversation.started",
                subject=("conversation", names["conversation"]),
                owner_id=ready.principal.owner_id,
                data={"source": names["source"], "model": names["model"]},
            )
        )
    with opening(ready.principal, *begun, key=ready.turn_id) as (stored, *_):  # the reaper takes the same key
        if not stored:
            raise Conflict("This could not be begun in time, so nothing was asked. Send it again.", retry_after=1)


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
    tool_calls: Sequence[Mapping[str, str]] = (),
    first_piece_ms: int | None = None,
    attempts: Sequence[Mapping[str, Any]] = (),
    has_arrived: bool = False,
) -> Finished | None:
    """End a turn: text, charge, bill and news in one transaction, exactly once. None = it had ended before.

    has_arrived            what came has no tokens of its own, as vectors have none
    tool_calls             whole ones only: half an argument is no JSON
    own_completion_tokens  our count of what arrived; 0 = no text and no call did: only what the vendor counted for an
                           answer that came to its end is charged then
    attempts               the calls that failed before the last one; empty leaves what hand_over() stored
    """
    due = charge(
        usage,
        has_arrived=has_arrived,
        is_done=status == "done",
        own_prompt_tokens=own_prompt_tokens,
        own_completion_tokens=own_completion_tokens,
        held_tokens=held_tokens,
    )
    cost = offer.cost_microusd(due.prompt_tokens, due.completion_tokens)
    seconds = max(0.0, (clock.now() - started_at).total_seconds())
    finished = Finished(
        status=status,
        text=text,
        is_charged=due.has_arrived,
        prompt_tokens=due.prompt_tokens,
        completion_tokens=due.completion_tokens,
        cost_microusd=cost,
        finish_reason=usage.finish_reason if usage else "",
        error_code=error.code if error else "",
        error_detail=error.detail[:500] if error else "",
        seconds=seconds,
        tool_calls=tool_calls,
        cached_tokens=usage.cached_tokens if usage and due.source == "provider" else 0,
        reasoning_tokens=usage.reasoning_tokens if usage and due.source == "provider" else 0,
        stop_sequence=usage.stop_sequence if usage else "",
    )
    told: dict[str, Any] = {
        "prompt_tokens": due.prompt_tokens,
        "completion_tokens": due.completion_tokens,
        "source": due.source,
    }
    beside = {
        "finish_reason": finished.finish_reason,
        "cached_tokens": finished.cached_tokens,
        "reasoning_tokens": finished.reasoning_tokens,
    }
    told |= {name: value for name, value in beside.items() if value and value != "stop"}
    names = {
        "turn": turn_id,
        "status": status,
        "text": text,
        "completion_tokens": due.completion_tokens,
        "is_charged": finished.is_charged,
        "tokens": due.tokens,
        "cost": cost,
        "usage": _json(told),
        "function_call": _json({"calls": list(tool_calls)}) if tool_calls else None,
        "ms": min(int(seconds * 1000), 2**31 - 1),
        "error_code": finished.error_code,
        "error_detail": finished.error_detail,
        "first_piece_ms": first_piece_ms,
        "attempts": _json(attempts) if attempts else None,
    }
    units = {"queries": 1, "messages": 1, "conversations": 1, "tokens": due.tokens} if finished.is_charged else {}
    settling = ledger.settling(turn_id, amounts=units, cost_microusd=cost, reason=status)
    # A turn that had ended before was settled with its end, so the second statement then finds nothing to settle.
    with opening(SERVICE, (FINISH, names), settling) as (ended, settled):
        fault("in_finish")
        if not ended:
            return None
        if finished.is_charged and not settled:
            log.error("turn %s is charged, but its hold was gone: nothing stands in the ledger", turn_id)
        brand_id, owner_id, conversation_id, message_id, pocket = ended[0]
        if due.excess_tokens and pocket != "own_key":  # else it is between the member and the vendor
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
            claimed = list(usage.raw.items())[:8]
            data["usage_anomaly"] = {clean(str(name))[:40]: clean(str(value))[:40] for name, value in claimed}
        kind, subject_id = ("message", message_id) if message_id else ("turn", turn_id)
        news = stream.publishing(
            brand_id,
            f"{kind}.{'completed' if finished.is_charged else 'failed'}",
            subject=(kind, subject_id),
            owner_id=owner_id,
            data=data,
        )
        if not finished.is_charged:
            send(news)
        else:
            used_for = "embedding" if offer.kind == "embedding" else "message" if message_id else "api_call"
            used = usage_log.logging(
                brand_id,
                owner_id,
                usage_type=used_for,
                reservation=turn_id,
                pocket=pocket,
                model=offer.api_identifier,
                provider_id=offer.id,
                prompt_tokens=due.prompt_tokens,
                completion_tokens=due.completion_tokens,
                model_cost_microusd=cost,
            )
            send(used, news)
    metrics.turns_ended.labels(status).inc()
    if finished.is_charged:
        metrics.tokens.labels("prompt").inc(due.prompt_tokens)
        metrics.tokens.labels("completion").inc(due.completion_tokens)
    return finished


def as_ended(turn_id: UUID, *, text: str) -> Finished | None:
    """How a turn ended that somebody else ended, or that we did without hearing of it. None = it still runs.

    text  all that came: of an answer that was interrupted it is kept, at the price that was charged; and it is what is
          said of an answer that is not stored
    """
    names = {"turn": turn_id, "text": text}
    with opening(SERVICE, (KEEP, names), (ENDED, names)) as (_, rows):
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
        finish_reason=row.finish_reason or "",
        error_code=row.error_code,
        error_detail=row.error_detail or "",
        seconds=0,
        tool_calls=(row.function_call or {}).get("calls") or (),
        cached_tokens=row.cached_tokens or 0,
        reasoning_tokens=row.reasoning_tokens or 0,
    )


def checkpoint(changes: Sequence[tuple[UUID, str | None, int]]) -> dict[UUID, bool]:
    """Heartbeat of every live turn of this process, and the text of those that grew: one statement.

    changes  (turn, text so far or None when it did not grow or is not kept, tokens produced by own count)
    Returns  the turns that still run, and whether somebody asked another process to stop it; one that is missing was
             ended by the reaper, and must not go on
    """
    ids, texts, tokens = zip(*changes, strict=True)
    statement = (CHECKPOINT, {"ids": list(ids), "texts": list(texts), "tokens": list(tokens)})
    return {row.id: row.is_to_stop for row in serve(statement, lazily=True)[0]}


def ask_to_stop(principal: Principal, turn_id: UUID) -> bool:
    """Whichever process writes this answer, it stops: at its next checkpoint at the latest. False = it had ended."""
    names = {"turn": turn_id, "brand": principal.brand_id, "owner": principal.owner_id}
    return bool(serve((ASK_TO_STOP, names))[0])


def unwelcome(turn_ids: Sequence[UUID]) -> list[UUID]:
    """Those of these running turns whose asker left the brand, or whose key is not in force any more (I-08, I-11)."""
    with opening(SERVICE, (UNWELCOME, {"ids": list(turn_ids)})) as (rows,):
        return [row.id for row in rows]


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
