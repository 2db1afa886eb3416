"""Pages that belong to no app: refusals in words, health, and what every template sees."""

import functools
import sys
from collections.abc import Callable
from typing import Any, cast

from django.conf import settings
from django.core.exceptions import RequestDataTooBig
from django.db import DatabaseError, connections
from django.http import HttpRequest, HttpResponse, HttpResponseNotAllowed, JsonResponse
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _

from accounts import preferences
from accounts.access import BrandRequest, NotAMember, public
from accounts.brands import NoBrand
from accounts.models import Membership, User
from conversations.doors import errors as door_errors
from conversations.engine import runner
from lib.db import SERVICE, close_all, database_is_away, scope
from lib.errors import (
    DomainError,
    Forbidden,
    Invalid,
    NotAuthenticated,
    NotFound,
    TooLarge,
    Unavailable,
    WrongMethod,
)

PROGRAM_PATHS = ("/v1/", "/api/")  # answered in JSON, /v1 in the shape of its vendor
FOR_PEOPLE = "/api/docs/"


def brand(request: HttpRequest) -> dict[str, Any]:
    """Context processor: the brand's look, and whether mail goes to the terminal."""
    try:
        found = getattr(request, "brand", None)
        return {"brand": found if found and found.pk else None, "is_development": settings.DEVELOPMENT}
    except (NoBrand, DatabaseError):
        return {"brand": None, "is_development": settings.DEVELOPMENT}


def reader(request: HttpRequest) -> dict[str, Any]:
    """Context processor: how this person wants the product, as the cookie has it. No page gives this name to its own."""
    return {"reader": preferences.of(request)}


def is_for_programs(path: str) -> bool:
    return path.startswith(PROGRAM_PATHS) and not path.startswith(FOR_PEOPLE)


def body(error: DomainError, request: HttpRequest) -> dict[str, Any]:
    """The one error shape of our own API."""
    return {
        "code": error.code,
        "detail": error.detail,
        "request_id": getattr(request, "request_id", ""),
        **error.extra,
    }


def refusal(request: HttpRequest, error: DomainError) -> HttpResponseBase:
    """An expected refusal, in the shape that the path speaks: JSON, a fragment for htmx, or a page with one action."""
    if request.path.startswith("/v1/"):
        return door_errors.of_path(request.path)(error)
    wants_json = is_for_programs(request.path) or "application/json" in request.headers.get("Accept", "")
    response: HttpResponse
    if wants_json:
        response = JsonResponse(body(error, request), status=error.status)
    elif "HX-Request" in request.headers:
        context = {"error": error, "sign_in_url": _sign_in(request), "request_id": getattr(request, "request_id", "")}
        response = HttpResponse(render_to_string("_refusal.html", context, request), status=error.status)
    elif isinstance(error, NotAuthenticated):
        return redirect(_sign_in(request))
    elif isinstance(error, NotAMember):
        response = render(request, "accounts/join.html", {"is_suspended": _is_suspended(request)}, status=404)
    else:
        context = {"error": error, "request_id": getattr(request, "request_id", "")}
        template = {403: "403.html", 404: "404.html", 503: "503.html"}.get(error.status, "400.html")
        response = HttpResponse(render_to_string(template, context), status=error.status)
    if wants_json and isinstance(error, NotAuthenticated):
        response.headers["WWW-Authenticate"] = 'Bearer realm="chatsite"'
    if isinstance(error, WrongMethod):
        response.headers["Allow"] = error.extra["allow"]
    if retry_after := error.extra.get("retry_after"):
        response.headers["Retry-After"] = str(int(retry_after) or 1)
    return response


def in_words(request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
    """Django refuses a method with nothing at all, and browsers put a page of their own there: who loads the answer to a
    form again from its address, or comes back to it after signing in, reads what that is instead.
    """
    is_read = request.method == "GET" and "text/html" in request.headers.get("Accept", "")
    if not is_read or not isinstance(response, HttpResponseNotAllowed) or is_for_programs(request.path):
        return response
    error = WrongMethod(response.headers["Allow"])
    error.detail = _("This address only takes what a form sends, and has nothing to show. Nothing was changed.")
    return refusal(request, error)


def _is_suspended(request: HttpRequest) -> bool:
    """Whether somebody who has no standing here is a member whom the brand's admins keep out."""
    with scope(SERVICE):
        rows = Membership.objects.filter(brand=cast(BrandRequest, request).brand, user_id=cast(User, request.user).pk)
        return rows.exclude(suspended_at=None).exists()


def _sign_in(request: HttpRequest) -> str:
    here = request.get_full_path() if request.method == "GET" else "/"
    return f"{reverse('account_login')}?{urlencode({'next': here})}"


def in_any_thread(handler: Callable[..., HttpResponseBase]) -> Callable[..., HttpResponseBase]:
    """Django draws error pages in a thread of no request, which nobody cleans: give its connections back here."""

    @functools.wraps(handler)
    def clean(*args: Any, **kwargs: Any) -> HttpResponseBase:
        try:
            return handler(*args, **kwargs)
        finally:
            close_all()

    return clean


@in_any_thread
def bad_request(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    if isinstance(exception, RequestDataTooBig):
        return refusal(request, TooLarge(_("This is larger than one request may be (1 MB). Nothing was stored.")))
    return refusal(request, Invalid(_("This request could not be understood.")))


@in_any_thread
def not_found(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return refusal(request, NotFound(_("The address is wrong, or what was here has been deleted.")))


@in_any_thread
def permission_denied(request: HttpRequest, exception: Exception) -> HttpResponseBase:
    return refusal(request, Forbidden(_("You may not do this.")))


@in_any_thread
def server_error(request: HttpRequest) -> HttpResponseBase:
    error = sys.exc_info()[1]
    if database_is_away(error):
        return refusal(request, Unavailable(_("The database is busy or away. Try again shortly."), retry_after=2))
    failed = DomainError(_("Something went wrong on our side. It is logged; please try again."))
    failed.status, failed.code = 500, "internal_error"
    if is_for_programs(request.path):
        return refusal(request, failed)
    context = {"error": failed, "request_id": getattr(request, "request_id", "")}
    return HttpResponse(render_to_string("500.html", context), status=500)


@in_any_thread
def csrf_failure(request: HttpRequest, reason: str = "") -> HttpResponse:
    context = {"reason": reason, "request_id": getattr(request, "request_id", "")}
    return HttpResponse(render_to_string("csrf_failure.html", context), status=403)


@public("load balancers ask whether this process lives")
def healthz(request: HttpRequest) -> HttpResponse:
    return HttpResponse("ok", content_type="text/plain")


@public("load balancers ask whether this process can work")
def readyz(request: HttpRequest) -> HttpResponse:
    """200 when the database answers and is migrated, else 503 with a word; never a version or an address.

    503 while this process drains; before that it was asked to end and takes no new connection.

    Also 503 for a log-in that walks through walls: a deployment that gave us its superuser must not take traffic.
    """
    if runner.is_draining():
        return HttpResponse("draining", status=503, content_type="text/plain")
    try:
        with connections["default"].cursor() as cursor:
            cursor.execute(
                "select rolsuper or rolbypassrls from pg_roles, django_migrations where rolname = session_user limit 1"
            )
            (walks_through_walls,) = cursor.fetchone() or (True,)
    except DatabaseError:
        return HttpResponse("database away", status=503, content_type="text/plain")
    if walks_through_walls:
        return HttpResponse("database log-in unfit", status=503, content_type="text/plain")
    return HttpResponse("ready", content_type="text/plain")
