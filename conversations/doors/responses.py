"""/v1/responses: OpenAI's newer protocol. Stored unless the program says otherwise, as a conversation of its person."""

from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import aclosing
from typing import Any
from uuid import UUID

import orjson
from django.db.models import F
from django.db.models.functions import Greatest
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts import idempotency
from accounts.access import key_holder
from accounts.keys import READ, WRITE
from conversations.doors import errors, exchange, fields, responses_input
from conversations.doors.exchange import SCOPE, as_json, door
from conversations.doors.responses_input import Wanted, turn_id_of
from conversations.engine.live import Live
from conversations.engine.turns import Finished
from conversations.models import OPEN_STATES, Conversation, Message, Turn
from lib import clock
from lib.db import SERVICE, Principal, db, scope
from lib.errors import Conflict, DomainError, NotFound
from lib.sse import KEEPALIVE, EventStream
from providers.calls import ToolPiece

INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
STATUS = {
    Turn.Status.DONE: "completed",
    Turn.Status.STOPPED: "cancelled",
    Turn.Status.FAILED: "failed",
    Turn.Status.INTERRUPTED: "failed",
}
Item = dict[str, Any]


@door("POST", shape=errors.openai)
async def responses(request: HttpRequest) -> HttpResponseBase:
    wanted, live = await exchange.ask(request, responses_input.wanted)
    if wanted.is_stream:
        return EventStream(_events(live, wanted))
    finished = await exchange.whole(live)
    return as_json(
        _ended(_head(live, wanted), _output(live.begun.turn_id, finished.text, finished.tool_calls), finished)
    )


@door("GET", "DELETE", shape=errors.openai)
async def response(request: HttpRequest, response_id: str) -> HttpResponseBase:
    if request.method == "DELETE":
        await db(_delete, request, response_id)
        return as_json({"id": response_id, "object": "response", "deleted": True})
    fields.plain(request.GET.dict(), {"stream": ("false",), "starting_after": ()})
    return as_json(await db(_stored, request, response_id))


@door("GET", shape=errors.openai)
async def input_items(request: HttpRequest, response_id: str) -> HttpResponseBase:
    asked = request.GET.dict()
    limit = asked.get("limit", "20")
    most = fields.integer("limit", int(limit) if limit.isdecimal() and len(limit) < 4 else limit, 1, 100)
    items = await db(_said, request, response_id)
    if fields.one_of("order", asked.get("order", "desc"), ("asc", "desc")) == "desc":
        items.reverse()
    ids = [item["id"] for item in items]
    if (after := asked.get("after")) is not None:
        items = items[ids.index(fields.one_of("after", after, ids)) + 1 :]
    page = items[:most]
    first, last = (page[0]["id"], page[-1]["id"]) if page else (None, None)
    return as_json(
        {"object": "list", "data": page, "first_id": first, "last_id": last, "has_more": len(items) > len(page)}
    )


def _head(live: Live, wanted: Wanted) -> dict[str, Any]:
    begun = live.begun
    return _response(begun.turn_id, begun.offer.api_identifier, begun.conversation_id, wanted.question.asked)


def _response(turn_id: UUID, model: str, conversation_id: UUID | None, asked: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "id": f"resp_{turn_id.hex}",
        "object": "response",
        "created_at": exchange.made_at(turn_id),
        "status": "in_progress",
        "background": False,
        "conversation": {"id": f"conv_{conversation_id.hex}"} if conversation_id else None,
        "error": None,
        "incomplete_details": None,
        "max_tool_calls": None,
        "model": model,
        "output": [],
        "service_tier": "default",
        "top_logprobs": 0,
        "usage": None,
        "user": None,
        **asked,
    }


def _ended(head: Mapping[str, Any], output: Sequence[Item], finished: Finished) -> dict[str, Any]:
    reason = INCOMPLETE.get(finished.finish_reason) if finished.status == Turn.Status.DONE else None
    if finished.status == Turn.Status.STOPPED:
        output = [{**item, "status": "incomplete"} for item in output]
    return {
        **head,
        "status": "incomplete" if reason else STATUS[Turn.Status(finished.status)],
        "incomplete_details": {"reason": reason} if reason else None,
        "output": list(output),
        "usage": {
            "input_tokens": finished.prompt_tokens,
            "input_tokens_details": {"cached_tokens": finished.cached_tokens},
            "output_tokens": finished.completion_tokens,
            "output_tokens_details": {"reasoning_tokens": finished.reasoning_tokens},
            "total_tokens": finished.prompt_tokens + finished.completion_tokens,
        },
    }


def _output(turn_id: UUID, text: str, tool_calls: Sequence[Mapping[str, str]]) -> list[Item]:
    items = [_text_item(turn_id, text)] if text or not tool_calls else []
    return items + [_call_item(turn_id, number, call) for number, call in enumerate(tool_calls)]


def _text_item(turn_id: UUID, text: str) -> Item:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    return {
        "id": f"msg_{turn_id.hex}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [part],
    }


def _call_item(turn_id: UUID, number: int, call: Mapping[str, str]) -> Item:
    return {
        "id": f"fc_{turn_id.hex}_{number}",
        "type": "function_call",
        "status": "completed",
        "call_id": call["id"],
        "name": call["name"],
        "arguments": call["arguments"],
    }


class Growing:
    """The events of a response that is being written; its items stand in the order in which they began."""

    def __init__(self, turn_id: UUID) -> None:
        self.turn_id = turn_id
        self.sequence_number = 0
        self.items: list[Item] = []
        self.of_call: dict[int, int] = {}  # a tool call's number -> its place among the items
        self.text_at: int | None = None

    def event(self, kind: str, **data: Any) -> bytes:
        body = orjson.dumps({"type": kind, "sequence_number": self.sequence_number, **data})
        self.sequence_number += 1
        return b"event: %s\ndata: %s\n\n" % (kind.encode(), body)

    def text(self, said: str) -> Iterator[bytes]:
        if self.text_at is None:
            self.text_at = len(self.items)
            item = _text_item(self.turn_id, "")
            self.items.append(item)
            yield self.event(
                "response.output_item.added",
                output_index=self.text_at,
                item={**item, "status": "in_progress", "content": []},
            )
            yield self.event("response.content_part.added", **self._part(), part=item["content"][0])
        yield self.event("response.output_text.delta", **self._part(), delta=said, logprobs=[])

    def piece(self, piece: ToolPiece) -> Iterator[bytes]:
        if piece.index not in self.of_call:
            item = _call_item(self.turn_id, piece.index, {"id": piece.id, "name": piece.name, "arguments": ""})
            self.of_call[piece.index] = len(self.items)
            self.items.append(item)
            yield self.event(
                "response.output_item.added",
                output_index=self.of_call[piece.index],
                item={**item, "status": "in_progress"},
            )
        at = self.of_call[piece.index]
        if piece.arguments:
            item = self.items[at]
            item["arguments"] += piece.arguments
            yield self.event(
                "response.function_call_arguments.delta", item_id=item["id"], output_index=at, delta=piece.arguments
            )

    def done(self, text: str, *, is_stopped: bool) -> Iterator[bytes]:
        """Close every item: only the end says that no more of it comes. Half a tool call is not called done."""
        for at, item in enumerate(self.items):
            if is_stopped:
                item["status"] = "incomplete"
            if item["type"] == "message":
                (part,) = item["content"]
                part["text"] = text
                yield self.event("response.output_text.done", **self._part(), text=text, logprobs=[])
                yield self.event("response.content_part.done", **self._part(), part=part)
            elif not is_stopped:
                yield self.event(
                    "response.function_call_arguments.done",
                    item_id=item["id"],
                    output_index=at,
                    name=item["name"],
                    arguments=item["arguments"],
                )
            yield self.event("response.output_item.done", output_index=at, item=item)

    def _part(self) -> dict[str, Any]:
        return {"item_id": f"msg_{self.turn_id.hex}", "output_index": self.text_at, "content_index": 0}


async def _events(live: Live, wanted: Wanted) -> AsyncGenerator[bytes, None]:
    head, growing = _head(live, wanted), Growing(live.begun.turn_id)
    async with aclosing(exchange.news(live)) as news:
        yield growing.event("response.created", response=head) + growing.event("response.in_progress", response=head)
        async for new in news:
            if new is None:
                yield KEEPALIVE
                continue
            text, pieces = new
            frames = list(growing.text(text)) if text else []
            for piece in pieces:
                frames += growing.piece(piece)
            yield b"".join(frames)
    try:
        finished = exchange.ended(live)
    except DomainError as cut:
        told = errors.openai_error(cut)
        failed = {**head, "status": "failed", "error": {"code": told["code"], "message": told["message"]}}
        yield growing.event("response.failed", response={**failed, "output": growing.items})
        return
    frames = [] if growing.items else list(growing.text(""))  # an answer that says nothing still is one
    is_stopped = finished.status == Turn.Status.STOPPED
    frames += growing.done(finished.text, is_stopped=is_stopped)
    ended = _ended(head, growing.items, finished)
    kind = "incomplete" if is_stopped else ended["status"]  # the protocol has no event of a response that is cancelled
    yield b"".join([*frames, growing.event(f"response.{kind}", response=ended)])


def _turn(principal: Principal, response_id: str, needed: str = READ) -> tuple[Turn, Message]:
    """A stored response of this person, in the open scope. Raises NotFound, the same for what is somebody else's.

    needed  the scope without which a key reaches only what was asked with itself, in a program's conversation
    """
    turns = Turn.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id, sent__has_key="asked")
    answers = Message.objects.filter(conversation__deleted_at=None)
    if not principal.may(needed):
        turns = turns.filter(api_key_id=principal.key_id)
        answers = answers.filter(conversation__source=Conversation.Source.API)
    turn = turns.filter(pk=turn_id_of(response_id)).first()
    if turn and turn.message_id and turn.sent["asked"]:
        answer = answers.filter(pk=turn.message_id).first()
        if answer:
            return turn, answer
    raise NotFound("There is no such response here (any more).")


def _stored(request: HttpRequest, response_id: str) -> dict[str, Any]:
    principal = key_holder(request, SCOPE)
    with scope(principal):
        turn, answer = _turn(principal, response_id)
    head = _response(turn.pk, answer.model, turn.conversation_id, turn.sent["asked"])
    if turn.status in OPEN_STATES:
        return head
    usage = answer.token_usage
    finished = Finished(
        status=turn.status,
        text=answer.content,
        is_charged=answer.is_charged,
        prompt_tokens=usage.get("prompt_tokens", 0),
        completion_tokens=usage.get("completion_tokens", 0),
        cost_microusd=answer.cost_microusd,
        finish_reason=usage.get("finish_reason", ""),
        error_code=answer.error_code,
        error_detail=answer.error_detail,
        seconds=0,
        cached_tokens=usage.get("cached_tokens", 0),
        reasoning_tokens=usage.get("reasoning_tokens", 0),
    )
    made = (answer.function_call or {}).get("calls", ())
    ended = _ended(head, _output(turn.pk, answer.content, made), finished)
    if ended["status"] == "failed":
        ended["error"] = {"code": answer.error_code or "server_error", "message": answer.error_detail}
    return ended


def _delete(request: HttpRequest, response_id: str) -> None:
    """Delete what was asked and what was answered; what it cost stays."""
    principal = key_holder(request, SCOPE)
    with scope(principal):
        turn, answer = _turn(principal, response_id, WRITE)
        if turn.status in OPEN_STATES:
            raise Conflict("This response is still being written. Delete it when it has ended.", retry_after=5)
        said = Message.objects.filter(conversation_id=answer.conversation_id)
        ours = list(said.filter(turn_id=turn.pk).order_by("id").values_list("pk", "parent_id"))
        ids = [pk for pk, _ in ours]
        said.filter(parent_id__in=ids).exclude(pk__in=ids).update(parent_id=ours[0][1])  # what follows closes up
        gone, _ = said.filter(pk__in=ids).delete()
        idempotency.forget(turn.pk)  # a key that made this response makes a new one now
        chat = Conversation.objects.filter(pk=answer.conversation_id)
        chat.update(message_count=Greatest(F("message_count") - gone, 0))
        if not said.exists():
            chat.update(deleted_at=clock.now(), title="", system_prompt="", metadata={})
    with scope(SERVICE):  # instructions are content too, and a turn is no member's to change
        Turn.objects.filter(pk=turn.pk).update(sent={})


def _said(request: HttpRequest, response_id: str) -> list[Item]:
    principal = key_holder(request, SCOPE)
    with scope(principal):
        turn, answer = _turn(principal, response_id)
        said = Message.objects.filter(conversation_id=answer.conversation_id, turn_id=turn.pk)
        rows = list(said.exclude(pk=answer.pk).order_by("id"))
    return [item for row in rows for item in _items(row)]


def _items(row: Message) -> Iterator[Item]:
    """A stored message as the items it came in."""
    told = row.function_call or {}
    if row.role == Message.Role.FUNCTION:
        yield {
            "id": f"fco_{row.pk.hex}",
            "type": "function_call_output",
            "call_id": told.get("call_id"),
            "output": row.content,
            "status": "completed",
        }
        return
    kind = "output_text" if row.role == Message.Role.ASSISTANT else "input_text"
    parts = [_part(part, kind) for part in row.metadata.get("parts") or [{"type": "text", "text": row.content}]]
    if row.content or row.metadata.get("parts"):
        yield {"id": f"msg_{row.pk.hex}", "type": "message", "role": row.role, "status": "completed", "content": parts}
    for number, call in enumerate(told.get("calls", ())):
        yield _call_item(row.pk, number, call)


def _part(part: Mapping[str, Any], kind: str) -> dict[str, Any]:
    if part["type"] == "text":
        return {"type": kind, "text": part["text"], **({"annotations": []} if kind == "output_text" else {})}
    return {"type": "input_image", "detail": "auto", "image_url": part["image_url"]["url"]}
