"""`/v1`: programs that speak OpenAI's protocol get the same engine, meter and walls. Errors come in OpenAI's shape.

Nothing of these calls is kept but what they cost. A program that hangs up ends its answer: nobody could read it any more.
"""

import asyncio
import functools
from collections.abc import AsyncGenerator, Callable
from typing import Any
from uuid import UUID

import orjson
from django.core.exceptions import RequestDataTooBig
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from accounts import brands
from accounts.access import View, api_key, key_holder
from conversations import openai_input, runner, turns
from conversations.live import Live
from conversations.models import Turn
from conversations.turns import Begun, Finished
from lib.db import Principal, database_is_away, db, scope
from lib.errors import DomainError, NotAuthenticated, TooLarge, Unavailable
from lib.sse import KEEPALIVE, EventStream
from providers.errors import Busy, ProviderError, Rejected
from providers.offers import NoSuchModel, offers

SCOPE = "chat"


class WrongMethod(DomainError):
    """This address is not called with this method."""

    status, code = 405, "method_not_allowed"


def speaks_openai(method: str) -> Callable[[View], View]:
    """For programs with a key: no cookies, no CSRF, one method, and every refusal in OpenAI's shape."""

    def decorate(view: View) -> View:
        @functools.wraps(view)
        async def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
            try:
                if request.method != method:
                    raise WrongMethod(f"Call this address with {method}.", allow=method)
                response: HttpResponseBase = await view(request, *args, **kwargs)
                return response
            except Exception as error:
                return refused(error)

        return api_key(SCOPE)(csrf_exempt(wrapper))

    return decorate


@speaks_openai("POST")
async def chat_completions(request: HttpRequest) -> HttpResponseBase:
    runner.accept()
    asking = asyncio.ensure_future(_ask(request, request.body))
    try:
        wanted, live = await asyncio.shield(asking)
    except asyncio.CancelledError:
        asking.add_done_callback(_hang_up)
        raise
    try:
        await _first_piece(live)
    except BaseException:
        live.stop()
        raise
    if live.finished and not live.finished.is_charged and live.finished.status != Turn.Status.DONE:
        raise live.error or Unavailable("The answer was interrupted. Nothing was charged; try again.")
    if wanted.is_stream:
        return EventStream(_chunks(live, wanted.with_usage))
    return await _whole(live)


async def _ask(request: HttpRequest, body: bytes) -> tuple[openai_input.Completion, Live]:
    wanted, begun = await db(_begin, request, body)
    return wanted, runner.start(begun)


def _hang_up(asking: "asyncio.Future[tuple[openai_input.Completion, Live]]") -> None:
    """The program left while its turn was being begun: end it, for nobody could read it."""
    if not asking.cancelled() and asking.exception() is None:
        asking.result()[1].stop()


def _begin(request: HttpRequest, body: bytes) -> tuple[openai_input.Completion, Begun]:
    principal = key_holder(request, SCOPE)  # before the body is looked at
    wanted = openai_input.completion(body)
    return wanted, turns.begin(principal, brands.by_id(principal.brand_id), wanted.question)


async def _first_piece(live: Live) -> None:
    """Wait until there is something to say: before that, a failure can still be an HTTP status."""
    while not await live.news(0):
        pass


async def _whole(live: Live) -> HttpResponse:
    try:
        while live.finished is None:
            await live.news(live.length)
    finally:
        if live.finished is None:
            live.stop()
    finished = live.finished
    if finished.status != Turn.Status.DONE:
        raise live.error or Unavailable("The answer was cut off. What had arrived is charged; try again for the rest.")
    message = {"role": "assistant", "content": finished.text, "refusal": None}
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finished.finish_reason or "stop"}
    return _json({**_head(live, "chat.completion"), "choices": [choice], "usage": _usage(finished)})


async def _chunks(live: Live, with_usage: bool) -> AsyncGenerator[bytes, None]:
    head = orjson.dumps(_head(live, "chat.completion.chunk"))[:-1]
    offset, role = 0, b'"role":"assistant",'
    try:
        while True:
            seen = live.length
            if offset < live.body.length:
                text = orjson.dumps(live.body.tail(offset))
                offset = live.body.length
                yield (
                    b'data: %s,"choices":[{"index":0,"delta":{%s"content":%s},"logprobs":null,"finish_reason":null}]}\n\n'
                    % (head, role, text)
                )
                role = b""
            if live.finished and offset == live.body.length:
                break
            if not await live.news(seen):
                yield KEEPALIVE
    finally:
        if live.finished is None:
            live.stop()
    finished = live.finished
    if finished.status != Turn.Status.DONE:
        cut = live.error or Unavailable("The answer was cut off. What had arrived is charged; try again for the rest.")
        yield b"data: %s\n\n" % orjson.dumps({"error": _described(cut)})
        return
    reason = orjson.dumps(finished.finish_reason or "stop")
    yield b'data: %s,"choices":[{"index":0,"delta":{},"logprobs":null,"finish_reason":%s}]}\n\n' % (head, reason)
    if with_usage:
        yield b'data: %s,"choices":[],"usage":%s}\n\n' % (head, orjson.dumps(_usage(finished)))
    yield b"data: [DONE]\n\n"


def _head(live: Live, kind: str) -> dict[str, Any]:
    begun = live.begun
    return {
        "id": f"chatcmpl-{begun.turn_id.hex}",
        "object": kind,
        "created": int(begun.started_at.timestamp()),
        "model": begun.offer.api_identifier,
    }


def _usage(finished: Finished) -> dict[str, int]:
    return {
        "prompt_tokens": finished.prompt_tokens,
        "completion_tokens": finished.completion_tokens,
        "total_tokens": finished.prompt_tokens + finished.completion_tokens,
    }


@speaks_openai("GET")
async def models(request: HttpRequest, identifier: str = "") -> HttpResponseBase:
    listed = await db(_models, request)
    if not identifier:
        return _json({"object": "list", "data": listed})
    for model in listed:
        if model["id"] == identifier:
            return _json(model)
    raise NoSuchModel(f"The model {identifier[:80]} is not offered here. GET /v1/models lists those that are.")


def _models(request: HttpRequest) -> list[dict[str, Any]]:
    principal: Principal = key_holder(request, SCOPE)
    with scope(principal):  # a key of somebody who left opens nothing
        return [
            {"id": row.api_identifier, "object": "model", "created": _created(row.id), "owned_by": row.protocol}
            for row in offers()
        ]


def _created(row_id: UUID) -> int:
    return (row_id.int >> 80) // 1000  # uuid7: its first 48 bits are milliseconds


def _json(body: dict[str, Any], status: int = 200) -> HttpResponse:
    return HttpResponse(orjson.dumps(body), content_type="application/json", status=status)


TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}
CODES = {"not_authenticated": "invalid_api_key", "quota_exceeded": "insufficient_quota"}


def _status(error: DomainError) -> int:
    if isinstance(error, Busy):
        return 429
    if isinstance(error, Rejected):
        return 400
    return error.status


def _described(error: DomainError) -> dict[str, Any]:
    """OpenAI's error object. `code` is what programs branch on; the vendor's own words follow ours where they help."""
    status = _status(error)
    message = error.detail
    if isinstance(error, Rejected) and error.vendor_detail:
        message = f"{message} The provider says: {error.vendor_detail}"
    kind = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    extra = {name: value for name, value in error.extra.items() if name in ("reason", "left", "resets_at")}
    return {
        "message": message,
        "type": kind,
        "param": error.extra.get("param"),
        "code": CODES.get(error.code, error.code),
        **extra,
    }


def refused(error: Exception) -> HttpResponse:
    """The answer to a refusal, under /v1. What is no refusal goes on as the bug it is."""
    if database_is_away(error):
        error = Unavailable("The database is busy or away for the moment. Try again shortly.", retry_after=2)
    if isinstance(error, RequestDataTooBig):
        error = TooLarge("The body is larger than one request may be (1 MB).")
    if not isinstance(error, DomainError):
        raise error
    response = _json({"error": _described(error)}, status=_status(error))
    if isinstance(error, NotAuthenticated):
        response.headers["WWW-Authenticate"] = 'Bearer realm="chatsite"'
    if isinstance(error, WrongMethod):
        response.headers["Allow"] = error.extra["allow"]
    wait = error.retry_after if isinstance(error, ProviderError) else error.extra.get("retry_after")
    if wait:
        response.headers["Retry-After"] = str(max(1, int(wait)))
    return response


urlpatterns = [
    path("chat/completions", chat_completions, name="chat-completions"),
    path("models", models, name="models"),
    path("models/<path:identifier>", models, name="model"),
]
