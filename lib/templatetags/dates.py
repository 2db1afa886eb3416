"""`{{ at|date:"j F Y" }}` of every template, by lib.dates: settings put this before Django's own, so that no page forgets."""

from typing import Any

from django import template
from django.template import defaultfilters

from lib import dates

register = template.Library()


@register.filter(expects_localtime=True, is_safe=False)
def date(at: Any, shape: str | None = None) -> str:
    return str(defaultfilters.date(at, shape and dates.shaped(shape)))
