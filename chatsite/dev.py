"""The whole product on one machine: databases up and migrated first, then web and worker; stopped in reverse.

Needs no Django in its own process, so that it can start before there are settings to read.
"""

# ruff: noqa: S603, T201 - every command here is ours, and the terminal is the page

import argparse
import fcntl
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from types import FrameType
from typing import Any

from chatsite.embedded import servers
from chatsite.embedded.processes import (
    PROJECT,
    CannotStart,
    child_environ,
    dying_with_parent,
    in_words,
    tail,
    var_dir,
)
from lib.errors import Conflict, DomainError

STOP_S = 12
READY_S = 90


class Stopped(BaseException):
    """SIGINT, SIGTERM or a closed terminal: not an error, and nothing may catch it by accident."""


class Child:
    """A program whose lines go to var/log and, under its name, to the terminal.

    Not through a pipe: when we are killed, celery's last words into a broken one would cancel its own shutdown.
    """

    def __init__(self, name: str, *command: str, env: dict[str, str]) -> None:
        self.name = name
        self.log = var_dir() / "log" / f"{name}.log"
        with in_words(self.log.parent), open(self.log, "w") as log:
            self.process = subprocess.Popen(
                [*dying_with_parent(), sys.executable, *command],
                cwd=PROJECT,
                env=env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                process_group=0,  # the terminal's Ctrl-C reaches us alone: we stop the rest in order
            )
        self._ended = threading.Event()
        self._follower = threading.Thread(target=self._follow, daemon=True)
        self._follower.start()

    def stop(self) -> None:
        """Also what it started itself; what it held is picked up at the next start."""
        self.process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(STOP_S)
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._ended.set()
        self._follower.join(2)

    def _follow(self) -> None:
        line = ""
        with open(self.log, errors="replace") as lines:
            while True:
                ended = self._ended.is_set()
                while piece := lines.readline():
                    line += piece
                    if line.endswith("\n"):
                        print(f"{self.name:6} | {line}", end="", flush=True)
                        line = ""
                if ended:
                    return
                self._ended.wait(0.1)


def run(*, port: int, reload: bool = False) -> None:
    """Until a signal comes. Raises DomainError when something is in the way or a program dies."""
    began_at = time.monotonic()
    with ExitStack() as at_end, suppress(Stopped), _signals():
        at_end.enter_context(_only_one(port))
        _refuse_taken(port)
        _say("Starting the databases ...")
        found = at_end.enter_context(servers(os.environ, say=_say))
        echo = _echo_port(port)
        env = child_environ(found) | {"PORT": str(port), "WEBHOOK_ECHO_PORT": str(echo), "PYTHONUNBUFFERED": "1"}
        _say("Migrating ...")
        _manage("migrate", "--verbosity", "0", "--skip-checks", env=env)  # `make check` has them: 2 s of imports
        children = []
        for name, command in (
            ("worker", _worker_command()),
            ("web", _web_command(port, reload=reload)),
            ("echo", ["manage.py", "webhook_echo", "--port", str(echo)]),
        ):
            children.append(Child(name, *command, env=env))
            at_end.callback(children[-1].stop)
        _say("Preparing the demo data ...")
        demo = json.loads(_manage("demo_data", "--json", env=env))
        _wait_ready(port, children)
        print(_welcome(port, echo, demo, seconds=time.monotonic() - began_at), flush=True)
        while True:
            _refuse_dead(children)
            time.sleep(0.3)


def _web_command(port: int, *, reload: bool) -> list[str]:
    return [
        *("-m", "chatsite.web", "--host", "127.0.0.1", "--port", str(port)),
        *(["--reload"] if reload else []),
    ]


def _worker_command() -> list[str]:
    # Threads: a third of prefork's memory here, and the tasks wait for the database and the network.
    return [
        *("-W", "ignore:You're running the worker with superuser privileges"),
        *("-m", "celery", "--quiet", "-A", "chatsite", "worker", "-B", "-P", "threads", "-c", "4", "-l", "warning"),
        *("-s", str(var_dir() / "run" / "beat-schedule"), "--without-gossip", "--without-mingle"),
    ]


def _manage(*arguments: str, env: dict[str, str]) -> str:
    done = subprocess.run(
        [*dying_with_parent(), sys.executable, "manage.py", *arguments],
        cwd=PROJECT,
        env=env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        process_group=0,
    )
    if done.returncode:
        raise CannotStart(f"manage.py {arguments[0]} failed:\n{(done.stdout + done.stderr).strip()}")
    return done.stdout


def _wait_ready(port: int, children: Sequence[Child]) -> None:
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        _refuse_dead(children)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
        with suppress(OSError, http.client.HTTPException):
            connection.request("GET", "/healthz", headers={"Host": "localhost"})
            if connection.getresponse().status == http.client.OK:
                return
            time.sleep(1)  # it answers, and says that something is not there yet
        time.sleep(0.1)
    raise CannotStart(f"/healthz did not answer within {READY_S} s.")


def _refuse_dead(children: Sequence[Child]) -> None:
    for child in children:
        if child.process.poll() is not None:
            child.stop()
            raise CannotStart(
                f"{child.name} ended by itself (exit code {child.process.returncode}); all the rest is stopped too. "
                f"Its last lines:\n{tail(child.log, lines=20)}"
            )


def _echo_port(port: int) -> int:
    """A hundred above ours, or any that is free."""
    for wanted in (port + 100, 0):
        with suppress(OSError, OverflowError), socket.create_server(("127.0.0.1", wanted)) as probe:
            return int(probe.getsockname()[1])
    raise Conflict("No port of this machine is free.")


def _refuse_taken(port: int) -> None:
    """On both loopback addresses: a browser asks ::1 first when it opens localhost."""
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with suppress(ConnectionRefusedError, OSError), socket.socket(family) as probe:
            probe.settimeout(1)
            probe.connect((address, port))
            raise Conflict(f"Port {port} is taken by another program. Choose another one: make run PORT={port + 1}")


@contextmanager
def _only_one(port: int) -> Iterator[None]:
    path = var_dir() / "run" / "dev.lock"
    with in_words(path.parent), open(path, "a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            raise Conflict(f"This clone is running already, at http://localhost:{lock.read().strip()}/") from None
        lock.truncate(0)
        lock.write(f"{port}\n")
        lock.flush()
        yield


@contextmanager
def _signals() -> Iterator[None]:
    """Installed explicitly: a Python that was started in the background has SIGINT ignored."""

    def stop(received: int, frame: FrameType | None) -> None:
        for number in numbers:
            signal.signal(number, signal.SIG_IGN)  # stopping is under way and takes seconds at most
        raise Stopped

    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    for number in numbers:
        signal.signal(number, stop)
    yield


def _welcome(port: int, echo: int, demo: dict[str, Any], *, seconds: float) -> str:
    logins = "\n".join(f"    {login['email']:22} {login['password']:15} {login['is']}" for login in demo["logins"])
    hosts = "   ".join(f"http://{host}:{port}/" for host in demo["address_hosts"])
    return f"""
  Ready after {seconds:.1f} s:  http://localhost:{port}/
  Brands:   {hosts}

  Log-ins:
{logins}

  API key:  {demo["api_key"]}
  Webhooks: http://127.0.0.1:{echo}/ shows what it is sent; make one at http://localhost:{port}/manage/webhooks/

  Six things to try:
  1. Ask without an account, three questions and a fourth; then sign up: the chat is yours, and the fourth is answered.
  2. Log in as alice, ask something, and refresh the page in the middle of the answer: it goes on.
  3. Edit the question, share the chat, find it again with Ctrl K.
  4. Log in as bob, open /settings/plan/, and buy a pack: no money moves.
  5. Ask through the OpenAI protocol:
     curl -N http://localhost:{port}/v1/chat/completions -H 'Authorization: Bearer {demo["api_key"]}' \\
       -H 'Content-Type: application/json' \\
       -d '{{"model": "{demo["model"]}", "stream": true, "messages": [{{"role": "user", "content": "Hello"}}]}}'
  6. Log in as alice and open /manage/: invite somebody (the mail is printed here), make a webhook, read who did what.
     Programs find the REST API under /api/docs/.

  Ctrl-C stops everything.
"""


def _say(line: str) -> None:
    print(line, flush=True)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--port", type=int, default=os.environ.get("PORT") or 8000, help="of the web server (8000)")
    parser.add_argument("--reload", action="store_true", help="restart the web server when a file changes")


def main() -> int:
    parser = argparse.ArgumentParser(prog="manage.py dev", description=__doc__)
    add_arguments(parser)
    chosen = parser.parse_args()
    try:
        run(port=chosen.port, reload=chosen.reload)
    except DomainError as error:
        print(error.detail, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
