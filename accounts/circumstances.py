"""Where a request came from, for what is told of it: the class of the device, the country, and whether a visitor asks.

Kept beside the request, so that the task that writes its answer knows it too; nothing of it is looked up before it is told.
"""

import re
from contextvars import ContextVar
from uuid import UUID

from django.conf import settings
from django.http import HttpRequest

COUNTRY = re.compile(r"[A-Z]{2}")
UNKNOWN_COUNTRIES = {"XX", "T1"}  # Cloudflare's words for "nobody knows" and Tor
DEVICES = (  # the first that fits; programs are none of them
    ("bot", re.compile(r"bot\b|crawl|spider|preview", re.I)),
    ("tablet", re.compile(r"ipad|tablet|android(?!.*mobi)", re.I)),
    ("phone", re.compile(r"iphone|ipod|mobi|android", re.I)),
    ("desktop", re.compile(r"windows nt|macintosh|x11|cros|linux", re.I)),
)

_here: ContextVar[dict[str, str] | None] = ContextVar("circumstances", default=None)


def begin(request: HttpRequest) -> None:
    """Remember what this request says of itself."""
    country = request.headers.get(settings.COUNTRY_HEADER, "") if settings.COUNTRY_HEADER else ""
    _here.set({"agent": request.headers.get("User-Agent", "")[:300], "country": country[:2]})


def note_visitor(visitor_id: UUID) -> None:
    """It is a visitor who asks. Threads and tasks of this request hear of it."""
    if (here := _here.get()) is not None:
        here["visitor"] = str(visitor_id)


def known() -> dict[str, str]:
    """`visitor_id`, `device` and `country`, as far as they are known."""
    here = _here.get()
    if not here:
        return {}
    country, agent = here["country"].upper(), here["agent"]
    told = {
        "visitor_id": here.get("visitor", ""),
        "device": next((name for name, pattern in DEVICES if pattern.search(agent)), ""),
        "country": country if COUNTRY.fullmatch(country) and country not in UNKNOWN_COUNTRIES else "",
    }
    return {name: value for name, value in told.items() if value}
