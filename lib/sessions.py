"""How long a browser's session lasts: from signing in, or from when its person last chose to stay."""

import time
from typing import Any

from django.conf import settings

SIGNED_IN = "account_authentication_methods"  # allauth's: how and when the person signed in
KEPT_AT = "kept_at"


def ends_in_s(session: Any) -> int | None:
    """Seconds until the session is over, at least 0; None where nobody knows when it began."""
    begun_at = session.get(KEPT_AT) or max((way.get("at", 0) for way in session.get(SIGNED_IN, [])), default=0)
    return max(0, int(begun_at + settings.SESSION_COOKIE_AGE - time.time())) if begun_at else None


def keep(session: Any) -> None:
    """Let it last as long again from now on."""
    session[KEPT_AT] = time.time()
    session.set_expiry(settings.SESSION_COOKIE_AGE)
