"""Who may call a view. Every route declares one of these; tests/isolation/grid walks the routes and calls them all.

A declaration is not a hint beside the code: the decorator finds out who is asking and opens the scope.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from inspect import iscoroutinefunction
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar, cast

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase
from django.middleware.csrf import CsrfViewMiddleware
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import app_tokens, brands, guessing, keys, limits, visitors
from accounts.limits import Allowance
from accounts.models import Brand, Membership
from lib.db import Principal, Role, db, in_scope, scope
from lib.errors import Forbidden, NotAuthenticated, NotFound

P = ParamSpec("P")
T = TypeVar("T")
View = Callable[..., Any]


class NotAMember(NotFound):
    says = gettext_lazy("You are signed in, but not a member of this brand.")
    code = "not_a_member"


class BrandRequest(HttpRequest):
    brand: Brand
    principal: Principal
    standing: str
    allowance: list[Allowance]  # of the key that asks


class Declared(Protocol):
    access: str


def declare(view: View, access: str) -> View:
    cast(Declared, view).access = access
    return view


def member_of(request: HttpRequest) -> Principal:
    """The signed-in member, as a principal on the brand of this host. Reads session and user: not for the event loop."""
    user = request.user
    if not user.is_authenticated:
        raise NotAuthenticated(_("You are not signed in, or your session is over. Sign in again; your text is kept."))
    return Principal("app_user", cast(BrandRequest, request).brand.pk, user.pk)


def is_visitor(request: HttpRequest) -> bool:
    """Whether this is somebody without an account whom we have seen before. Reads session and user."""
    return not request.user.is_authenticated and visitors.of_request(request) is not None


def asker_of(request: HttpRequest) -> Principal:
    """The signed-in member, or the visitor whose cookie this is. Reads session and user: not for the event loop."""
    visitor_id = None if request.user.is_authenticated else visitors.of_request(request)
    return (
        member_of(request) if visitor_id is None else visitors.principal(cast(BrandRequest, request).brand, visitor_id)
    )


def by_who_asks(member: View, visitor: View) -> View:
    """One address for both: visitors get `visitor`, everybody else `member`, which says itself who may call it."""

    @functools.wraps(member)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        response: HttpResponseBase = (visitor if is_visitor(request) else member)(request, *args, **kwargs)
        return response

    return declare(wrapper, "asker")


def brand_visitor(view: View) -> View:
    """A visitor's own rows: what `by_who_asks` leads them to. Opens the scope around the view and draws its page in it."""

    @functools.wraps(view)
    def wrapper(request: BrandRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        request.principal = asker_of(request)
        with asking(request.principal), scope(request.principal) as request.standing:
            response = view(request, *args, **kwargs)
            return response.render() if hasattr(response, "render") else response

    return declare(wrapper, "asker")


@contextmanager
def asking(principal: Principal) -> Iterator[None]:
    """What a visitor has not got may be the account's they have not signed in to, so they are led to sign in."""
    try:
        yield
    except NotFound as error:
        if principal.role != "app_visitor":
            raise
        raise NotAuthenticated(_("This is not here, or it belongs to an account. Sign in to see it.")) from error


def brand_member(view: View) -> View:
    """Members of the brand only. Opens the scope around the view and draws its page inside it."""
    return declare(_in_scope(view, "app_user", NotAMember.says), "member")


def brand_admin(view: View) -> View:
    """Admins and owners of the brand only, who see all its rows. For everybody else there is nothing here."""
    return declare(_in_scope(view, "app_brand", ""), "admin")


def _in_scope(view: View, role: Role, refusal: str | Promise) -> View:
    if iscoroutinefunction(view):
        raise TypeError("An async view cannot hold a scope open: use @member_asks.")

    @functools.wraps(view)
    def wrapper(request: BrandRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        request.principal = replace(member_of(request), role=role)
        try:
            with scope(request.principal) as request.standing:
                response = view(request, *args, **kwargs)
                if getattr(response, "streaming", False):
                    raise RuntimeError("a stream must not hold a scope open")
                return response.render() if hasattr(response, "render") else response
        except NotFound as error:
            if refusal and not hasattr(request, "standing"):
                raise NotAMember(str(refusal)) from error
            raise

    return wrapper


def member_goes_out(view: View) -> View:
    """Members of the brand only, for views that leave their scope: for somebody else's server, or to act as the service.

    Their standing is proved first. What they read or write of their own afterwards opens a scope of its own.
    """
    return declare(_outside_scope(view, "app_user", NotAMember.says), "member")


def admin_goes_out(view: View) -> View:
    """The same for admins and owners of the brand."""
    return declare(_outside_scope(view, "app_brand", ""), "admin")


def brand_reader(view: View) -> View:
    """Every member, where the brand shares its history: `request.principal` reads all its rows and writes none.

    For views that leave their scope; elsewhere there is nothing here, for its admins neither.
    """
    return declare(_outside_scope(view, "app_reader", ""), "reader")


def _outside_scope(view: View, role: Role, refusal: str | Promise) -> View:
    if iscoroutinefunction(view):
        raise TypeError("An async view never holds a scope open: use @member_asks.")

    @functools.wraps(view)
    def wrapper(request: BrandRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        request.principal = replace(member_of(request), role=role)
        try:
            with scope(request.principal):
                pass
        except NotFound as error:
            if refusal:
                raise NotAMember(str(refusal)) from error
            raise
        answer: HttpResponseBase = view(request, *args, **kwargs)
        return answer

    return wrapper


def member_asks(view: View) -> View:
    """Members of the brand only, for async views: they reach the database through `await as_member(request, work)`."""
    return declare(view, "member")


async def as_member(
    request: HttpRequest, work: Callable[Concatenate[Principal, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """One hop: find out who is asking, open their scope, and do `work(principal, ...)` in it."""

    def hop() -> T:
        principal = member_of(request)
        return in_scope(principal, work)(principal, *args, **kwargs)

    return await db(hop)


def member_or_visitor_asks(view: View) -> View:
    """Members and visitors, for async views: they reach the database through `await as_asker(request, work)`."""
    return declare(view, "asker")


async def as_asker(
    request: HttpRequest, work: Callable[Concatenate[Principal, P], T], *args: P.args, **kwargs: P.kwargs
) -> T:
    """`as_member`, for a visitor too."""

    def hop() -> T:
        principal = asker_of(request)
        with asking(principal):
            return in_scope(principal, work)(principal, *args, **kwargs)

    return await db(hop)


def api_key(needed: str) -> Callable[[View], View]:
    """Programs with a key that has the scope `needed`; async views call `key_holder(request, needed)` in their hop."""

    def decorate(view: View) -> View:
        cast(Any, view).needed_scope = needed
        return declare(view, "key")

    return decorate


def key_holder(request: HttpRequest, *needed: str) -> Principal:
    """The principal of a key that has one of the scopes `needed`. The call is counted before its scope is looked at.

    Raises  NotAuthenticated; TooManyCalls, of the key, of its person's plan, or of a network that tries keys
    """
    authorization, x_api_key = request.headers.get("Authorization", ""), request.headers.get("X-Api-Key", "")
    if app_tokens.is_one(authorization) and not x_api_key:
        return _app_user(request, authorization)
    text = keys.sent(authorization, x_api_key)
    guessing.refuse_who_tries(request, text)
    try:
        held = keys.authenticate(authorization, x_api_key)
    except NotAuthenticated:
        guessing.note(request, text)
        raise
    principal = held.principal
    left, full = limits.count(held.limits, key_id=principal.key_id)
    cast(BrandRequest, request).allowance = left
    if full:
        raise limits.refuse(full, "person" if full.counter.startswith("person") else "key")
    if not any(principal.may(scope) for scope in needed):
        raise Forbidden(f"This API key lacks the scope {' or '.join(needed)}.")
    return principal


def _app_user(request: HttpRequest, authorization: str) -> Principal:
    """Who signed in to an app, on the brand of this host, with all that they may do in a browser."""
    principal = app_tokens.principal(authorization, cast(BrandRequest, request).brand.pk)
    if principal is None:
        raise NotAuthenticated("This token is not valid (any more). Refresh it, or sign in again.")
    with scope(principal):
        member = Membership.objects.filter(brand_id=principal.brand_id, user_id=principal.owner_id)
        most = member.values_list("rate_limit_per_minute", flat=True).first()
    if most is not None:
        left, full = limits.count([limits.of_person(principal.brand_id, principal.owner_id, most)])
        cast(BrandRequest, request).allowance = left
        if full:
            raise limits.refuse(full, "person")
    return replace(principal, is_counted=True)


class Forged(Forbidden):
    """This request came with a session, but without its CSRF token. Programs send a key instead; nothing was changed."""

    code = "csrf_failed"


def key_caller(request: HttpRequest, *needed: str) -> Principal:
    """A key that has one of the scopes `needed`; `request.brand` is its own from here on, whatever the host."""
    principal = key_holder(request, *needed)
    cast(BrandRequest, request).brand = brands.by_id(principal.brand_id)
    return principal


def caller(request: HttpRequest, *needed: str) -> Principal:
    """Who calls our REST, on `request.brand`: a key that has one of the scopes `needed`, or a member's own session.

    A session comes with whatever a browser is made to send, so what changes something proves that a page of ours sent it.
    Reads session and user: not for the event loop. Whether a session's member still is one, the scope proves.
    """
    if {"Authorization", "X-Api-Key"} & request.headers.keys():
        return key_caller(request, *needed)
    principal = member_of(request)
    check = _FormCheck(lambda _: HttpResponse())
    check.process_request(request)
    check.process_view(request, HttpResponse, (), {})
    return principal


class _FormCheck(CsrfViewMiddleware):
    """Django's check of a form's token, asked by us: its middleware lets our REST pass, because keys need none."""

    def _reject(self, request: HttpRequest, reason: str) -> HttpResponse:
        raise Forged


def public(why: str) -> Callable[[View], View]:
    """Anybody, for the reason given."""
    if not why:
        raise ValueError("say why everybody may call this")

    def decorate(view: View) -> View:
        return declare(view, "public")

    return decorate
