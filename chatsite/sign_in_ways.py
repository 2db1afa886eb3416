"""How a person gets in: sessions, second factor, addresses, accounts elsewhere. All of it stands at the door, so nothing
here runs inside a scope.
"""

import re
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, cast

from allauth.account.models import EmailAddress
from allauth.account.views import password_set
from allauth.mfa.models import Authenticator
from allauth.mfa.utils import is_mfa_enabled
from allauth.socialaccount.models import SocialAccount
from allauth.usersessions.models import UserSession
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.sessions.models import Session
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST

from accounts import confirming
from accounts.access import BrandRequest, declare, member_goes_out
from accounts.models import User
from events import activity
from events.activity import lines
from lib import clock

SEEN = "seen"  # a cookie: when this browser's session was last written down as seen
SEEN_EVERY = timedelta(hours=1)
BROWSERS = (("Edg/", "Edge"), ("OPR/", "Opera"), ("Firefox/", "Firefox"), ("Chrome/", "Chrome"), ("Safari/", "Safari"))
SYSTEMS = (("Android", "Android"), ("iPhone", "iPhone"), ("iPad", "iPad"), ("Windows", "Windows"), ("Mac OS", "macOS"))
PLACE = re.compile(r"[A-Za-z]{2}")


@dataclass(frozen=True, slots=True)
class Place:
    """One session, as its person sees it."""

    id: int
    device: str
    address: str
    country: str  # two letters, where the proxy says so
    seen_at: datetime
    is_here: bool


def of(request: BrandRequest) -> dict[str, Any]:
    """For the settings page."""
    user = cast(User, request.user)
    addresses = list(EmailAddress.objects.filter(user_id=user.pk))
    codes = Authenticator.objects.filter(user_id=user.pk, type=Authenticator.Type.RECOVERY_CODES).first()
    return {
        "sessions": sessions(request),
        "has_second_factor": is_mfa_enabled(user),
        "codes_left": len(codes.wrap().get_unused_codes()) if codes else 0,
        "has_password": user.has_usable_password(),
        "is_confirmed": any(address.verified and address.primary for address in addresses),
        "coming_address": next((row.email for row in addresses if not row.primary and not row.verified), ""),
        "happened": [
            {
                "what": lines.what(line),
                "at": line.created_at,
                "origin": asked,
                "device": device(asked.user_agent) if asked else "",
            }
            for line, asked in lines.own(user.pk)
        ],
        "elsewhere": [row.get_provider().name for row in SocialAccount.objects.filter(user_id=user.pk)],
        "offers_elsewhere": bool(settings.SOCIALACCOUNT_PROVIDERS),
    }


def sessions(request: HttpRequest) -> list[Place]:
    """Those that are open, this one first, then the one that was seen last."""
    rows = UserSession.objects.filter(user_id=request.user.pk).order_by("-last_seen_at")[:100]
    open_now = Session.objects.filter(session_key__in=[row.session_key for row in rows], expire_date__gt=clock.now())
    keys = set(open_now.values_list("session_key", flat=True))
    found = [
        Place(
            id=row.pk,
            device=device(row.user_agent),
            address=row.ip,
            country=row.data.get("country", ""),
            seen_at=row.last_seen_at,
            is_here=row.session_key == request.session.session_key,
        )
        for row in rows
        if row.session_key in keys
    ]
    return sorted(found, key=lambda place: not place.is_here)


def device(user_agent: str) -> str:
    """Firefox on Windows."""
    browser = next((name for mark, name in BROWSERS if mark in user_agent), "")
    system = next((name for mark, name in SYSTEMS if mark in user_agent), "Linux" if "Linux" in user_agent else "")
    if browser and system:
        return _("%(browser)s on %(system)s") % {"browser": browser, "system": system}
    return browser or system or _("An unknown device")


@login_required
def set_password(request: HttpRequest) -> HttpResponseBase:
    """allauth's page for a first password, which is proof for everything that asks who is there: so it asks, too (A-17).

    The form is shown to who has proved that, and not kept meanwhile: no password is to stand in a session.
    """
    if request.method == "POST" and not confirming.is_fresh(request):
        return HttpResponseRedirect(request.path)
    confirming.require(request)
    response: HttpResponseBase = password_set(request)
    return response


declare(set_password, "account")


@member_goes_out
@require_POST
def end(request: BrandRequest) -> HttpResponse:
    """Sign out one session, or all but this one."""
    rows = UserSession.objects.filter(user_id=request.user.pk).exclude(session_key=request.session.session_key)
    which = request.POST.get("session", "")
    rows = rows if which == "others" else rows.filter(pk=int(which) if which.isdecimal() and len(which) < 16 else -1)
    ended = list(rows)
    for row in ended:
        row.end()
    if ended:
        activity.record(
            request.brand.pk,
            "session.ended",
            actor_id=request.principal.owner_id,
            resource=("user", request.principal.owner_id),
            changes={"sessions": len(ended)},
        )
    said = ngettext("%(count)s session is signed out.", "%(count)s sessions are signed out.", len(ended))
    messages.success(request, said % {"count": len(ended)})
    return HttpResponseRedirect(f"{reverse('settings')}#sessions", status=303)


def saw(request: HttpRequest, response: HttpResponseBase) -> None:
    """Write down that this session was seen now, and let the browser say when that was."""
    _note(request)
    _remember(response)


def is_due(request: HttpRequest) -> bool:
    """Whether this session was written down as seen an hour ago or longer. Asks nobody."""
    told = request.COOKIES.get(SEEN, "")
    return request.method == "GET" and told.isdecimal() and int(told[:12]) < time.time() - SEEN_EVERY.total_seconds()


def _note(request: HttpRequest) -> None:
    country = request.headers.get(settings.COUNTRY_HEADER, "") if settings.COUNTRY_HEADER else ""
    data = {"country": country.upper()} if PLACE.fullmatch(country) else {}
    mine = UserSession.objects.filter(session_key=request.session.session_key)
    mine.update(last_seen_at=clock.now(), data=data)


def _remember(response: HttpResponseBase) -> None:
    response.set_cookie(
        SEEN,
        str(int(time.time())),
        max_age=settings.SESSION_COOKIE_AGE,
        secure=settings.SESSION_COOKIE_SECURE,
        httponly=True,
        samesite="Lax",
    )
