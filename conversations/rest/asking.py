"""S4's `chat`: a question, its answer whole or as it is written, and the way back to it.

What is asked is stored, so it goes on when the program hangs up. The id of a server-sent event is the number of characters
sent so far: whoever comes back says `Last-Event-ID`, and misses and repeats nothing, whichever process answers.
"""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Any, cast
from uuid import UUID

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from accounts.access import BrandRequest, caller
from accounts.keys import READ
from accounts.rest import Api, AsyncApi, operation, refuse_other_than_json, understood
from conversations.chats import reading
from conversations.doors import exchange
from conversations.doors.exchange import FALLBACK_FROM, SCOPE
from conversations.engine import runner, turns, watching
from conversations.engine.live import Blockwise, Live, follow, hub
from conversations.models import Message, Turn
from conversations.rest import examples, shapes
from lib import strict_json
from lib.db import Principal, db, in_scope
from lib.errors import DomainError, Invalid, NotFound
from lib.sse import EventStream, frame

STREAM = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Asked:
    question: turns.Question


class Providers(Api):
    tag = "Chat"

    @operation("getAiProviders", SCOPE, READ, answers=shapes.Offer(many=True), told=examples.OFFER)
    def get(self, request: BrandRequest) -> Any:
        """List the models on offer"""
        return reading.choices(request.principal)["providers"]


class Prompts(Api):
    tag = "Chat"

    @operation("getSystemPrompts", SCOPE, READ, answers=shapes.Prompt(many=True), told=examples.PROMPT)
    def get(self, request: BrandRequest) -> Any:
        """List the system prompts on offer"""
        return reading.choices(request.principal)["prompts"]


class Chat(AsyncApi):
    tag = "Chat"

    @operation(
        "chat", SCOPE,
        asks=shapes.Question, answers=shapes.Answer(), streams=True, takes_key=True, spends=True,
        asked=examples.QUESTION, told=examples.ANSWER,
    )  # fmt: skip
    async def post(self, request: HttpRequest) -> HttpResponseBase:
        """Ask a question

        Answers whole, or with `Accept: text/event-stream` as it is written: `started` (`chatId`, `messageId`, `turnId`),
        `delta` (`text`), and one `done` with the whole answer, or with an `error` beside it. What is asked is stored, and
        goes on when you hang up. A connection that was lost is taken up by the same request with the same
        `Idempotency-Key`, or by `chat/{turn_id}`, each with `Last-Event-ID`.
        """
        wants_stream, offset = _wants_stream(request), _offset(request)
        try:
            _, live = await exchange.ask(request, _asked, _asker)
        except exchange.StillRunning as running:
            if not wants_stream:
                raise
            return await _watched(running.begun.principal, running.begun.turn_id, offset)
        if wants_stream:
            response: HttpResponseBase = EventStream(_frames(live, offset))
        else:
            finished = await exchange.whole(live)
            response = self.tell(cast(BrandRequest, request), _answer(live, finished))
        if asked := getattr(request, "asked_first", ""):
            response.headers[FALLBACK_FROM] = asked
        return response


class Answering(AsyncApi):
    tag = "Chat"

    @operation("getAnswer", SCOPE, READ, answers=shapes.Answer(), streams=True, tagged=True, told=examples.ANSWER)
    async def get(self, request: HttpRequest, turn_id: UUID) -> HttpResponseBase:
        """Come back to an answer

        As far as it has come; with `Accept: text/event-stream` what came after `Last-Event-ID`, and the rest as it is
        written, as `chat` streams it.
        """
        principal = await db(caller, request, SCOPE, READ)
        if _wants_stream(request):
            return await _watched(principal, turn_id, _offset(request))
        _, told = await db(in_scope(principal, _progress), principal, turn_id)
        return self.tell(cast(BrandRequest, request), told)


class Stop(AsyncApi):
    tag = "Chat"

    @operation("stopAnswer", SCOPE, READ)
    async def post(self, request: HttpRequest, turn_id: UUID) -> HttpResponseBase:
        """Stop an answer

        What had arrived is kept and charged. A second stop, or one that comes late, changes nothing.
        """
        principal = await db(caller, request, SCOPE, READ)
        await db(in_scope(principal, _progress), principal, turn_id)
        await watching.stop(principal, turn_id)
        return HttpResponse(status=204)


def _asker(request: HttpRequest) -> Principal:
    principal = caller(request, SCOPE)
    refuse_other_than_json(request)
    return principal


def _asked(body: bytes) -> Asked:
    asked = understood(shapes.Question, strict_json.read(body))
    return Asked(
        turns.Question(
            text=asked["message"],
            conversation_id=asked.get("chatId"),
            model=asked.get("providerId"),
            prompt_id=asked.get("promptId"),
            is_stored=True,
        )
    )


def _wants_stream(request: HttpRequest) -> bool:
    return STREAM in request.headers.get("Accept", "")


def _offset(request: HttpRequest) -> int:
    given = request.headers.get("Last-Event-ID", "")
    if given and not (given.isascii() and given.isdecimal() and len(given) < 12):
        raise Invalid("Last-Event-ID must be the id of an event of this stream.", param="Last-Event-ID")
    return int(given or 0)


def _answer(live: Live, finished: turns.Finished) -> dict[str, Any]:
    begun = live.begun
    error = {"code": finished.error_code, "detail": finished.error_detail} if finished.error_code else None
    return _told(
        begun.turn_id, begun.conversation_id, begun.answer_id, begun.offer.id, finished.text, finished.status,
        finished.prompt_tokens, finished.completion_tokens, error,
    )  # fmt: skip


def _told(
    turn_id: UUID, chat_id: UUID | None, message_id: UUID | None, provider_id: UUID | None, text: str, status: str,
    prompt_tokens: int = 0, completion_tokens: int = 0, error: dict[str, str] | None = None,
) -> dict[str, Any]:  # fmt: skip
    return {
        "turnId": turn_id,
        "chatId": chat_id,
        "message": {
            "id": message_id,
            "chat_id": chat_id,
            "role": Message.Role.ASSISTANT,
            "content": text,
            "status": status,
            "ai_provider_id": provider_id,
            "token_usage": {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens},
        },
        "error": error,
    }


def _progress(principal: Principal, turn_id: UUID) -> watching.Seen:
    """How far an answer of the principal's has come; with a key that does not read, one that this key asked for."""
    own = Turn.objects.filter(pk=turn_id, brand_id=principal.brand_id, owner_id=principal.owner_id)
    if not principal.may(READ):
        own = own.filter(api_key_id=principal.key_id)
    turn = own.first()
    row = Message.objects.filter(pk=turn.message_id, deleted_at=None).first() if turn and turn.message_id else None
    if turn is None or row is None:
        raise NotFound("This answer is not here (any more).")
    text, used = row.content or turn.partial, row.token_usage
    error = {"code": row.error_code, "detail": row.error_detail} if row.error_code else None
    told = _told(
        turn_id, row.conversation_id, row.pk, row.provider_id, text, row.status,
        used.get("prompt_tokens", 0), used.get("completion_tokens", 0), error,
    )  # fmt: skip
    return text, {"status": row.status, **told}


async def _watched(principal: Principal, turn_id: UUID, offset: int) -> HttpResponseBase:
    look = in_scope(principal, _progress)
    so_far = await db(look, principal, turn_id)
    if live := hub.get(turn_id):
        return EventStream(_frames(live, offset))
    runner.accept()

    async def end(told: dict[str, Any] | DomainError, at: int) -> bytes:
        if isinstance(told, DomainError):
            return frame("done", {"error": {"code": told.code, "detail": told.detail}}, at)
        return _last(told, at)

    frames = watching.from_afar(
        turn_id, offset, so_far, look=lambda: db(look, principal, turn_id), end=end, since=_since
    )
    return EventStream(frames)


async def _frames(live: Live, offset: int) -> AsyncGenerator[bytes, None]:
    begun = live.begun
    told = {"chatId": begun.conversation_id, "messageId": begun.answer_id, "turnId": begun.turn_id}
    yield frame("started", told, offset)
    async for frames in follow(live, offset, _since):
        yield frames
    assert live.finished is not None
    yield _last(_answer(live, live.finished), live.body.length)


def _last(told: dict[str, Any], at: int) -> bytes:
    return frame("done", shapes.Answer().to_representation(told), at)


def _since(body: Blockwise, offset: int) -> list[bytes]:
    """The text after `offset` characters, as one event."""
    return [frame("delta", {"text": body.tail(offset)}, body.length)] if offset < body.length else []
