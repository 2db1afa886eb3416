"""The file: a ZIP, stored and not packed again, whose members are the dump, the manifest and, below `files/`, FILES_DIR.

A ZIP ends with its table of contents and carries a checksum of each member, so a file that was cut off or changed is
known for what it is. It is written under another name, synced and renamed: under its own name it is whole.
"""

import fcntl
import json
import os
import shutil
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any
from uuid import UUID

from lib import files
from lib.errors import Invalid

DUMP, MANIFEST, FILES = "database.dump", "manifest.json", "files/"
SUFFIX, DRAFT = ".backup", ".part"
FORMAT = 1
PASSING = {"export", "trial"}  # kinds of files that are not worth keeping


class NotABackup(Invalid):
    """The file is no backup, or not a whole one. Nothing was changed."""


@contextmanager
def drafted(path: Path) -> Iterator[IO[bytes]]:
    """A file for its owner's eyes that gets its name when the block ends well; without that nothing is left."""
    draft = path.with_name(path.name + DRAFT)
    for left in {draft, *path.parent.glob(f"*{SUFFIX}{DRAFT}")}:
        _forget(left)
    with open(os.open(draft, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600), "w+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)  # as long as we live: whoever finds a draft without it may delete it
        try:
            yield file
            file.flush()
            os.fsync(file.fileno())
            draft.rename(path)
        finally:
            draft.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


def _forget(draft: Path) -> None:
    """What a killed backup left behind; a running one holds its lock."""
    with suppress(OSError), open(draft, "rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        draft.unlink()


def manifest(path: Path) -> dict[str, Any]:
    """What the file says of itself. Raises NotABackup."""
    try:
        with zipfile.ZipFile(path) as archive:
            found: dict[str, Any] = json.loads(archive.read(MANIFEST))
            archive.getinfo(DUMP)
    except FileNotFoundError as error:
        raise NotABackup(f"There is no file {path}.") from error
    except (OSError, KeyError, ValueError, zipfile.BadZipFile) as error:
        raise NotABackup(f"{path} is no whole backup ({error}). Nothing was changed; take another one.") from error
    if found.get("format") != FORMAT:
        raise NotABackup(
            f"{path} was made by another release (format {found.get('format')}). Restore it with that one."
        )
    return found


def put_files(archive: zipfile.ZipFile) -> int:
    """Take the files along, once the dump is written: each row in it has its own by then. Returns how many.

    What is deleted meanwhile, rows and all, is left out. Exports are too: they are gone tomorrow, and made again at will.
    """
    taken = 0
    for key in files.stored():
        brand_id, kind, _ = key.split("/")
        if kind in PASSING:
            continue
        with suppress(files.FileGone), files.open(key, brand_id=UUID(brand_id)) as file:
            with archive.open(FILES + key, "w", force_zip64=True) as member:
                shutil.copyfileobj(file, member, 1 << 20)
            taken += 1
    return taken


def get_files(path: Path) -> int:
    """Give the files of a whole backup back to the storage; what is there already stays. Returns how many there are."""
    with zipfile.ZipFile(path) as archive:
        found = [name.removeprefix(FILES) for name in archive.namelist() if name.startswith(FILES)]
        for key in found:
            with archive.open(FILES + key) as member:
                files.give_back(key, member)
    return len(found)


def refuse_damaged(path: Path) -> None:
    """Read all of it and hold it against its checksums. Raises NotABackup."""
    try:
        with zipfile.ZipFile(path) as archive:
            damaged = archive.testzip()
    except (OSError, zipfile.BadZipFile) as error:
        raise NotABackup(f"{path} cannot be read: {error}. Nothing was changed; take another one.") from error
    if damaged:
        raise NotABackup(
            f"{damaged} in {path} is damaged: its checksum is wrong. Nothing was changed; take another one."
        )


@contextmanager
def feeding(path: Path | IO[bytes], process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Gives the dump to the program's standard input, beside whatever the block reads from it. Raises NotABackup."""
    failed: list[Exception] = []

    def feed() -> None:
        assert process.stdin
        try:
            with zipfile.ZipFile(path) as archive, archive.open(DUMP) as dump:
                shutil.copyfileobj(dump, process.stdin, 1 << 20)
        except BrokenPipeError:
            pass  # it has ended, and says itself why
        except (OSError, zipfile.BadZipFile) as error:
            failed.append(error)
            process.kill()
        finally:
            with suppress(BrokenPipeError):
                process.stdin.close()

    feeder = threading.Thread(target=feed, daemon=True)
    feeder.start()
    yield
    feeder.join()
    if failed:
        raise NotABackup(f"The backup could not be read to its end: {failed[0]}.")
