"""`make run` as a newcomer meets it: the real programs, in a var folder of their own."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path

import pytest

from chatsite.embedded import Valkey
from tests.server import free_port

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.timeout(600),  # several programs start, and other tests run beside
    pytest.mark.xdist_group("dev"),
    pytest.mark.skipif(sys.platform != "linux", reason="looks for left-over processes in /proc"),
]


class Site:
    def __init__(self, var, *, port=None):
        self.var = var
        self.port = port or free_port()
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chatsite.dev", "--port", str(self.port)],
            cwd=PROJECT,
            env={**kept, "VAR_DIR": str(var)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_IGN),  # as a shell's `&` starts it
        )
        self.lines: list[str] = []
        self.reader = threading.Thread(target=lambda: self.lines.extend(self.process.stdout or []), daemon=True)
        self.reader.start()

    def wait_said(self, words, seconds=250):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if words in self.said:
                return
            if self.process.poll() is not None:
                break
            time.sleep(0.05)
        pytest.fail(f"{words!r} was not said:\n{self.said}")

    def wait_ended(self):
        code = self.process.wait(120)
        self.reader.join(60)
        return code

    def get(self, path, host="localhost"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("GET", path, headers={"Host": f"{host}:{self.port}"})
        return connection.getresponse().status

    @property
    def said(self):
        return "".join(self.lines)


@pytest.fixture(scope="module")
def var(tmp_path_factory):
    return tmp_path_factory.mktemp("site") / "var"


@pytest.fixture
def start(var):
    sites = []

    def start(**options):
        sites.append(Site(options.pop("var", var), **options))
        return sites[-1]

    yield start
    for site in sites:
        site.process.send_signal(signal.SIGTERM)
        with suppress(subprocess.TimeoutExpired):
            site.process.wait(120)
        for pid in left_over(site.var):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        Valkey(site.var / "valkey").stop()  # its command line names no folder


def left_over(var):
    """Every living process that was told of this folder: pid -> its command line."""
    found = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            command, environ = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
            if os.fsencode(var) in command + environ and int(folder.name) != os.getpid():
                found[int(folder.name)] = command.replace(b"\0", b" ").decode()
    return found


def wait_left(var, *, at_most, seconds=60):
    deadline = time.monotonic() + seconds
    while len(left_over(var)) > at_most and time.monotonic() < deadline:
        time.sleep(0.1)
    return left_over(var)


def test_it_greets_and_serves_and_the_next_one_adopts_what_a_killed_one_left_and_names_a_program_that_dies(start, var):
    first = start()
    first.wait_said("Ctrl-C stops everything")

    assert f"http://localhost:{first.port}/" in first.said
    for words in ("alice@example.com", "bob@example.com", "charlie@example.com", "staff@example.com", "act.localhost"):
        assert words in first.said
    assert first.get("/healthz") == 200
    assert first.get("/", host="act.localhost") == 200
    first.process.kill()
    first.process.wait()

    assert [command for command in wait_left(var, at_most=1).values() if "postgres" not in command] == []
    again = start()
    again.wait_said("Ctrl-C stops everything")
    worker = min(pid for pid, command in left_over(var).items() if "celery" in command)  # beat is its child
    os.kill(worker, signal.SIGKILL)

    assert again.wait_ended() == 1
    assert "worker ended by itself" in again.said
    assert left_over(var) == {}


def test_ctrl_c_stops_everything(start, var):
    site = start()
    site.wait_said("Ctrl-C stops everything")
    site.process.send_signal(signal.SIGINT)

    assert site.wait_ended() == 0, site.said
    assert left_over(var) == {}


def test_it_may_be_stopped_before_everything_is_there(start, var):
    site = start()
    site.wait_said("Preparing the demo data")  # web and worker are starting
    site.process.send_signal(signal.SIGTERM)

    assert site.wait_ended() == 0, site.said
    assert left_over(var) == {}


def test_a_taken_port_is_said_with_what_to_type_instead(start, var):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        site = start(port=taken.getsockname()[1])

        assert site.wait_ended() == 1
    assert f"Port {site.port} is taken" in site.said
    assert f"make run PORT={site.port + 1}" in site.said


def test_an_old_python_is_said_before_anything_is_installed(tmp_path):
    old = tmp_path / "bin" / "python3"
    old.parent.mkdir()
    old.write_text('#!/bin/sh\n[ "$1" = --version ] && echo "Python 3.9.2" && exit 0\nexit 1\n')
    old.chmod(0o755)
    clone = tmp_path / "clone"
    (clone / ".ci").mkdir(parents=True)
    (clone / ".ci" / "venv").write_text((PROJECT / ".ci" / "venv").read_text())
    for name in ("sh", "dirname", "cmp", "df", "awk"):
        for folder in ("/usr/bin", "/bin"):
            if Path(folder, name).exists() and not (old.parent / name).exists():
                (old.parent / name).symlink_to(Path(folder, name))

    done = subprocess.run(
        ["sh", ".ci/venv", "requirements.txt"], cwd=clone, env={"PATH": str(old.parent)}, capture_output=True, text=True
    )

    assert done.returncode == 1
    assert "Python 3.11 or newer is needed; found: Python 3.9.2" in done.stderr
    assert not (clone / ".venv").exists()
