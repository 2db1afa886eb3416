"""What kind of file this is: by what stands in it, never by what a browser says of it (F-15)."""

import unicodedata
from pathlib import PurePosixPath

from django.utils.translation import gettext_lazy as _

from knowledge.readers import BOMS
from lib.errors import Invalid

ACCEPTED = (
    ".txt,.md,.markdown,.csv,.tsv,.pdf,.docx,.log,text/plain,text/markdown,text/csv"  # what a browser offers first
)
KINDS = ("text", "markdown", "csv", "pdf", "docx")
BY_ENDING = {"md": "markdown", "markdown": "markdown", "csv": "csv", "tsv": "csv"}  # how text is called
TEXTS = {"txt", "log", *BY_ENDING}
BINARY = {"pdf": "pdf", "docx": "docx", "docm": "docx"}
HEAD = 4096  # bytes that are looked at
IMAGES = (b"\x89PNG", b"\xff\xd8\xff", b"GIF8", b"BM", b"II*\x00", b"MM\x00*", b"\x00\x00\x01\x00", b"\x8aMNG")
IMAGE_ENDINGS = {"png", "jpg", "jpeg", "gif", "webp", "bmp", "tif", "tiff", "heic", "heif", "avif", "svg", "ico"}
OTHERS = ((b"xl/workbook", "spreadsheet"), (b"ppt/presentation", "slides"))  # by a name that stands in a ZIP as it is

# Why a file is not taken, or could not be read: what, and what to do. `name` is the file's.
WHY = {
    "empty": _("“%(name)s” is empty. Choose another file."),
    "image": _("“%(name)s” is a picture, and pictures cannot be read here. Attach the text instead, or type what it shows."),
    "web_page": _("“%(name)s” is a web page. Save it as text or PDF, and attach that."),
    "spreadsheet": _("“%(name)s” is a spreadsheet. Save the sheet you need as CSV, and attach that."),
    "slides": _("“%(name)s” is a slide show. Save it as PDF, and attach that."),
    "archive": _("“%(name)s” is an archive. Unpack it, and attach the files you need."),
    "old_word": _("“%(name)s” is an old Word or Office file. Save it as DOCX or PDF, and attach that."),
    "rtf": _("“%(name)s” is an RTF file. Save it as DOCX or PDF, and attach that."),
    "mismatch": _("“%(name)s” is not what its ending says. Save it again in the program it comes from, and attach that."),
    "unknown": _("“%(name)s” cannot be read here. Text, Markdown, CSV, PDF and Word (DOCX) can."),
    "locked": _("“%(name)s” is locked with a password. Save it without one, and attach that."),
    "no_text": _("“%(name)s” holds no text: its pages are pictures, as a scanner makes them. Run text recognition first."),
    "damaged": _("“%(name)s” is damaged and cannot be read. Save it again in the program it comes from, and attach that."),
    "too_big": _("“%(name)s” unpacks to far more than it seems to be, so it was not read. Save the part you need by itself."),
    "too_slow": _("“%(name)s” takes too long to read. Save the part you need by itself, and attach that."),
    "lost": _("“%(name)s” could not be read this time. Remove it, and attach it again."),
}  # fmt: skip


class Unreadable(Invalid):
    """A file that is not taken. `why` is a key of WHY."""

    code = "unreadable_file"

    def __init__(self, why: str, name: str) -> None:
        super().__init__(words(why, name))
        self.why = why


def words(why: str, name: str) -> str:
    return str(WHY.get(why) or WHY["damaged"]) % {"name": name}


def called(name: str) -> str:
    """A file's name as it is shown and as a model reads it: the last part, on one line, nothing that reorders text (F-17)."""
    name = unicodedata.normalize("NFC", name.replace("\\", "/").encode("utf-8", "replace").decode())
    name = "".join(one if unicodedata.category(one)[0] != "C" else " " for one in name.rpartition("/")[2])
    name = " ".join(name.split()) or "file"
    if len(name) > 120:
        ending = PurePosixPath(name).suffix[:12]
        name = f"{name[: 119 - len(ending)]}…{ending}"
    return name


def sniff(name: str, content: bytes) -> str:
    """One of KINDS. Raises Unreadable, in words that say what it is instead."""
    why = ""
    kind, ending = _kind(content), PurePosixPath(name).suffix.lower().lstrip(".")
    if kind in WHY:
        why = kind
    elif ending in IMAGE_ENDINGS or BINARY.get(ending, kind) != kind or (kind != "text" and ending in TEXTS):
        why = "mismatch"
    if why:
        raise Unreadable(why, called(name))
    return BY_ENDING.get(ending, "text") if kind == "text" else kind


def _kind(content: bytes) -> str:
    head = content[:HEAD]
    if not content.strip():
        return "empty"
    if head.startswith(b"%PDF-"):
        return "pdf"
    if head.startswith(b"PK\x03\x04"):
        if b"word/" in content and b"[Content_Types].xml" in content:
            return "docx"
        return next((kind for mark, kind in OTHERS if mark in content), "archive")
    if head.startswith(IMAGES) or head[4:12] in (b"ftypheic", b"ftypavif", b"ftypmif1", b"ftypheix"):
        return "image"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "image"
    if head.startswith(b"\xd0\xcf\x11\xe0"):
        return "old_word"
    if head.startswith(b"{\\rtf"):
        return "rtf"
    if head.startswith((b"PK\x05\x06", b"\x1f\x8b", b"7z\xbc\xaf", b"Rar!", b"BZh", b"\xfd7zXZ")):
        return "archive"
    return _kind_of_text(head)


def _kind_of_text(head: bytes) -> str:
    encoding = next((encoding for bom, encoding in BOMS if head.startswith(bom)), "")
    text = head.decode(encoding or "latin-1", "replace").lstrip("\ufeff \t\r\n")
    if sum(1 for one in text if one < " " and one not in "\t\n\r\f\x1b\x1a") > len(text) // 100:
        return "unknown"
    begins = text[:200].lower()
    if begins.startswith("<svg") or (begins.startswith("<?xml") and "<svg" in text.lower()):
        return "image"
    if begins.startswith(("<!doctype html", "<html", "<head", "<body", "<script")):
        return "web_page"
    return "text"
