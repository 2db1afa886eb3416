"""Dates in the reader's language, in sentences and in every template."""

from datetime import UTC, date, datetime

import pytest
from django.template import engines
from django.utils import translation

from lib import dates

AT = datetime(2026, 12, 3, 14, 5, tzinfo=UTC)
DRAW = (
    '{% load tz %}{{ at|timezone:"Europe/Berlin"|date:"j F Y, H:i" }}|{{ at|date:"Y-m-d" }}|'
    '{{ x|date:"j F" }}|{{ at|date }}'
)


@pytest.mark.parametrize(
    ("language", "sentence", "page"),
    [
        ("en", "3 December", "3 December 2026, 15:05|2026-12-03||Dec. 3, 2026"),
        ("de", "3. Dezember", "3. Dezember 2026, 15:05|2026-12-03||3. Dezember 2026"),
    ],
)
def test_a_day_has_its_dot_in_german_wherever_it_is_said(language, sentence, page):
    with translation.override(language):
        assert dates.said(AT, "j F") == dates.said(date(2026, 12, 3), "j F") == sentence
        assert engines["django"].from_string(DRAW).render({"at": AT, "x": None}) == page
