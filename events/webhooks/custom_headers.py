"""Headers of the brand's own that go along with each delivery, often a key of its server's: sealed, and never shown again."""

import json
import re

from django.utils.translation import gettext as _

from lib.errors import Invalid
from lib.secret import Secret

MOST, MOST_CHARS = 10, 1000
NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,64}")
VALUE = re.compile(r"[\x20-\x7e]*")
# What HTTP itself, the signature or our own client says (W-15).
OURS = re.compile(
    r"(host|content-.*|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|cookie2?|set-cookie|date|via|from"
    r"|forwarded|x-forwarded-.*|accept-encoding|user-agent|webhook-.*|proxy-.*|sec-.*|:.*)",
    re.IGNORECASE,
)
KEPT = "••••"  # stands for a value that is kept as it was


def parse(text: str, before: Secret | None = None) -> Secret | None:
    """A JSON object of the lines `Name: value`. A value of dots is the one it had.

    Raises  Invalid, in words
    """
    had = opened(before)
    found: dict[str, str] = {}
    for line in filter(str.strip, re.split(r"\r\n|\n", text)):
        name, colon, value = line.partition(":")
        name, value = name.strip(" "), value.strip(" ")
        if value == KEPT:
            value = had.get(name, "")
        if not colon or not value or not NAME.fullmatch(name):
            raise Invalid(_("Write each header on a line of its own, as “Name: value”."))
        if not VALUE.fullmatch(value) or len(value) > MOST_CHARS:
            raise Invalid(
                _("The value of %(name)s has characters that no header can carry, or more than 1,000.") % {"name": name}
            )
        if OURS.fullmatch(name):
            raise Invalid(_("The header %(name)s is set by us and cannot be chosen.") % {"name": name})
        if name.lower() in (known.lower() for known in found):
            raise Invalid(_("The header %(name)s stands there twice.") % {"name": name})
        found[name] = value
    if len(found) > MOST:
        raise Invalid(_("At most 10 headers go along."))
    return Secret(json.dumps(found)) if found else None


def opened(sealed: Secret | None) -> dict[str, str]:
    return dict(json.loads(sealed.reveal())) if sealed else {}


def shown(sealed: Secret | None) -> str:
    """As lines, with dots for the values."""
    return "\n".join(f"{name}: {KEPT}" for name in opened(sealed))
