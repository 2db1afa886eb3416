"""IANA time zones, as a model field validates them."""

from zoneinfo import available_timezones

from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _

KNOWN = frozenset(available_timezones())  # the call reads a thousand files
# Those with a place or UTC; the others are old names and offsets with their sign the wrong way round.
ZONES = ["UTC", *sorted(zone for zone in KNOWN if "/" in zone and not zone.startswith("Etc/"))]


def is_zone(name: str) -> None:
    if name not in KNOWN:
        raise ValidationError(_("%(name)s is not an IANA time zone, such as Europe/Amsterdam.") % {"name": name})
