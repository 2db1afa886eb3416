"""A file that export gave (docs/export.md), opened again: chat by chat, so that never more than one of them is in memory.

Where a chat begins and ends is told by brackets alone. What is cut out so and what stands around it are both read
strictly, so nothing passes that is no JSON as a whole.
"""

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from typing import Any

import orjson
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from conversations.chats.export.chats import FORMAT, VERSION
from lib.errors import Invalid, TooLarge

MOST_BYTES = 20 * 1024**2  # of a file, and of each document in a ZIP
MOST_UNPACKED_BYTES = 100 * 1024**2  # of all that a ZIP holds
MOST_CHATS = 1000
MOST_BRACKETS = 1_000_000  # opened in a document: an empty list is two letters, and 64 bytes once it is read
MOST_AROUND = 200_000  # bytes of a document that are of no chat
BESIDES = {"about-me.json"}  # what "all my data" holds besides chats

# Whatever stands before the next bracket that is in no string. Nothing of it is tried a second time.
NEXT_BRACKET = re.compile(rb'(?:[^"\[\]{}]++|"[^"\\]*+(?:\\.[^"\\]*+)*+")*+([\[\]{}])', re.DOTALL)
LIST_OF_CHATS = re.compile(rb'"chats"\s{0,100}:\s{0,100}\Z')


class NotAnExport(Invalid):
    says = gettext_lazy("This is no export of chats. Choose the JSON file, or the ZIP that it came in.")
    code = "not_an_export"


def chats(content: bytes) -> Iterator[Any]:
    """The chats of a JSON file or of a ZIP of such, as they are read; whether each is one, nobody has looked yet.

    Raises  NotAnExport, TooLarge, Invalid for what a newer release made
    """
    if len(content) > MOST_BYTES:
        raise TooLarge(_("A file may have up to 20 MB. Export fewer chats at a time."))
    number = 0
    for document in _documents(content):
        places = _places(document)
        _look_around(document, places)
        number += len(places)
        if number > MOST_CHATS:
            raise TooLarge(_("A file may hold up to 1,000 chats. Export fewer at a time."))
        for start, end in places:
            yield _read(document[start:end])


def _documents(content: bytes) -> Iterator[bytes]:
    if not content.startswith(b"PK"):
        yield content
        return
    left = MOST_UNPACKED_BYTES
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entries = [entry for entry in archive.infolist() if entry.filename.endswith(".json")]
            of_chats = [entry for entry in entries if "/" not in entry.filename or entry.filename.startswith("chats/")]
            for entry in [entry for entry in of_chats if entry.filename not in BESIDES][: MOST_CHATS + 1]:
                with archive.open(entry) as opened:
                    document = opened.read(min(left, MOST_BYTES) + 1)
                left -= len(document)
                if len(document) > MOST_BYTES:
                    raise TooLarge(_("A file may have up to 20 MB. Export fewer chats at a time."))
                if left < 0:
                    raise TooLarge(_("Unpacked, this file is larger than 100 MB. Export fewer chats at a time."))
                yield document
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError, OSError) as error:
        raise NotAnExport from error


def _look_around(document: bytes, places: Sequence[tuple[int, int]]) -> None:
    begins, ends = [start for start, _end in places], [0, *(end for _start, end in places)]
    around = [document[end:start] for end, start in zip(ends, [*begins, len(document)], strict=True)]
    if sum(map(len, around)) > MOST_AROUND:
        raise NotAnExport
    file = _read(b"null".join(around))
    if not isinstance(file, dict) or file.get("format") != FORMAT or file.get("chats") != [None] * len(places):
        raise NotAnExport
    if file.get("version") != VERSION:
        raise Invalid(_("This export was made by a newer release, which says more than this one understands."))


def _places(document: bytes) -> list[tuple[int, int]]:
    """Where the members of the outermost object's list "chats" stand."""
    found: list[tuple[int, int]] = []
    depth = opened = start = 0
    is_in_chats = False
    for match in NEXT_BRACKET.finditer(document):
        at = match.start(1)
        if document[at] in b"[{":
            depth, opened = depth + 1, opened + 1
            if opened > MOST_BRACKETS:
                raise NotAnExport
            if depth == 2:
                is_in_chats = LIST_OF_CHATS.search(document, max(at - 250, 0), at) is not None
            elif depth == 3:
                start = at
        else:
            depth -= 1
            if depth == 2 and is_in_chats:
                found.append((start, at + 1))
    return found


def _read(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise NotAnExport from error
