"""Dates as people read them, in pages and in sentences: German says "3. Dezember", where English says "3 December"."""

from datetime import date

from django.utils.formats import date_format
from django.utils.translation import get_language


def said(at: date, shape: str) -> str:
    """A day or a moment, in the language of whoever reads; `shape` in Django's letters, as English has it."""
    return date_format(at, shaped(shape))


def shaped(shape: str) -> str:
    return shape.replace("j ", "j. ") if (get_language() or "").startswith("de") else shape
