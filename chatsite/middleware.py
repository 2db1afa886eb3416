"""Django's own middleware with its hooks run on the event loop, and three small ones of ours.

Stock middleware makes a thread hop for every hook, 1.6 ms a request (FACTS 1), although these hooks only look at headers
and cookies. Saving a session is the one thing among them that reaches the database, and that hops.
"""

import logging
import re
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar
from uuid import uuid4

from asgiref.sync import SyncToAsync, iscoroutinefunction, markcoroutinefunction, sync_to_async
from csp.middleware import CSPMiddleware
from django.conf import settings
from django.contrib.auth.middleware import AuthenticationMiddleware
from django.contrib.messages.middleware import MessageMiddleware
from django.contrib.sessions.middleware import SessionMiddleware
from django.core.exceptions import BadRequest, SuspiciousOperation
from django.db import DatabaseError
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.clickjacking import XFrameOptionsMiddleware
from django.middleware.common import CommonMiddleware
from django.middleware.csrf import CsrfViewMiddleware
from django.middleware.security import SecurityMiddleware
from django.utils import translation
from django.utils.functional import SimpleLazyObject, empty
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from whitenoise.middleware import WhiteNoiseMiddleware

from accounts import brands, circumstances, limits, preferences
from chatsite import pages, sign_in_ways
from lib import hops, metrics
from lib.db import close_all, database_is_away, db
from lib.egress import WEBHOOK_AGENT
from lib.errors import DomainError, Unavailable
from lib.logs import request_id

access = logging.getLogger("chatsite.access")
GIVEN_ID = re.compile(r"[\w.:@/+=-]{8,64}", re.ASCII)
METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
UNTOLD = {"healthz", "readyz", "metrics", "static"}  # asked every few seconds by machines, or many times a page
STATIC = "/static/"
T = TypeVar("T")


class Inline:
    """Mix in before a MiddlewareMixin class: its hooks run where the request runs."""

    get_response: Any

    async def __acall__(self, request: HttpRequest) -> HttpResponseBase:
        response: HttpResponseBase | None = None
        if hasattr(self, "process_request"):
            response = self.process_request(request)
        if response is None:
            response = await self.get_response(request)
        if hasattr(self, "process_response"):
            response = await self.respond(request, response)
        return response

    async def respond(self, request: HttpRequest, response: Any) -> HttpResponseBase:
        answer: HttpResponseBase = self.process_response(request, response)  # type: ignore[attr-defined]
        return answer


class Security(Inline, SecurityMiddleware):
    pass


PROBES = ("/healthz", "/readyz", "/metrics")


class Common(Inline, CommonMiddleware):
    def process_request(self, request: HttpRequest) -> Any:
        """Machines on the inside ask a process by its address, which no ALLOWED_HOSTS has."""
        return None if request.path_info in PROBES else super().process_request(request)


class Authentication(Inline, AuthenticationMiddleware):
    pass


class Messages(Inline, MessageMiddleware):
    pass


class FrameOptions(Inline, XFrameOptionsMiddleware):
    pass


class Csp(Inline, CSPMiddleware):
    pass


class Sessions(Inline, SessionMiddleware):
    async def respond(self, request: HttpRequest, response: Any) -> HttpResponseBase:
        if sign_in_ways.is_due(request) and request.session.accessed:
            with suppress(Unavailable, DatabaseError):  # the next request notes it
                await _in_a_thread(sign_in_ways.saw, request, response)
        if not request.session.modified:
            return self.process_response(request, response)
        try:
            return await _in_a_thread(self.process_response, request, response)
        except Unavailable:  # too many wait for a hop, and what was changed is not to be lost
            return await sync_to_async(self.process_response)(request, response)


class Csrf(Inline, CsrfViewMiddleware):
    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        if iscoroutinefunction(get_response):
            self.process_view = self.aprocess_view  # type: ignore[method-assign, assignment]

    async def aprocess_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> HttpResponse | None:
        return super().process_view(request, view, args, kwargs)


class _Both:
    """A middleware with one sync and one async way through."""

    async_capable = sync_capable = True

    def __init__(self, get_response: Any) -> None:
        self.get_response = get_response
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        return self.acall(request) if self.is_async else self.call(request)

    def call(self, request: HttpRequest) -> HttpResponseBase:
        raise NotImplementedError

    async def acall(self, request: HttpRequest) -> HttpResponseBase:
        raise NotImplementedError


class Front(_Both):
    """First in, last out: gives the request its id, counts it, and gives connections back before a stream begins.

    A stream that kept the connection its sign-in opened would hold it for its whole life (PLUMBING 7).
    """

    def call(self, request: HttpRequest) -> HttpResponseBase:
        began_at = self.name(request)
        return self.sign(request, self.get_response(request), began_at)

    async def acall(self, request: HttpRequest) -> HttpResponseBase:
        began_at = self.name(request)
        response = await self.get_response(request)
        if response.streaming and _thread_was_used():
            await sync_to_async(close_all, thread_sensitive=True)()
        return self.sign(request, response, began_at)

    @staticmethod
    def name(request: HttpRequest) -> float:
        given = request.headers.get("X-Request-Id", "")
        request_id.set(given if GIVEN_ID.fullmatch(given) else uuid4().hex)
        request.request_id = request_id.get()  # type: ignore[attr-defined]
        return time.perf_counter()

    @staticmethod
    def sign(request: HttpRequest, response: HttpResponseBase, began_at: float) -> HttpResponseBase:
        response.headers["X-Request-Id"] = request_id.get()
        for name, value in limits.headers(getattr(request, "allowance", ()), request.path_info).items():
            response.headers[name] = value
        response.headers.setdefault("Cache-Control", "no-store")
        _tell(request, response, time.perf_counter() - began_at)
        return response


def _tell(request: HttpRequest, response: HttpResponseBase, seconds: float) -> None:
    """The access line and the numbers of one request. A stream's time is that to its first byte."""
    match = request.resolver_match
    route = match.route if match else "static" if request.path_info.startswith(STATIC) else "nowhere"
    if route.startswith("admin/"):
        route = "admin/"
    if route in UNTOLD:
        return
    brand = getattr(request, "brand", None)
    known = brand.slug if brand is not None and getattr(brand, "_wrapped", brand) is not empty else None
    told = {
        "method": request.method if request.method in METHODS else "other",
        "route": route,
        "status": response.status_code,
        "ms": round(seconds * 1000, 1),
    }
    metrics.requests.labels(told["method"], route, response.status_code).inc()
    metrics.request_seconds.labels(route).observe(seconds)
    access.info("request", extra=told | {"brand": known} if known else told)


async def _in_a_thread(work: Callable[..., T], *args: Any) -> T:
    """The request's own, with its connection. Where it has none yet a hop: its own would live as long as a stream."""
    if _thread_was_used():
        return await sync_to_async(work)(*args)
    return await db(work, *args)


def _thread_was_used() -> bool:
    return SyncToAsync.thread_sensitive_context.get(None) in SyncToAsync.context_to_thread_executor


class Static(WhiteNoiseMiddleware):
    """Static files, served before anything else looks at the request; the async way reads them in a thread."""

    async_capable = sync_capable = True

    def __init__(self, get_response: Any) -> None:
        super().__init__(get_response)
        self.is_async = iscoroutinefunction(get_response)
        if self.is_async:
            markcoroutinefunction(self)

    def __call__(self, request: HttpRequest) -> Any:
        if not request.path_info.startswith(self.static_prefix):
            return self.get_response(request)
        return self.aserve(request) if self.is_async else super().__call__(request)

    async def aserve(self, request: HttpRequest) -> HttpResponseBase:
        found = await sync_to_async(self._read, thread_sensitive=False)(request)
        return found or await self.get_response(request)

    def _read(self, request: HttpRequest) -> HttpResponseBase | None:
        file = self.find_file(request.path_info) if self.autorefresh else self.files.get(request.path_info)
        if file is None:
            return None
        streamed = self.serve(file, request)
        response = HttpResponse(b"".join(streamed.streaming_content), status=streamed.status_code)
        response.headers = streamed.headers
        streamed.close()
        return response


class Language(_Both):
    """Speaks the language of whoever asks, until the answer is there; English to programs."""

    def call(self, request: HttpRequest) -> HttpResponseBase:
        with translation.override(self.of(request)):
            return self.say(self.get_response(request))

    async def acall(self, request: HttpRequest) -> HttpResponseBase:
        with translation.override(self.of(request)):
            return self.say(await self.get_response(request))

    @staticmethod
    def of(request: HttpRequest) -> str:
        is_programs = pages.is_for_programs(request.path_info)
        return settings.LANGUAGE_CODE if is_programs else preferences.language(request)

    @staticmethod
    def say(response: HttpResponseBase) -> HttpResponseBase:
        response.headers.setdefault("Content-Language", translation.get_language())
        return response


class Loop(DomainError):
    says = gettext_lazy(
        "A webhook of this site leads back to this site. It would tell itself of what it does, without end."
    )
    status, code = 508, "loop_detected"


def came_of_a_webhook(request: HttpRequest) -> bool:
    """Whatever name of ours it was sent to: refused before it can do anything that would be told again (W-20)."""
    return "webhook-id" in request.headers and request.headers.get("User-Agent", "") == WEBHOOK_AGENT


class BrandByHost(_Both):
    """`request.brand`, found when first asked for. Refusals become answers here, in the shape the path speaks."""

    def call(self, request: HttpRequest) -> HttpResponseBase:
        self.attach(request)
        if came_of_a_webhook(request):
            return pages.refusal(request, Loop())
        return pages.in_words(request, self.get_response(request))

    async def acall(self, request: HttpRequest) -> HttpResponseBase:
        self.attach(request)
        if came_of_a_webhook(request):
            return pages.refusal(request, Loop())
        if request.path_info not in PROBES:
            hops.crowd.set(brands.crowd(request))
        return pages.in_words(request, await self.get_response(request))

    @staticmethod
    def attach(request: HttpRequest) -> None:
        request.brand = SimpleLazyObject(lambda: brands.by_host(request.get_host()))  # type: ignore[attr-defined]
        circumstances.begin(request)

    @staticmethod
    def process_exception(request: HttpRequest, error: Exception) -> HttpResponseBase | None:
        if database_is_away(error):
            error = Unavailable(_("The database is busy or away for the moment. Try again shortly."), retry_after=2)
        if isinstance(error, BadRequest | SuspiciousOperation) or not isinstance(error, DomainError):
            return None
        return pages.refusal(request, error)
