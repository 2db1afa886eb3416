"""The end of a turn, in one transaction: text, charge, bill and news.

finish() may be called any number of times, by the runner and by the reaper: the first one counts.
"""

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import orjson

from conversations.engine.charging import charge
from conversations.engine.statements import ENDED, FINISH, KEEP
from conversations.engine.turns import Finished
from events import stream
from lib import clock, metrics
from lib.db import SERVICE, opening, send
from lib.errors import DomainError
from lib.faults import fault
from providers.calls import Usage
from providers.offers import Offer
from providers.shapes import clean
from quotas import ledger
from quotas import usage as usage_log

log = logging.getLogger(__name__)


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


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()
