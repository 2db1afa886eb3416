"""Django over ASGI. How a process that serves it begins and ends stands in web.py."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from io import BytesIO
from typing import Any

import django

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "chatsite.settings")
os.environ.setdefault("DATABASE_SILENCE_S", "10")  # somebody waits for every answer
django.setup(set_prefix=False)

from asgiref.sync import SyncToAsync, ThreadSensitiveContext, sync_to_async  # noqa: E402
from django.conf import settings  # noqa: E402
from django.contrib.auth import SESSION_KEY  # noqa: E402
from django.contrib.sessions.backends.db import SessionStore  # noqa: E402
from django.core.exceptions import RequestAborted  # noqa: E402
from django.core.handlers.asgi import ASGIHandler, get_script_prefix  # noqa: E402
from django.core.signals import request_finished  # noqa: E402
from django.db import DatabaseError  # noqa: E402
from django.http import parse_cookie  # noqa: E402
from django.http.response import HttpResponseBase  # noqa: E402
from django.urls import set_script_prefix  # noqa: E402
from django.utils import translation  # noqa: E402
from django.utils.translation import gettext as _  # noqa: E402

from accounts import keys  # noqa: E402
from chatsite import pages  # noqa: E402
from chatsite.middleware import Front, Language  # noqa: E402
from conversations.chats.export import unwrapping  # noqa: E402
from conversations.doors import exchange  # noqa: E402
from conversations.engine import attachments, runner  # noqa: E402
from lib.db import db  # noqa: E402
from lib.errors import TooLarge  # noqa: E402
from lib.sse import EventStream  # noqa: E402
from providers import clients  # noqa: E402

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[Mapping[str, Any]]]
Send = Callable[[Mapping[str, Any]], Awaitable[None]]
LITTLE_MORE = 64 * 1024  # who reads a body refuses it at its own limit, and says more


class Handler(ASGIHandler):
    """Django's handler without the two thread hops it makes around every request.

    Nothing listens to request_started here (connections come fresh from the pool), and what request_finished does is only
    needed in a thread that ran synchronous code. A stream that used none then costs no thread at all.
    """

    unanswered = 0  # requests whose response has not begun

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with ThreadSensitiveContext() as context:
            try:
                body = await self.read_body(_bounded(scope, receive))
            except RequestAborted:
                return
            except _TooMuch as error:
                await self.send_response(self._refusal(scope, error), send)
                return
            with body:
                set_script_prefix(get_script_prefix(scope))
                request, refused = self.create_request(scope, body)
                if refused is not None:
                    await self.send_response(refused, send)
                else:
                    await self._answer(request, receive, send, context)

    def _refusal(self, scope: Scope, error: "_TooMuch") -> HttpResponseBase:
        """As the middleware would answer, which such a request never reaches."""
        set_script_prefix(get_script_prefix(scope))
        request: Any
        request, refused = self.create_request(scope, BytesIO())
        if refused is not None:
            return refused
        began_at = Front.name(request)
        with translation.override(Language.of(request)):
            return Front.sign(request, pages.refusal(request, TooLarge(error.words)), began_at)

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


class _TooMuch(Exception):
    """A body of more than `most` bytes. Its words wait until the language of whoever sent it is known."""

    def __init__(self, most: int, lacks_key: bool) -> None:
        super().__init__(most)
        self.most, self.lacks_key = most, lacks_key

    @property
    def words(self) -> str:
        says = _("This is larger than one request may be (%(most)s MB). Nothing was stored.")
        if self.lacks_key:
            says = _("This is larger than one request without an API key may be (%(most)s MB). Nothing was stored.")
        return says % {"most": self.most // 1024**2}


def _bounded(scope: Scope, receive: Receive) -> Receive:
    """Refuse a body that no view would take, before it fills the disk: large ones are for those who show a key, and
    files for those who are signed in, which is looked up once a body is larger than anybody's may be.

    Raises _TooMuch, at the first read when the length is told.
    """
    told = {name: value.decode("latin1") for name, value in scope["headers"]}
    is_door = scope["path"].startswith("/v1/")
    has_key = is_door and any(keys.has_shape(told.get(name, "")) for name in (b"authorization", b"x-api-key"))
    is_form = scope["path"].startswith("/c/") and told.get(b"content-type", "").startswith("multipart/")
    most = LITTLE_MORE + (exchange.MOST_BODY_BYTES if has_key else settings.DATA_UPLOAD_MAX_MEMORY_SIZE)
    of_files = 0
    if is_form or scope["path"] in ("/attachments/", "/import/", "/settings/picture/"):
        of_files = LITTLE_MORE + (unwrapping.MOST_BYTES if scope["path"] == "/import/" else attachments.MOST_BYTES)
    taken = 0
    length = int(told.get(b"content-length", 0))  # the server has checked that it is a number

    async def bounded() -> Mapping[str, Any]:
        nonlocal taken, most, of_files
        message: Mapping[str, Any] = {} if length > max(most, of_files) else await receive()
        taken += len(message.get("body", b""))
        size = max(taken, length)
        if most < size <= of_files:
            if await db(_is_signed_in, told.get(b"cookie", "")):
                most = of_files
            of_files = 0
        if size > most:
            raise _TooMuch(most, is_door and not has_key)
        return message

    return bounded


def _is_signed_in(cookie: str) -> bool:
    """Whether this browser has a session of somebody. What it may do is for the view to say, once all has arrived."""
    name = parse_cookie(cookie).get(settings.SESSION_COOKIE_NAME, "")
    if not name.isalnum():
        return False
    try:
        return SESSION_KEY in SessionStore(name)
    except DatabaseError:  # the view says in words that it is away
        return True


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
