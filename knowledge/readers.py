"""File formats to text. Only ever called by confined.py: what stands here may be broken by what it reads."""

import codecs
import encodings
import logging
import pkgutil
import time
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib import import_module
from io import BytesIO
from types import ModuleType
from typing import Any

MOST_CHARACTERS = 1_000_000  # of one file; more is cut
MOST_PAGES = 2000
MOST_UNPACKED_BYTES = 50 * 1024**2
MOST_TIMES_LARGER = 100  # than packed, of what unpacks to more than a megabyte
PATIENCE_S = 12  # of CPU: what was read until then is kept, and said to be cut
SAMPLE = 64 * 1024  # bytes, enough to guess an encoding
BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
ENCODINGS = """cp1252 cp1250 cp1251 cp1253 cp1254 cp1255 cp1256 koi8_r shift_jis euc_jp gb18030 big5 euc_kr""".split()  # noqa: SIM905
FALLBACK = "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"  # the same text once more

Tell = Callable[[int, int], object]
Found = tuple[str, int | None, bool]


class Refused(Exception):
    """A key of kinds.WHY."""


def ready(kind: str) -> Callable[[bytes, Tell], Found]:
    """What reads this kind, with all that it will ever import already there."""
    logging.disable(logging.CRITICAL)  # of what they say about broken files
    _have_all_of(encodings)  # any may be named in a PDF
    if kind == "pdf":
        import pypdf

        _have_all_of(pypdf)
        return _pdf
    if kind == "docx":
        import docx  # noqa: F401

        return _docx
    import charset_normalizer  # noqa: F401

    return _text


def _have_all_of(package: ModuleType) -> None:
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        with suppress(ImportError):  # what belongs to another system, or to a library that is not here
            import_module(module.name)


def _text(content: bytes, tell: Tell) -> Found:
    return _kept(iter([_decoded(content)]), None)


def _decoded(content: bytes) -> str:
    for bom, encoding in BOMS:
        if content.startswith(bom):
            return content.decode(encoding, "replace")
    try:
        return content.decode()
    except UnicodeDecodeError:
        from charset_normalizer import from_bytes

        best = from_bytes(content[:SAMPLE], cp_isolation=ENCODINGS).best()
        return content.decode(best.encoding if best else "cp1252", "replace")


def _pdf(content: bytes, tell: Tell) -> Found:
    from pypdf import PasswordType, PdfReader

    reader = PdfReader(BytesIO(content))
    if reader.is_encrypted and reader.decrypt("") == PasswordType.NOT_DECRYPTED:
        raise Refused("locked")
    pages = len(reader.pages)

    def texts() -> Iterator[str]:
        failures = 0
        for number in range(min(pages, MOST_PAGES)):
            tell(number + 1, pages)
            try:
                yield reader.pages[number].extract_text()
            except (MemoryError, RecursionError):
                raise
            except Exception:  # a page that is broken by itself
                failures += 1
        if pages and failures == min(pages, MOST_PAGES):
            raise Refused("damaged")

    text, _, is_cut = _kept(texts(), pages)
    if not text:
        raise Refused("no_text")
    return text, pages, is_cut or pages > MOST_PAGES


def _docx(content: bytes, tell: Tell) -> Found:
    from docx.opc.package import OpcPackage
    from docx.oxml.parser import parse_xml

    _refuse_a_bomb(content)
    package = OpcPackage.open(BytesIO(content))
    body: Any = parse_xml(package.main_document_part.blob)
    found = _kept(_paragraphs(body), None)
    if not found[0]:
        raise Refused("no_text")
    return found


def _refuse_a_bomb(content: bytes) -> None:
    """By what the directory says: no entry ever unpacks to more than that."""
    with zipfile.ZipFile(BytesIO(content)) as packed:
        entries = packed.infolist()
        if any(entry.flag_bits & 1 for entry in entries):
            raise Refused("locked")
        sizes = [(entry.file_size, entry.compress_size) for entry in entries]
    unpacked = sum(size for size, _ in sizes)
    if unpacked > MOST_UNPACKED_BYTES or (unpacked > 1024**2 and unpacked > MOST_TIMES_LARGER * len(content)):
        raise Refused("too_big")


def _paragraphs(element: Any) -> Iterator[str]:
    """Paragraphs in their order, a table's row as a line of cells. Deleted text and codes of fields are other tags."""
    for child in element:
        if not isinstance(child.tag, str) or child.tag == FALLBACK:
            continue
        name = child.tag.rpartition("}")[2]
        if name == "p":
            yield "".join(_runs(child))
        elif name == "tr":
            yield " | ".join(" ".join(_paragraphs(cell)).strip() for cell in child if str(cell.tag).endswith("}tc"))
        else:
            yield from _paragraphs(child)


def _runs(element: Any) -> Iterator[str]:
    for child in element:
        if not isinstance(child.tag, str) or child.tag == FALLBACK:
            continue
        name = child.tag.rpartition("}")[2]
        if name == "t":
            yield child.text or ""
        elif name == "tab":
            yield "\t"
        elif name in ("br", "cr"):
            yield "\n"
        elif name == "p":  # of a text box
            yield "\n" + "".join(_runs(child))
        elif name != "pPr":  # whose tabs are stops
            yield from _runs(child)


def _kept(texts: Iterator[str], pages: int | None) -> Found:
    """All of it, or as much as there is room and time for. What no database stores is left out."""
    found, length, is_cut = [], 0, False
    for text in texts:
        text = "".join(one for one in text.replace("\r\n", "\n").lstrip("\ufeff") if one >= " " or one in "\t\n")
        text = text.encode("utf-8", "replace").decode().replace("\x7f", "")
        found.append(text)
        length += len(text) + 1
        if length > MOST_CHARACTERS or time.process_time() > PATIENCE_S:
            is_cut = length > MOST_CHARACTERS or pages is None or len(found) < pages
            break
    return "\n".join(found)[:MOST_CHARACTERS].strip(), pages, is_cut
