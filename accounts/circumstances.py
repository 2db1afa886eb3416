"""Where a request came from, for what is told of it: the class of the device, the country, and whether a visitor asks; for
the audit log its address and browser.

Kept beside the request, so that the task that writes its answer knows it too; nothing of it is looked up before it is told.
"""

import re
from contextvars import ContextVar
from ipaddress import IPv6Address, ip_address
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
    address = request.META.get("REMOTE_ADDR") or ""  # behind a proxy, what FORWARDED_ALLOW_IPS lets it tell
    _here.set({"agent": request.headers.get("User-Agent", "")[:300], "country": country[:2], "address": address})


def came_from() -> tuple[str | None, str]:
    """Address and User-Agent. None: there is no request, or its server listens on a file and knows of no address."""
    here = _here.get() or {}
    try:
        address = ip_address(here.get("address", "").partition("%")[0])
    except ValueError:
        return None, here.get("agent", "")
    ipv4 = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(ipv4 or address), here.get("agent", "")


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
