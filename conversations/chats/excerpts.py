"""The part of a text that a search is about, with what was looked for marked."""

import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise

from django.utils.html import format_html, format_html_join
from django.utils.safestring import SafeString

from lib.folding import spaced

SHOWN = 220  # characters of a text
BEFORE = 60  # of these, before the first mark
STEP = 2000  # characters looked at at once
SIGNS = re.compile(r"[*`]+|^[#>]+", re.MULTILINE)  # of Markdown, where they would only be in the way


def excerpt(text: str, terms: Sequence[Sequence[str]], *, is_open: bool = False) -> SafeString:
    """The piece of a text in which most of the terms stand together; the beginning, where none does.

    terms    words that stand side by side, folded; the text is compared as it is stored for search
    is_open  the last word of the last term may go on
    """
    wanted = _pattern(terms, is_open)
    piece = " ".join(SIGNS.sub("", _piece(text, wanted, len(terms))).split())
    spans = list(_spans(piece, wanted))
    start = _start(spans, len(piece))
    if start > 0 and (space := piece.find(" ", start, start + BEFORE)) >= 0:
        start = space + 1  # at a word
    start = max(start, 0)
    end = start + SHOWN
    end = len(piece) if end >= len(piece) else max(piece.rfind(" ", start, end), start + SHOWN // 2)
    inside = [(a, min(b, end)) for a, b in spans if start <= a < end]
    return format_html(
        "{}{}{}", "… " if start else "", _marked(piece, inside, start, end), " …" if end < len(piece) else ""
    )


def marked(text: str, terms: Sequence[Sequence[str]], *, is_open: bool = False) -> SafeString:
    """The whole of a short text, a title."""
    return _marked(text, list(_spans(text, _pattern(terms, is_open))), 0, len(text))


def _pattern(terms: Sequence[Sequence[str]], is_open: bool) -> re.Pattern[str]:
    """Of folded text: whole words, side by side."""
    parts = [r"\s+".join(map(re.escape, term)) + r"(?!\S)" for term in terms]
    if is_open and parts:
        parts[-1] = parts[-1].removesuffix(r"(?!\S)")
    return re.compile(r"(?<!\S)(?:" + "|".join(sorted(parts, key=len, reverse=True)) + ")" if parts else "(?!)")


def _piece(text: str, wanted: re.Pattern[str], most: int) -> str:
    """The first piece of a text that has the most of the terms. Pieces overlap by what is shown."""
    best, best_count = text[:STEP], -1
    for start in range(0, max(len(text), 1), STEP):
        piece = text[max(start - SHOWN, 0) : start + STEP]
        count = len({match[0] for match in wanted.finditer(spaced(piece))})
        if count > best_count:
            best, best_count = piece, count
        if count >= most:
            break
    return best


@lru_cache(4096)
def _letter(letter: str) -> str:
    return spaced(letter)


def _spans(text: str, wanted: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    """Where the terms stand in the text as it was written: folding changes how many letters there are."""
    folded: list[str] = []
    places: list[int] = []
    for place, letter in enumerate(text):
        as_folded = _letter(letter)
        folded.append(as_folded)
        places += [place] * len(as_folded)
    for match in wanted.finditer("".join(folded)):
        end = places[match.end() - 1] + 1
        while end < len(text) and not _letter(text[end]):  # a mark belongs to the letter before it
            end += 1
        yield places[match.start()], end


def _start(spans: Sequence[tuple[int, int]], length: int) -> int:
    """Before the mark after which most others follow within what is shown."""
    if not spans or length <= SHOWN:
        return 0
    best = max(spans, key=lambda span: sum(span[0] <= other[0] < span[0] + SHOWN - BEFORE for other in spans))
    return min(best[0] - BEFORE, length - SHOWN)


def _marked(text: str, spans: Iterable[tuple[int, int]], start: int, end: int) -> SafeString:
    """Escaped text; each span once, in order."""
    spans = list(spans)
    edges = [start, *(edge for span in spans for edge in span), end]
    parts = [(text[a:b], index % 2) for index, (a, b) in enumerate(pairwise(edges))]
    return format_html_join(
        "", "{}", ((format_html("<mark>{}</mark>", part) if is_mark else part,) for part, is_mark in parts if part)
    )
