"""POST /v1/messages and /v1/messages/count_tokens: Anthropic's protocol, to any model on offer.

What comes in is carried in the shape of providers.Call, what goes out is put into blocks in the order it came.
"""

import functools
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import orjson
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts import brands
from accounts.access import View, key_holder
from conversations.doors import errors, exchange, messages_input
from conversations.doors.exchange import SCOPE, as_json, door
from conversations.engine import abilities, paying
from conversations.engine.live import Live
from conversations.engine.turns import Finished
from conversations.models import Turn
from lib.db import db, scope
from lib.errors import DomainError
from lib.logs import request_id
from lib.sse import EventStream
from providers import calls, own_keys
from providers.calls import ToolPiece
from providers.offers import offer
from providers.shapes import input_of

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
STOP_REASONS = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}


def named(view: View) -> View:
    """Anthropic's clients read the id of a request in a header of this name."""

    @functools.wraps(view)
    async def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response: HttpResponseBase = await view(request, *args, **kwargs)
        response.headers["Request-Id"] = request_id.get()
        return response

    return wrapper


@named
@door("POST", shape=errors.anthropic)
async def messages(request: HttpRequest) -> HttpResponseBase:
    wanted, live = await exchange.ask(request, messages_input.message)
    if wanted.is_stream:
        return EventStream(_events(live))
    finished = await exchange.whole(live)
    is_stopped = finished.status == Turn.Status.STOPPED  # half a tool call is none
    blocks = _blocks(_in_order(live, finished.text, () if is_stopped else live.tool_pieces))
    return as_json({**_message(live), "content": blocks, **_stop(live, finished), "usage": _usage(finished)})


@named
@door("POST", shape=errors.anthropic)
async def count_tokens(request: HttpRequest) -> HttpResponseBase:
    return as_json({"input_tokens": await db(_count, request)})


def _count(request: HttpRequest) -> int:
    """Our own estimate, the one that a hold is made from: nothing is held, and no vendor is asked."""
    principal = key_holder(request, SCOPE)
    question = messages_input.counted(exchange.body_of(request))
    own = own_keys.payable(paying.keys_of(principal))
    with scope(principal):  # a key of somebody who left opens nothing
        withheld = brands.by_id(principal.brand_id).withheld_models
        model = offer(question.model, own=own, without=withheld, only=principal.models)
    messages = question.messages or ()
    abilities.require(model, question.params, question.tool_choice, messages)
    return calls.estimate_tokens(messages, question.tools, image_tokens=model.image_tokens)


@dataclass(slots=True)
class Blocks:
    """The events of a growing message. A block ends where the next one begins."""

    count: int = 0
    open: str | int | None = None  # "text", or the number of the tool call
    of_call: dict[int, int] = field(default_factory=dict)

    def events(self, pieces: Iterator[str | ToolPiece]) -> Iterator[bytes]:
        for piece in pieces:
            if isinstance(piece, str):
                if self.open != "text":
                    yield from self._next("text", {"type": "text", "text": ""})
                yield _event("content_block_delta", index=self.count - 1, delta={"type": "text_delta", "text": piece})
                continue
            if piece.index not in self.of_call:
                block = {"type": "tool_use", "id": piece.id, "name": piece.name, "input": {}}
                yield from self._next(piece.index, block)
                self.of_call[piece.index] = self.count - 1
            if piece.arguments:  # of an earlier call, if a vendor mixes them: clients go by the index
                delta = {"type": "input_json_delta", "partial_json": piece.arguments}
                yield _event("content_block_delta", index=self.of_call[piece.index], delta=delta)

    def _next(self, kind: str | int, block: dict[str, Any]) -> Iterator[bytes]:
        yield from self.end()
        self.open = kind
        yield _event("content_block_start", index=self.count, content_block=block)
        self.count += 1

    def end(self) -> Iterator[bytes]:
        if self.open is not None:
            yield _event("content_block_stop", index=self.count - 1)


async def _events(live: Live) -> AsyncGenerator[bytes, None]:
    usage = {
        "input_tokens": live.begun.prompt_tokens,
        "output_tokens": 0,
    }  # our estimate; the true one comes at the end
    told = {**_message(live), "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
    yield _event("message_start", message=told)
    blocks, offset, number = Blocks(), 0, 0
    async with aclosing(exchange.news(live)) as news:
        async for new in news:
            if new is None:
                yield PING
                continue
            text, pieces = new
            yield b"".join(blocks.events(_in_order(live, text, pieces, offset, number)))
            offset, number = offset + len(text), number + len(pieces)
    try:
        finished = exchange.ended(live)
    except DomainError as cut:
        yield _event("error", error=errors.anthropic_error(cut))
        return
    yield b"".join(blocks.end())
    yield _event("message_delta", delta=_stop(live, finished), usage=_usage(finished))
    yield _event("message_stop")


def _event(kind: str, **data: Any) -> bytes:
    return b"event: %s\ndata: %s\n\n" % (kind.encode(), orjson.dumps({"type": kind, **data}))


def _in_order(
    live: Live, text: str, pieces: Sequence[ToolPiece], offset: int = 0, number: int = 0
) -> Iterator[str | ToolPiece]:
    """Text from `offset` on and tool calls from the piece `number` on, as the model said them."""
    said = 0
    for piece, came_at in zip(pieces, live.tool_offsets[number:], strict=False):
        if came_at - offset > said:
            yield text[said : came_at - offset]
            said = came_at - offset
        yield piece
    if said < len(text):
        yield text[said:]


def _blocks(pieces: Iterator[str | ToolPiece]) -> list[dict[str, Any]]:
    blocks: list[dict[str, Any]] = []
    of_call: dict[int, dict[str, Any]] = {}
    for piece in pieces:
        if isinstance(piece, str):
            if not blocks or blocks[-1]["type"] != "text":
                blocks.append({"type": "text", "text": ""})
            blocks[-1]["text"] += piece
            continue
        if piece.index not in of_call:
            of_call[piece.index] = {"type": "tool_use", "id": piece.id, "name": piece.name, "input": ""}
            blocks.append(of_call[piece.index])
        of_call[piece.index]["input"] += piece.arguments
    for block in of_call.values():
        block["input"] = input_of(block["input"])
    return blocks


def _message(live: Live) -> dict[str, Any]:
    begun = live.begun
    return {
        "id": f"msg_{begun.turn_id.hex}",
        "type": "message",
        "role": "assistant",
        "model": begun.offer.api_identifier,
    }


def _stop(live: Live, finished: Finished) -> dict[str, str | None]:
    reason = STOP_REASONS.get(finished.finish_reason, "end_turn")
    if finished.status == Turn.Status.STOPPED:
        reason = "end_turn"
    elif reason == "end_turn" and live.tool_pieces:
        reason = "tool_use"  # some vendors say "stop" for it
    elif reason == "end_turn" and finished.stop_sequence:
        reason = "stop_sequence"
    return {"stop_reason": reason, "stop_sequence": finished.stop_sequence or None}


def _usage(finished: Finished) -> dict[str, int]:
    return {"input_tokens": finished.prompt_tokens, "output_tokens": finished.completion_tokens}
