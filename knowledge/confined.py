"""The program that reads one hostile file. It runs as a process of its own, started by extract.py and killed by it.

    python -I confined.py KIND PARENT CPU_S MEMORY_BYTES < file

It begins with an empty environment, so it knows no secret; before it looks at the file it gives up whatever could reach
anything: no descriptor can be opened any more, which means no file, no socket, no pipe; no process can be started, and
nothing can be written but to the pipe it has. Where the kernel lets it, it leaves the network too.

It prints JSON, a line each: {"page", "pages"} as it goes, and at the end {"text", "pages", "is_cut"} or {"why"}.
"""

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from pathlib import Path

NEW_USER, NEW_NET = 0x10000000, 0x40000000  # of unshare(2)
DIE_WITH_PARENT, NOT_DUMPABLE, NO_NEW_PRIVILEGES = 1, 4, 38  # of prctl(2)


def be_small(parent: int, cpu_s: int, memory_bytes: int) -> None:
    """Limits that hold from the first line on."""
    resource.setrlimit(resource.RLIMIT_CPU, (cpu_s, cpu_s + 1))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(10)
    if sys.platform == "linux":
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
        libc = ctypes.CDLL(None)
        libc.prctl(DIE_WITH_PARENT, signal.SIGKILL, 0, 0, 0)
        libc.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        libc.prctl(NOT_DUMPABLE, 0, 0, 0, 0)
        libc.unshare(NEW_USER | NEW_NET)  # refused in many containers; what be_alone() does needs nobody's leave
    if os.getppid() != parent:
        os._exit(1)  # it died before we asked to die with it


def be_alone() -> None:
    """From now on nothing can be opened: all that is imported later must have been imported before."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, 3))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))


def say(**told: object) -> None:
    sys.stdout.buffer.write(json.dumps(told, ensure_ascii=False).encode() + b"\n")
    sys.stdout.buffer.flush()


def main() -> None:
    kind = sys.argv[1]
    be_small(*map(int, sys.argv[2:]))
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from knowledge import readers

    content = sys.stdin.buffer.read()
    read = readers.ready(kind)
    be_alone()
    try:
        text, pages, is_cut = read(content, lambda page, pages: say(page=page, pages=pages))
    except readers.Refused as refused:
        say(why=str(refused))
    except (MemoryError, RecursionError):
        say(why="too_big")
    except Exception:  # whatever a parser stumbles over
        say(why="damaged")
    else:
        say(text=text, pages=pages, is_cut=is_cut)


if __name__ == "__main__":
    main()
