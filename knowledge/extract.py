"""A file's text, read where nothing can go wrong but the reading: in a process with no rights, killed at its limits.

What keeps us safe: the process (confined.py) has an empty environment, 512 MB of memory and 20 s of CPU, and before it
looks at the file it gives up opening anything, so it has neither network nor files. What it says comes through one pipe,
which is read up to a limit and for a minute. Then it is killed, and whatever it may have started with it.
"""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from knowledge.kinds import WHY, Unreadable, called, sniff

PROGRAM = Path(__file__).with_name("confined.py")
CPU_S = 20
MEMORY_BYTES = 512 * 1024**2
WALL_S = 60.0
MOST_SAID_BYTES = 8 * 1024**2  # a million characters, and the news of every page
ENDS = {-signal.SIGXCPU: "too_slow", -signal.SIGKILL: "too_slow", -signal.SIGSEGV: "damaged"}


@dataclass(frozen=True, slots=True)
class Extracted:
    """What a file says. `pages` is None where it has none; `is_cut`: there is more than is ever read."""

    text: str
    pages: int | None
    kind: str
    is_cut: bool


def extract(name: str, content: bytes, *, tell: Callable[[int, int], object] | None = None) -> Extracted:
    """Read a file. May be called from any thread; takes a minute at most.

    tell    is told (page, pages) as it goes
    Raises  Unreadable, in words that name the file
    """
    kind = sniff(name, content)
    with tempfile.TemporaryFile() as given:
        given.write(content)
        given.seek(0)
        child = subprocess.Popen(  # noqa: S603 - our own program; what people give is its input
            [sys.executable, "-I", "-B", str(PROGRAM), kind, *map(str, (os.getpid(), CPU_S, MEMORY_BYTES))],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8"},
            cwd="/",
            start_new_session=True,
        )
    last: dict[str, Any] = {}
    try:
        for last in _said(child):
            if tell and "page" in last:
                tell(int(last["page"]), int(last["pages"]))
    except TimeoutError:
        last = {"why": "too_slow"}
    except (ValueError, TypeError, KeyError):  # it says what it never would: it is not itself any more
        last = {"why": "damaged"}
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        code = child.wait()
        assert child.stdout is not None
        child.stdout.close()
    if "text" not in last:
        why = last.get("why") or ENDS.get(code, "too_big")
        raise Unreadable(why if why in WHY else "damaged", called(name))
    return Extracted(str(last["text"]), last["pages"], kind, bool(last["is_cut"]))


def _said(child: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
    """Its lines, one by one. Raises TimeoutError after WALL_S, ValueError when it says too much or what is no JSON."""
    assert child.stdout is not None
    pipe, until, line, said = child.stdout.fileno(), time.monotonic() + WALL_S, b"", 0
    while True:
        left = until - time.monotonic()
        if left <= 0 or not select.select([pipe], [], [], left)[0]:
            raise TimeoutError
        piece = os.read(pipe, 64 * 1024)
        said += len(piece)
        if said > MOST_SAID_BYTES:
            raise ValueError("more than it may say")
        if not piece:
            return
        *whole, line = (line + piece).split(b"\n")
        yield from map(json.loads, whole)
