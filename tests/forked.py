"""Processes of the product that are there in a moment: forked from one that has imported the libraries, and nothing of ours.

They die, freeze and end as any other does. What they are spared is most of a start, two of its three seconds: Django, Celery,
the vendors' SDKs. What `python -m` itself does is tested by `make run` (tests/house/test_dev.py).
"""

import gc
import multiprocessing
import os
import runpy
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

from tests import canaries

PROJECT = Path(__file__).parents[1]
LIBRARIES = """
    aiohttp anthropic anthropic.resources argon2 celery.app.amqp celery.app.control celery.apps.worker celery.bin.celery
    celery.concurrency.thread celery.worker.consumer cryptography.hazmat.primitives.ciphers.aead
    django.contrib.staticfiles.finders django.core.handlers.asgi django.core.management django.db.backends.postgresql.base
    django.db.models django.forms django.template.loader django.test django.views.debug fpdf genai_prices httpx
    httpx_aiohttp kombu.transport.redis linkify_it markdown_it mdit_py_plugins nh3 openai openai.resources orjson PIL.Image
    prometheus_client psycopg psycopg.types.json psycopg_pool pygments.lexers redis.asyncio structlog stripe uvicorn
    uvicorn.lifespan.on uvicorn.protocols.http.httptools_impl uvloop
""".split()  # noqa: SIM905

_nursery = multiprocessing.get_context("forkserver")
_nursery.set_forkserver_preload(LIBRARIES)
_one_at_a_time = (
    threading.Lock()
)  # multiprocessing looks after its children when one more is started, and asks each once


class Forked:
    """A module that runs as by `python -m module arguments`, with what subprocess.Popen gives.

    log        where its output is added to
    own_group  it can be killed together with its own children
    """

    def __init__(
        self, module: str, *arguments: object, env: Mapping[str, str], log: str, own_group: bool = False
    ) -> None:
        self.module = module
        canaries.watch_log(log)
        for name, value in env.items():
            canaries.remember_setting(name, value)
        given = (module, [str(argument) for argument in arguments], dict(env), log, own_group)
        with _one_at_a_time:
            self._process = _nursery.Process(
                target=_become, args=given, daemon=True
            )  # ends with this one at the latest
            self._process.start()
        assert self._process.pid
        self.pid = self._process.pid

    def poll(self) -> int | None:
        with _one_at_a_time:
            return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int:
        wait([self._process.sentinel], timeout)
        code = self.poll()
        if code is None:
            raise subprocess.TimeoutExpired(self.module, timeout or 0)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def kill_group(self) -> None:
        """With its children, such as the beat of a worker, which outlive it. Needs `own_group`."""
        with suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.kill()  # which may not have had the time to make its group
        self.wait(60)


def _become(module: str, arguments: list[str], env: dict[str, str], log: str, own_group: bool) -> None:
    gc.freeze()  # the libraries are shared with all that were forked: looked through, they would be copied
    if own_group:
        os.setpgid(0, 0)
    os.chdir(PROJECT)
    os.environ.clear()
    os.environ.update(env)
    with open(log, "a") as output:
        os.dup2(output.fileno(), sys.stdout.fileno())
        os.dup2(output.fileno(), sys.stderr.fileno())
    sys.path.insert(0, str(PROJECT))
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)
