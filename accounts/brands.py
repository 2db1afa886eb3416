"""Which brand a request is for: by the host name it came to."""

import time
from uuid import UUID

from django.conf import settings
from django.core.exceptions import DisallowedHost
from django.http import HttpRequest
from django.utils.translation import gettext as _

from accounts import keys
from accounts.models import Brand
from lib.errors import NotFound

FRESH_FOR_S = 5.0  # a brand's look may lag this long; its walls never do, they are asked on every scope
MOST_KNOWN = 1000
_known: dict[str | UUID, tuple[float, Brand | None]] = {}


class NoBrand(NotFound):
    """No brand lives at this address."""


def by_host(host: str) -> Brand:
    """The brand of `act.example.com:8000`; plain `localhost` (and 127.0.0.1) is the first brand made."""
    name = _name(host)
    brand = _fresh(name)
    if brand is None:
        raise NoBrand(_("No brand lives at %(name)s. Check the address.") % {"name": name})
    return brand


def _name(host: str) -> str:
    return host.rsplit(":", 1)[0].strip("[]").lower().rstrip(".")


def by_id(brand_id: UUID) -> Brand:
    """The brand of an API key."""
    brand = _fresh(brand_id)
    if brand is None:
        raise NoBrand(_("This brand is not here (any more)."))
    return brand


def address(brand: Brand, path: str = "") -> str:
    """Where a path of this brand is found, for links in mails and at vendors: `https://chat.example.com/c/`."""
    return settings.SITE_ADDRESS.format(host=brand.domain) + path


def crowd(request: HttpRequest) -> UUID | None:
    """Whose work this request is, as far as is known without asking anybody: it only decides who waits for whom.

    Hosts and keys that were never seen are one crowd together, so inventing them gains nothing.
    """
    if key := request.headers.get("Authorization") or request.headers.get("X-Api-Key"):
        return keys.brand_known(key)
    try:
        name = _name(request.get_host())
    except DisallowedHost:  # refused where every request is, not here
        return None
    _, brand = _known.get(name, (0, None))
    return brand.pk if brand else None


def _fresh(name: str | UUID) -> Brand | None:
    now = time.monotonic()
    seen_at, brand = _known.get(name, (-FRESH_FOR_S, None))
    if now - seen_at >= FRESH_FOR_S:
        brand = _look_up(name)
        if len(_known) > MOST_KNOWN:
            _known.clear()
        _known[name] = (now, brand)
    return brand


def _look_up(name: str | UUID) -> Brand | None:
    active = Brand.objects.filter(is_active=True)
    if isinstance(name, UUID):
        return active.filter(pk=name).first()
    if name in ("localhost", "127.0.0.1", "::1"):
        return active.order_by("created_at").first()
    return active.filter(domain=name).first()


def forget() -> None:
    """Look every brand up again; for tests and for the admin's save."""
    _known.clear()
