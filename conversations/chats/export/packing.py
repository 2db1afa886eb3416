"""Chats as files: what each is called, and many of them in one ZIP."""

import unicodedata
import zipfile
from collections.abc import Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import IO, Any

import orjson
from django.utils.translation import gettext_lazy

from accounts.models import Brand
from conversations.chats.export.chats import Chat, envelope
from conversations.chats.export.markdown import markdown
from conversations.chats.export.pdf import pdfs
from conversations.models import Export
from lib.errors import Unavailable
from lib.files import safe_name

Form = Export.Form
SUFFIXES: dict[str, str] = {Form.JSON: ".json", Form.MARKDOWN: ".md", Form.PDF: ".pdf"}
TYPES: dict[str, str] = {
    Form.JSON: "application/json",
    Form.MARKDOWN: "text/markdown; charset=utf-8",
    Form.PDF: "application/pdf",
}
OLDEST = datetime(1980, 1, 1, tzinfo=UTC)  # that a ZIP can name

Document = tuple[str, datetime, bytes]  # its name, when it last changed, what it holds


class NotDrawn(Unavailable):
    says = gettext_lazy(
        "This chat could not be drawn as a PDF within our limits. Its exports as Markdown and JSON have all of it."
    )
    status, code = 422, "pdf_not_drawn"


def one(chat: Chat, brand: Brand, form: str) -> tuple[str, bytes]:
    """A chat as one file, and its name. Raises NotDrawn"""
    ((name, _, content),) = written([chat], brand, form)
    if form == Form.PDF and not name.endswith(SUFFIXES[Form.PDF]):
        raise NotDrawn
    return name, content


def written(chats: Sequence[Chat], brand: Brand, form: str) -> Iterator[Document]:
    """Each chat as a file. One that cannot be drawn as a PDF comes as Markdown."""
    drawn: Iterable[bytes | None] = pdfs(chats) if form == Form.PDF else (None for _ in chats)
    for chat, pdf in zip(chats, drawn, strict=True):
        changed_at = chat["last_message_at"] or chat["created_at"]
        if form == Form.JSON:
            suffix, content = SUFFIXES[Form.JSON], as_json(envelope(brand, [chat]))
        elif pdf is not None:
            suffix, content = SUFFIXES[Form.PDF], pdf
        else:
            suffix, content = SUFFIXES[Form.MARKDOWN], markdown(chat).encode("utf-8", "replace")
        yield safe_name(f"{changed_at:%Y-%m-%d} {chat['title']}", suffix), changed_at, content


def as_json(document: Any) -> bytes:
    return orjson.dumps(document, option=orjson.OPT_INDENT_2 | orjson.OPT_APPEND_NEWLINE)


class Packer:
    """Writes a ZIP in which no two names are one, on a system that tells neither case nor composition apart."""

    def __init__(self, to: IO[bytes]) -> None:
        self.zip = zipfile.ZipFile(to, "w", zipfile.ZIP_DEFLATED)
        self.taken: set[str] = set()

    def add(self, name: str, changed_at: datetime, content: bytes, *, below: str = "") -> None:
        """below   a folder of ours, `chats/`"""
        stem, dot, suffix = name.rpartition(".")
        count, wanted = 1, below + name
        while (known := unicodedata.normalize("NFKC", wanted).casefold()) in self.taken:
            count += 1
            wanted = f"{below}{stem} ({count}){dot}{suffix}"
        self.taken.add(known)
        at = max(changed_at, OLDEST).astimezone(UTC)
        entry = zipfile.ZipInfo(wanted, (at.year, at.month, at.day, at.hour, at.minute, at.second))
        entry.compress_type = zipfile.ZIP_DEFLATED
        self.zip.writestr(entry, content)

    def close(self) -> None:
        self.zip.close()


def packed(documents: Iterable[Document], to: IO[bytes]) -> None:
    packer = Packer(to)
    for name, changed_at, content in documents:
        packer.add(name, changed_at, content)
    packer.close()


def unpacked(part: IO[bytes]) -> Iterator[Document]:
    """What packed() wrote."""
    with zipfile.ZipFile(part) as archive:
        for entry in archive.infolist():
            yield entry.filename, datetime(*entry.date_time, tzinfo=UTC), archive.read(entry)
