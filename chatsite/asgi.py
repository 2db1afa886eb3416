"""Django over ASGI. How a process that serves it begins and ends stands in web.py."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
os.environ.setdefault("DATABASE_SILENCE_S", "10")  # somebody waits for every answer
django.setup(set_prefix=False)

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async  # noqa: E402
from django.core.exceptions import RequestAborted, RequestDataTooBig  # noqa: E402
from django.core.handlers.asgi import ASGIHandler, get_script_prefix  # noqa: E402
from django.core.signals import request_finished  # noqa: E402
from django.http import HttpResponse  # noqa: E402
from django.http.response import HttpResponseBase  # noqa: E402
from django.urls import set_script_prefix  # noqa: E402

from conversations import runner  # noqa: E402
from lib.sse import EventStream  # noqa: E402
from providers import clients  # noqa: E402

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
MOST_BODY_BYTES = 16 * 1024 * 1024  # views that take text refuse far smaller ones, in words


class Handler(ASGIHandler):
    """Django's handler without the two thread hops it makes around every request.

    Nothing listens to request_started here (connections come fresh from the pool), and what request_finished does is only
    needed in a thread that ran synchronous code. A stream that used none then costs no thread at all.
    """

    unanswered = 0  # requests whose response has not begun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with ThreadSensitiveContext() as context:
            try:
                body = await self.read_body(_bounded(receive))
            except RequestAborted:
                return
            except RequestDataTooBig:
                await self.send_response(HttpResponse("This is larger than a request may be.", status=413), send)
                return
            with body:
                set_script_prefix(get_script_prefix(scope))
                request, refused = self.create_request(scope, body)
                if refused is not None:
                    await self.send_response(refused, send)
                else:
                    await self._answer(request, receive, send, context)

    async def _answer(self, request: Any, receive: Receive, send: Send, context: ThreadSensitiveContext) -> None:
        work = asyncio.ensure_future(self._respond(request, send))
        leaving = asyncio.ensure_future(self.listen_for_disconnect(receive))
        try:
            await asyncio.wait((work, leaving), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (work, leaving):
                task.cancel()
        with suppress(RequestAborted, asyncio.CancelledError):
            await leaving
        response: HttpResponseBase | None = None
        with suppress(asyncio.CancelledError):
            response = await work
        finish = response.close if response is not None else partial(request_finished.send, sender=type(self))
        if context in SyncToAsync.context_to_thread_executor:
            await sync_to_async(finish)()
        else:
            finish()

    async def _respond(self, request: Any, send: Send) -> HttpResponseBase:
        self.unanswered += 1
        try:
            response = await self.run_get_response(request)
        finally:
            self.unanswered -= 1
        if isinstance(response, EventStream):
            await response.send_to(send)
        else:
            await self.send_response(response, send)
        return response


def _bounded(receive: Receive) -> Receive:
    """Stop reading a body that no view would take, before it fills the disk."""
    taken = 0

    async def bounded() -> Mapping[str, Any]:
        nonlocal taken
        message = await receive()
        taken += len(message.get("body", b""))
        if taken > MOST_BODY_BYTES:
            raise RequestDataTooBig
        return message

    return bounded


django_application = Handler()


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "lifespan":
        await django_application(scope, receive, send)
        return
    while True:
        message = await receive()
        if message["type"] == "lifespan.startup":
            await send({"type": "lifespan.startup.complete"})
        else:
            await runner.end_all()
            await clients.close()
            await send({"type": "lifespan.shutdown.complete"})
            return
