"""The life of a program's call, the same for every protocol: begin, wait for the first piece, stream or answer, hang up.

Nothing is kept of an unstored call but what it cost: a program that hangs up ends it, for nobody could read it any more.
A stored answer can be read later, so it goes on.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable
from typing import Any, Protocol, TypeVar
from uuid import UUID

import orjson
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.views.decorators.csrf import csrf_exempt

from accounts import brands
from accounts.access import View, api_key, key_holder
from conversations.doors.errors import Shape, after_hold
from conversations.engine import beginning, finishing, runner
from conversations.engine.live import Live
from conversations.engine.turns import Begun, Finished, Question
from conversations.models import Turn
from lib.db import Principal, db
from lib.errors import Conflict, DomainError, TooLarge, WrongMethod
from providers.calls import ToolPiece

SCOPE = "chat"
FALLBACK_FROM = "X-Fallback-From"  # the model that was asked for, when another one of the brand's chain answered
MOST_BODY_BYTES = 8 * 1024 * 1024  # room for pictures; everything else refuses far smaller texts


class Wanted(Protocol):
    """What a program asks for, checked: its module reads it from the body."""

    @property
    def question(self) -> Question: ...


W = TypeVar("W", bound=Wanted)
ANSWERED = (Turn.Status.DONE, Turn.Status.STOPPED)


class FailedBefore(DomainError):
    """The first request with this Idempotency-Key failed. Use a new key to try again."""

    status, code = 502, "failed_before"


class StillRunning(Conflict):
    says = "The same request is being worked on. Ask again in a moment for its answer."

    def __init__(self, begun: Begun) -> None:
        super().__init__(retry_after=1)
        self.begun = begun


class Lost(DomainError):
    """The answer was interrupted. Ask again for it."""

    status, code = 502, "interrupted"


def door(*methods: str, shape: Shape) -> Callable[[View], View]:
    """For programs with a key: no cookies, no CSRF, these methods, and every refusal in the vendor's own shape."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        async def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                if request.method not in methods:
                    raise WrongMethod(*methods)
                response: HttpResponseBase = await view(request, *args, **kwargs)
                if asked := getattr(request, "asked_first", ""):
                    response.headers[FALLBACK_FROM] = asked
                return response
            except Exception as error:
                return shape(error)

        return api_key(SCOPE)(csrf_exempt(wrapper))

    return decorate


def body_of(request: HttpRequest) -> bytes:
    """The whole body. Raises TooLarge; not for the event loop, as a large one lies on the disk."""
    too_large = TooLarge(f"The body is larger than one request may be ({MOST_BODY_BYTES // 1024**2} MB).")
    if int(request.META.get("CONTENT_LENGTH") or 0) > MOST_BODY_BYTES:  # the server has checked that it is a number
        raise too_large  # before it fills the memory
    body: bytes = request.read(MOST_BODY_BYTES + 1)
    if len(body) > MOST_BODY_BYTES:
        raise too_large
    return body


def by_key(request: HttpRequest) -> Principal:
    return key_holder(request, SCOPE)


async def ask(
    request: HttpRequest, read: Callable[[bytes], W], who: Callable[[HttpRequest], Principal] = by_key
) -> tuple[W, Live]:
    """Begin what `read` finds in the body, and wait for its first piece: until then a failure is still an HTTP status.

    who     finds out who asks, in the hop
    Raises  what refuses the call, and what ended it before anything was charged; the latter is never a 503.
            StillRunning, where the same request has begun it before
    """
    runner.accept()
    asking = asyncio.ensure_future(_ask(request, read, who))
    try:
        wanted, live = await asyncio.shield(asking)
    except asyncio.CancelledError:
        asking.add_done_callback(_hang_up)
        raise
    try:
        while not await live.news(0):
            pass
    except BaseException:
        leave(live)
        raise
    if live.finished and not live.finished.is_charged and live.finished.status not in ANSWERED:
        raise _refusal(live, live.finished)
    if live.begun.instead_of:
        request.asked_first = live.attempts[0]["model"]  # type: ignore[attr-defined]
    return wanted, live


async def _ask(
    request: HttpRequest, read: Callable[[bytes], W], who: Callable[[HttpRequest], Principal]
) -> tuple[W, Live]:
    wanted, begun = await db(_begin, request, read, who)
    return wanted, runner.start(begun) if begun.call else await _told_before(begun)


def _begin(
    request: HttpRequest, read: Callable[[bytes], W], who: Callable[[HttpRequest], Principal]
) -> tuple[W, Begun]:
    principal = who(request)  # before the body is looked at
    wanted = read(body_of(request))
    match, brand = request.resolver_match, brands.by_id(principal.brand_id)
    key = (
        request.headers.get("Idempotency-Key", "") if wanted.question.is_stored else ""
    )  # else nothing could be told again
    return wanted, beginning.begin(principal, brand, wanted.question, key=key, route=str(match and match.url_name))


async def _told_before(begun: Begun) -> Live:
    """The answer to the first request with this Idempotency-Key, as it stands in its row. Raises while it is written."""
    finished = await db(finishing.as_ended, begun.turn_id, text="")
    if finished is None:
        raise StillRunning(begun)
    live = Live(begun)
    live.attempts = [dict(attempt) for attempt in begun.attempts]
    if finished.text:
        live.push(finished.text)
    for index, call in enumerate(finished.tool_calls):
        live.push(ToolPiece(index, call["id"], call["name"], call["arguments"]))
    if finished.status == Turn.Status.FAILED:
        live.error = FailedBefore(finished.error_detail)
    live.close(finished)
    return live


def _hang_up(asking: "asyncio.Future[tuple[Any, Live]]") -> None:
    """The program left while its turn was being begun."""
    if not asking.cancelled() and asking.exception() is None:
        leave(asking.result()[1])


def leave(live: Live) -> None:
    """The program is gone: end what nobody could read any more."""
    if live.finished is None and live.begun.conversation_id is None:
        live.stop()


async def whole(live: Live) -> Finished:
    """Wait for the end. Raises what cut the answer off."""
    try:
        while live.finished is None:
            await live.news(live.length)
    finally:
        leave(live)
    return ended(live)


async def news(live: Live) -> AsyncGenerator[tuple[str, list[ToolPiece]] | None, None]:
    """What came since the last time, text and pieces of tool calls, to the end; None asks for a sign of life."""
    offset = number = 0
    try:
        while True:
            seen = live.length
            text, pieces = "", live.tool_pieces[number:]
            number += len(pieces)
            if offset < live.body.length:
                text = live.body.tail(offset)
                offset = live.body.length
            if text or pieces:
                yield text, pieces
            if live.finished and offset == live.body.length and number == len(live.tool_pieces):
                return
            if not await live.news(seen):
                yield None
    finally:
        leave(live)


def ended(live: Live) -> Finished:
    """How it ended; an answer that its person stopped is one too. Raises what cut it off, in words."""
    assert live.finished is not None
    if live.finished.status not in ANSWERED or live.error:
        raise _refusal(live, live.finished)
    return live.finished


def _refusal(live: Live, finished: Finished) -> Exception:
    told = "What had arrived is charged; ask again for the rest." if finished.is_charged else "Nothing was charged."
    return after_hold(live.error or Lost(f"The answer was interrupted. {told}"), is_charged=finished.is_charged)


def made_at(row_id: UUID) -> int:
    """When a row was made, in seconds: the first 48 bits of a uuid7 are milliseconds. The same whenever it is told."""
    return (row_id.int >> 80) // 1000


def as_json(body: Any, status: int = 200) -> HttpResponse:
    return HttpResponse(orjson.dumps(body), content_type="application/json", status=status)
