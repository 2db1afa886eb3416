"""What the benchmarks measure: a real web process on a database of its own, beside a bare pass-through.

The upstream, the load and the servers share the machine's cores, so single times mean little; what counts is the ratio of
two figures of the same run. CPU comes from the operating system's account of each process.
"""

import contextlib
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PROJECT = Path(__file__).resolve().parents[1]
TICKS = os.sysconf("SC_CLK_TCK")


class Process:
    """A child whose CPU seconds and memory can be read."""

    def __init__(self, command: list[str], port: int, env: dict[str, str]) -> None:
        self.port = port
        self.popen = subprocess.Popen(
            command, cwd=PROJECT, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.popen.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def memory_mb(self) -> float:
        lines = Path(f"/proc/{self.popen.pid}/smaps_rollup").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.popen.pid}/task").iterdir()))

    def wait_ready(self, path: str) -> None:
        for _ in range(200):
            if self.popen.poll() is not None:
                raise RuntimeError(f"{self.popen.args!r} ended with {self.popen.returncode}")
            with contextlib.suppress(OSError):
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}{path}", timeout=2).close()
                return
            time.sleep(0.05)
        raise RuntimeError(f"{self.popen.args!r} was not ready within 10 s")

    def stop(self) -> None:
        self.popen.terminate()
        try:
            self.popen.wait(15)
        except subprocess.TimeoutExpired:
            self.popen.kill()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


@contextlib.contextmanager
def web(upstream_url: str, **more: str) -> Iterator[Process]:
    """Our product as `make run` starts it, one process, on the benchmark's database; `more` goes into its environment."""
    from django.db import connections

    port = free_port()
    env = {**os.environ, "OPENAI_BASE_URL": upstream_url, "OPENAI_API_KEY": "bench", "DEMO_TOKENS_PER_SECOND": "0"}
    env["DJANGO_SETTINGS_MODULE"] = "benchmarks.settings"
    env["BENCH_DB"] = connections["owner"].settings_dict["NAME"]
    env |= more
    env.pop("PYTHONDONTWRITEBYTECODE", None)
    process = Process([sys.executable, "-m", "chatsite.web", "--port", str(port)], port, env)
    try:
        process.wait_ready("/healthz")
        yield process
    finally:
        process.stop()


@contextlib.contextmanager
def command(name: str, **more: str) -> Iterator[None]:
    """A command of manage.py that runs until it is stopped, on the benchmark's database."""
    from django.db import connections

    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "benchmarks.settings", **more}
    env["BENCH_DB"] = connections["owner"].settings_dict["NAME"]
    process = Process([sys.executable, "-m", "django", name], 0, env)
    try:
        yield
    finally:
        process.stop()


@contextlib.contextmanager
def passthrough(upstream_url: str) -> Iterator[Process]:
    """The least a proxy can do: aiohttp in, aiohttp out, no log-in, no database."""
    port = free_port()
    process = Process([sys.executable, "-m", "benchmarks.passthrough", str(port), upstream_url], port, dict(os.environ))
    try:
        process.wait_ready("/healthz")
        yield process
    finally:
        process.stop()


def drop(admin: Any, name: str) -> None:
    """Drop a database once the connections of stopped processes are gone; the owner may not end those of others."""
    import psycopg

    for _ in range(50):
        with contextlib.suppress(psycopg.errors.ObjectInUse):
            admin.execute(f"drop database if exists {name}")
            return
        time.sleep(0.1)
    print(f"The database {name} is still in use and was left behind.", file=sys.stderr)


@contextlib.contextmanager
def database(name: str) -> Iterator[None]:
    """An empty database with the product's tables and walls; this process and its children use it until the end."""
    import psycopg
    from django.conf import settings
    from django.core.management import call_command

    owner = settings.DATABASES["owner"]
    home = {"host": owner["HOST"], "port": owner["PORT"], "user": owner["USER"], "password": owner["PASSWORD"]}
    with psycopg.connect(**home, dbname=owner["NAME"], autocommit=True) as admin:
        drop(admin, name)
        admin.execute(f"create database {name}")
        admin.execute(f"revoke connect, temporary on database {name} from public")
        admin.execute(f"grant connect on database {name} to web, worker")
        kept = owner["NAME"]
        for row in settings.DATABASES.values():
            row["NAME"] = name
        try:
            call_command("migrate", verbosity=0)
            yield
        finally:
            from django.db import connections

            for alias in ("default", "service", "owner"):
                connection: Any = connections[alias]
                connection.close()
                connection.close_pool()
            for row in settings.DATABASES.values():
                row["NAME"] = kept
            drop(admin, name)
