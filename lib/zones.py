"""IANA time zones, as a model field validates them."""

from zoneinfo import available_timezones

from django.core.exceptions import ValidationError


def is_zone(name: str) -> None:
    if name not in available_timezones():
        raise ValidationError(f"{name} is not an IANA time zone, such as Europe/Amsterdam.")
