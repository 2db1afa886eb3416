"""Tasks for test_background.py: a worker that was told of this module has them. What they did stands in files."""

import os
import signal
import time
from pathlib import Path

from celery import shared_task

from lib.logs import request_id

DONE = Path(os.environ.get("DONE_DIR", "."))


def note(name: str) -> None:
    with open(DONE / name, "a") as file:
        file.write(f"{request_id.get()}\n")


@shared_task(scoped=False)  # type: ignore[call-overload]
def fine(name: str) -> None:
    note(name)


@shared_task(scoped=False)  # type: ignore[call-overload]
def poison(name: str) -> None:
    note(name)
    raise ValueError("canary-poison sk_0123456789ab_canary0123")


@shared_task(scoped=False)  # type: ignore[call-overload]
def murder(name: str) -> None:
    note(name)
    os.kill(os.getpid(), signal.SIGKILL)


@shared_task(scoped=False)  # type: ignore[call-overload]
def slow(name: str) -> None:
    """The first one to take it never ends it."""
    note(name)
    if len((DONE / name).read_text().splitlines()) == 1:
        time.sleep(600)
    note(f"{name}.ended")
