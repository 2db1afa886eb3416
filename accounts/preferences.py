"""How a person wants the product. The profile is the truth; one cookie mirrors it, so that no request has to ask for it.

Strangers have the cookie alone. What stands in it is checked, and what makes no sense in it is as if it were not there.
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields
from urllib.parse import parse_qsl, urlencode
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.utils import translation
from django.utils.translation.trans_real import get_supported_language_variant, parse_accept_lang_header

from accounts.models import Profile
from lib import zones
from lib.db import SERVICE, scope

COOKIE = "prefs"
KEPT_FOR_S = 365 * 24 * 3600


@dataclass(frozen=True, slots=True)
class Preferences:
    """The same names as in the profile; "" = as the browser, the brand, the system has it."""

    language: str = ""
    zone: str = ""
    theme: str = ""
    announce: str = Profile.Announce.FULL
    enter_sends: bool = True
    shortcuts_on: bool = True


def of(request: HttpRequest) -> Preferences:
    """What the cookie says. Asks nobody."""
    told = dict(parse_qsl(request.COOKIES.get(COOKIE, "")[:500]))
    return Preferences(
        language=_one_of(told.get("language", ""), dict(settings.LANGUAGES)),
        zone=_one_of(told.get("zone", ""), zones.KNOWN),
        theme=_one_of(told.get("theme", ""), Profile.Theme.values),
        announce=_one_of(told.get("announce", ""), Profile.Announce.values) or Profile.Announce.FULL,
        enter_sends=told.get("enter_sends") != "0",
        shortcuts_on=told.get("shortcuts_on") != "0",
    )


def _one_of(value: str, known: Collection[str]) -> str:
    return value if value in known else ""


def of_profile(profile: Profile) -> Preferences:
    return Preferences(**{field.name: getattr(profile, field.name) for field in fields(Preferences)})


def mirror(response: HttpResponseBase, preferences: Preferences) -> None:
    """Let the browser remember them; static/js/theme.js writes the colours into it, too."""
    told = {}
    for field in fields(Preferences):
        value = getattr(preferences, field.name)
        if value != field.default:
            told[field.name] = str(int(value)) if isinstance(value, bool) else value
    response.set_cookie(
        COOKIE,
        urlencode(told),
        max_age=KEPT_FOR_S,
        secure=settings.SESSION_COOKIE_SECURE,
        samesite="Lax",
    )


def language(request: HttpRequest) -> str:
    """The cookie's, else the first that the browser asks for and we have, else English."""
    if chosen := of(request).language:
        return chosen
    for wanted, _ in parse_accept_lang_header(request.headers.get("Accept-Language", "")[:200]):
        try:
            return get_supported_language_variant(wanted)
        except LookupError:
            continue
    return settings.LANGUAGE_CODE


def zone(request: HttpRequest) -> str:
    """The zone in which this person reads dates: their own, else the brand's. Windows of quotas are always the brand's."""
    brand_zone: str = request.brand.zone  # type: ignore[attr-defined]
    return of(request).zone or brand_zone


@contextmanager
def in_language_of(user_id: UUID | None) -> Iterator[None]:
    """For what is written to somebody who is not asking: notices, mails. Nobody's, or none chosen: as it is now."""
    with scope(SERVICE):
        profile = Profile.objects.filter(user_id=user_id).only("language") if user_id else Profile.objects.none()
        chosen = profile.values_list("language", flat=True).first()
    with translation.override(chosen or translation.get_language() or settings.LANGUAGE_CODE):
        yield
