"""What both servers need: a lock, a port, a log, and refusals in words."""

# ruff: noqa: S603 - every command here is ours

import errno
import fcntl
import importlib.util
import os
import random
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal

from lib.errors import Unavailable

PROJECT = Path(__file__).resolve().parents[2]
Started = Literal["started", "adopted"]


class CannotStart(Unavailable):
    """A server of the development environment could not be started."""


def var_dir() -> Path:
    return Path(os.environ.get("VAR_DIR") or PROJECT / "var").resolve()


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """One process at a time; the kernel opens the lock when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


class Users:
    """Who uses the server under `root`: each holds a lock that ends with its process, however that ends."""

    def __init__(self, root: Path) -> None:
        self._path = root.with_suffix(".users")
        self._stays = root.with_suffix(".stays")
        self._held: IO[str] | None = None

    def join(self, *, to_stay: bool) -> None:
        if self._held is None:
            self._held = open(self._path, "w")  # noqa: SIM115 - held until this process ends
            fcntl.flock(self._held, fcntl.LOCK_SH)
        if to_stay:
            self._stays.touch()

    def leave(self) -> bool:
        """Whether nobody needs the server any more."""
        if self._held is None or self._stays.exists():
            return False
        with self._held as held, suppress(BlockingIOError):
            self._held = None
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        return False

    def dismiss(self) -> None:
        """It no longer stays."""
        self._stays.unlink(missing_ok=True)


@contextmanager
def in_words(folder: Path) -> Iterator[None]:
    """Makes `folder`, and says what to do about a full disk or somebody else's files."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except PermissionError as error:
        raise CannotStart(
            f"{error.filename} belongs to another user; perhaps this was first run as root. "
            f"Run it as that user, or delete {var_dir()} to begin with an empty database."
        ) from error
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise disk_full(folder) from error


def child_environ(env: Mapping[str, str]) -> dict[str, str]:
    """Ours and `env`. Without compiled modules a program would compile everything anew at each start."""
    return {**os.environ, **env, "PYTHONDONTWRITEBYTECODE": ""}


def dying_with_parent() -> list[str]:
    """Put before a command, it ends with the process that started it. Elsewhere than on Linux it does nothing."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def package(name: str, variable: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise no_wheel(name, variable)
    return Path(spec.origin).parent


def no_wheel(name: str, variable: str) -> CannotStart:
    return CannotStart(
        f"There is no {name} for {os.uname().sysname} on {os.uname().machine}. "
        f"Set {variable} to a server of your own; nothing is then started in its place."
    )


def free_port(remembered: Path) -> int:
    """The port of the last start, else a new one outside the range that outgoing connections take."""
    tries = [random.randint(20000, 32000) for _ in range(50)]  # noqa: S311
    with suppress(FileNotFoundError, ValueError):
        tries.insert(0, int(remembered.read_text()))
    for port in tries:
        with suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            remembered.write_text(f"{port}\n")
            return port
    raise CannotStart("No free port was found on 127.0.0.1.")


def command_line(pid: int) -> str:
    """Empty when there is no such process, or only its ashes."""
    if sys.platform == "linux":
        with suppress(FileNotFoundError, ProcessLookupError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""
    found = subprocess.run(["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout


def write_private(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def tail(log: Path, lines: int = 10) -> str:
    with suppress(FileNotFoundError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return ""


def failure(server: str, output: str) -> CannotStart:
    if os.strerror(errno.ENOSPC) in output:
        return disk_full(var_dir())
    return CannotStart(f"{server} did not start:\n{output.strip()}")


def disk_full(folder: Path) -> CannotStart:
    return CannotStart(
        f"The disk that holds {folder} is full. About 1 GB is needed; free some, or set VAR_DIR to another disk."
    )
