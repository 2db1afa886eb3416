"""Files that people bring or take home: bytes under a key of ours, in a folder or in somebody's object storage.

A key begins with its brand, and who wants the bytes says which brand asks: another's key is no key. Names that people gave
stand in the row beside the key, never in the key. A file is only ever served by `attached()`, through a view that has
judged who may have it.

Storing is no part of a transaction: save first and store the key after it; delete when the row is gone for good
(`on_commit`). What a crash leaves in between is a file without a row, which nobody can ask for.
"""

import re
import unicodedata
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime
from typing import IO, Any
from uuid import UUID

from asgiref.sync import sync_to_async
from django.core.files.base import ContentFile, File
from django.core.files.storage import storages
from django.http import StreamingHttpResponse
from django.utils.http import content_disposition_header
from django.utils.translation import gettext_lazy

from lib.errors import NotFound
from lib.ids import uuid7

KIND = re.compile(r"[a-z]{1,20}")
KEY = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}/[a-z]{1,20}/[0-9a-f]{32}(?:\.[a-z0-9]{1,8})?")
SUFFIX = re.compile(r"\.([A-Za-z0-9]{1,8})$")
PIECE = 256 * 1024  # bytes
MOST_NAME_BYTES = 200  # of 255 that file systems take: programs add " (1)" and ".part"
RESERVED = re.compile(
    r"(?i)(?:con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(?:\.|$)"
)  # devices on Windows, whatever follows
# A file that a browser is made to show all the same runs nothing, sends nothing and has no origin.
SANDBOX = "default-src 'none'; sandbox"


class FileGone(NotFound):
    says = gettext_lazy("This file is not here (any more).")
    code = "file_gone"


def save(brand_id: UUID, kind: str, name: str, content: bytes | IO[bytes]) -> str:
    """Store bytes under a new key, which is what a row keeps.

    kind   what the file is for: `attachment`, `export`
    name   as a person gave it; nothing of it but a plain suffix comes into the key
    """
    if not KIND.fullmatch(kind):
        raise ValueError(f"{kind} is no kind of file")
    suffix = SUFFIX.search(name)
    key = f"{brand_id}/{kind}/{uuid7().hex}{suffix[0].lower() if suffix else ''}"
    name = storages["files"].save(key, ContentFile(content) if isinstance(content, bytes) else File(content))
    if name != key:
        raise RuntimeError(f"the storage has stored {key} as {name}")
    return key


def open(key: str, *, brand_id: UUID) -> IO[bytes]:  # noqa: A001 - files.open() is what it does
    """The bytes of a key of this brand. Raises FileGone"""
    try:
        found: IO[bytes] = storages["files"].open(_of(key, brand_id), "rb")
    except FileNotFoundError as error:
        raise FileGone from error
    return found


def size(key: str, *, brand_id: UUID) -> int:
    """In bytes. Raises FileGone"""
    try:
        return int(storages["files"].size(_of(key, brand_id)))
    except FileNotFoundError as error:
        raise FileGone from error


def delete(key: str, *, brand_id: UUID) -> None:
    """Delete the bytes; what is not there is deleted already."""
    storages["files"].delete(_of(key, brand_id))


def stored(kind: str = "") -> Iterator[str]:
    """Of all brands, in no order; for backups and sweeps."""
    storage = storages["files"]
    for brand in _folders(storage, ""):
        for folder in _folders(storage, brand):
            if not kind or folder == kind:
                for name in storage.listdir(f"{brand}/{folder}")[1]:
                    if KEY.fullmatch(key := f"{brand}/{folder}/{name}"):
                        yield key


def give_back(key: str, content: IO[bytes]) -> None:
    """Store bytes under the key they had, from a backup. What is there already is the same and stays."""
    if not KEY.fullmatch(key):
        raise FileGone
    if not storages["files"].exists(key):
        storages["files"].save(key, File(content))


def stored_at(key: str) -> datetime:
    """When save() made this key."""
    return datetime.fromtimestamp(int(key.split("/")[2][:12], 16) / 1000, UTC)


def attached(key: str, name: str, *, brand_id: UUID, content_type: str = "") -> StreamingHttpResponse:
    """A response that a browser stores under `name` and never shows. Raises FileGone"""
    length = size(key, brand_id=brand_id)
    response = StreamingHttpResponse(_pieces(open(key, brand_id=brand_id)))
    response.headers["Content-Length"] = str(length)
    as_attachment(response, name, content_type or "application/octet-stream")
    return response


def as_attachment(response: Any, name: str, content_type: str) -> None:
    """The headers of what is stored and never shown, for bytes that were made for this answer, too."""
    response.headers["Content-Type"] = content_type
    response.headers["Content-Disposition"] = content_disposition_header(True, safe_name(name))
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Content-Security-Policy"] = SANDBOX
    response.headers["Cross-Origin-Resource-Policy"] = "same-origin"


def safe_name(name: str, suffix: str = "") -> str:
    """A file name that every system takes, that says where its end is, and leads nowhere (F-13).

    suffix  `.pdf`, kept whole however long the name is
    """
    name = "".join(" " if unicodedata.category(letter) in ("Cc", "Zl", "Zp") else letter for letter in name)
    # Cf holds what turns the reading direction, so that gpj.exe would read exe.jpg.
    name = "".join(letter for letter in name if unicodedata.category(letter) not in ("Cf", "Cs", "Co", "Cn"))
    name = " ".join(re.sub(r'[\\/:*?"<>|]', " ", name).split()).strip(". ")
    if not suffix and (found := SUFFIX.search(name)):
        name, suffix = name[: found.start()].rstrip(". "), found[0]
    name = name.encode()[: MOST_NAME_BYTES - len(suffix.encode())].decode(errors="ignore").rstrip(". ")
    name = name or "file"
    return f"{'_' if RESERVED.match(name) else ''}{name}{suffix}"


def _of(key: str, brand_id: UUID) -> str:
    if not KEY.fullmatch(key) or not key.startswith(f"{brand_id}/"):
        raise FileGone
    return key


def _folders(storage: Any, below: str) -> list[str]:
    try:
        found: list[str] = storage.listdir(below)[0]
    except FileNotFoundError:
        return []  # nothing was stored yet
    return found


async def _pieces(file: IO[bytes]) -> AsyncIterator[bytes]:
    """Read off the event loop, and closed however the download ends."""
    try:
        while piece := await sync_to_async(file.read, thread_sensitive=False)(PIECE):
            yield piece
    finally:
        file.close()
