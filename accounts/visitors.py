"""Somebody without an account: a signed cookie, a row that comes with the first question, and the network they ask from.

The cookie is only a name that nobody can make up. What it still opens the database decides: a visitor without a row has
nothing, and whoever signed up has none any more.
"""

from datetime import timedelta
from ipaddress import IPv6Address, ip_address, ip_network
from typing import cast
from uuid import UUID

from allauth.account.adapter import get_adapter
from django.conf import settings
from django.core.cache import cache
from django.db.models.functions import Now
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils.crypto import salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from accounts import circumstances
from accounts.models import Brand, Visitor
from lib.db import SERVICE, Principal, scope
from lib.errors import DomainError
from lib.ids import uuid7

COOKIE = "visitor"
HOST_COOKIE = f"__Host-{COOKIE}"  # over TLS: a browser takes it from this very host only, not from a neighbour's
KNOWN_FOR = timedelta(days=30)  # since the last question
NEW_PER_HOUR = 60  # of one network: how many rows a stranger who throws cookies away can make
PREFIX_BITS = {4: 24, 6: 48}


class TooManyVisitors(DomainError):
    says = gettext_lazy("Too many new visitors come from one network.")
    status, code = 429, "too_many_visitors"


def of_request(request: HttpRequest) -> UUID | None:
    """Whose cookie this is. One that was forged, is too old or is another brand's is nobody's, and never an error."""
    name = _sent(request)
    if name is None:
        return None
    text = request.get_signed_cookie(name, default="", salt=_salt(_brand(request)), max_age=KNOWN_FOR)
    try:
        return UUID(text)
    except ValueError:
        return None


def has_cookie(request: HttpRequest) -> bool:
    """Whether this browser was given a name once; whose it is, or whether it is good for anything, nobody has looked."""
    return _sent(request) is not None


def _sent(request: HttpRequest) -> str | None:
    """The cookie to read: the plain one, from before there was the other, goes on until the next question."""
    names = (HOST_COOKIE, COOKIE) if settings.SESSION_COOKIE_SECURE else (COOKIE,)
    return next((name for name in names if request.COOKIES.get(name)), None)  # an emptied one is none


def principal(brand: Brand, visitor_id: UUID) -> Principal:
    circumstances.note_visitor(visitor_id)
    return Principal("app_visitor", brand.pk, visitor_id)


def arrive(request: HttpRequest) -> Principal:
    """The visitor who asks, with a row, made if need be; with no scope open.

    A cookie whose row is gone gets it back under the same id, and with it what that one has used.

    Raises  TooManyVisitors; no row is made then
    """
    brand, visitor_id = _brand(request), of_request(request)
    with scope(SERVICE):
        if visitor_id and Visitor.objects.filter(pk=visitor_id, brand=brand).update(last_seen_at=Now()):
            return principal(brand, visitor_id)
    _refuse_a_flood(brand, network_of(request))
    arrived = Visitor(pk=visitor_id or uuid7(), brand_id=brand.pk, last_seen_at=Now())
    with scope(SERVICE):
        Visitor.objects.bulk_create([arrived], ignore_conflicts=True)
    return principal(brand, arrived.pk)


def network_of(request: HttpRequest) -> UUID:
    """The network this request came from (IPv4 /24, IPv6 /48), as a name that does not say which one it is.

    Where the address comes from stands in the settings: the connection's own, or the trusted proxy's word.
    """
    address = ip_address(get_adapter(request).get_client_ip(request))
    if isinstance(address, IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    prefix = ip_network((int(address), PREFIX_BITS[address.version]), strict=False)
    return UUID(bytes=salted_hmac("accounts.visitors.network", str(prefix), algorithm="sha256").digest()[:16])


def remember(response: HttpResponseBase, brand: Brand, visitor_id: UUID) -> None:
    """Give the browser its name, for another KNOWN_FOR."""
    response.set_signed_cookie(
        HOST_COOKIE if settings.SESSION_COOKIE_SECURE else COOKIE,
        visitor_id.hex,
        salt=_salt(brand),
        max_age=KNOWN_FOR,
        httponly=True,
        samesite="Lax",
        secure=settings.SESSION_COOKIE_SECURE,
    )


def forget(response: HttpResponseBase) -> None:
    for name in (HOST_COOKIE, COOKIE) if settings.SESSION_COOKIE_SECURE else (COOKIE,):
        response.delete_cookie(name, samesite="Lax")


def _refuse_a_flood(brand: Brand, network_id: UUID) -> None:
    slot = f"visitors:{brand.pk}:{network_id}"
    cache.add(slot, 0, 3600)
    if cache.incr(slot) > NEW_PER_HOUR:
        raise TooManyVisitors(
            _("Very many people ask from your network without an account. Sign in, or try again in an hour.")
            + " "
            + _("Your text is kept, and nothing was charged."),
            retry_after=3600,
        )


def _brand(request: HttpRequest) -> Brand:
    return cast(Brand, request.brand)  # type: ignore[attr-defined]


def _salt(brand: Brand) -> str:
    return f"accounts.visitors.{brand.pk.hex}"
