"""Dates as people read them, in pages and in sentences: German says "3. Dezember", where English says "3 December"."""

from datetime import date
from functools import lru_cache

from django.utils.formats import date_format
from django.utils.translation import get_language


def said(at: date, shape: str) -> str:
    """A day or a moment, in the language of whoever reads; `shape` in Django's letters, as English has it."""
    return _day(at, shape, get_language()) if type(at) is date else date_format(at, shaped(shape))


@lru_cache(4096)
def _day(at: date, shape: str, language: str | None) -> str:
    """A list says few days many times."""
    return date_format(at, shaped(shape))


def shaped(shape: str) -> str:
    return shape.replace("j ", "j. ") if (get_language() or "").startswith("de") else shape
