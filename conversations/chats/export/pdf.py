"""PDFs of chats, drawn by a process of their own with limits (press.py), whatever people said in them (F-13, F-22)."""

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from threading import BoundedSemaphore
from typing import Any

from django.utils.translation import gettext as _

from conversations.chats.export.chats import Chat, path
from conversations.chats.export.markdown import remarks, who
from lib.errors import Unavailable

PROGRAM = Path(__file__).with_name("press.py")
AT_ONCE = 10  # chats that one process draws
PRESSES, PATIENCE_S = BoundedSemaphore(2), 60.0  # at once in one process of ours
MOST_LETTERS = 240_000  # of one chat, and of the chats of one process; some scripts cost more
CPU_S, WALL_S, MEMORY_BYTES = 60, 120, 900 * 1024**2


def pdfs(chats: Sequence[Chat]) -> Iterator[bytes | None]:
    """A PDF for each chat, in order; None for one that cannot be drawn within the limits. Takes minutes at the worst."""
    waiting = [_job(chat) for chat in chats]
    while waiting:
        some = _bearable(waiting)
        drawn = _draw(some)
        if len(drawn) < len(some):
            drawn.append(None)  # the process died of this one; the next begins behind it
        yield from drawn
        waiting = waiting[len(drawn) :]


def _bearable(jobs: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
    """As many of the first ones as one process draws within its limits."""
    count, letters = 0, 0
    for job in jobs[:AT_ONCE]:
        letters += sum(len(message["text"]) for message in job["messages"])
        if count and letters > MOST_LETTERS:
            break
        count += 1
    return jobs[:count]


def _draw(jobs: Sequence[dict[str, Any]]) -> list[bytes | None]:
    if not PRESSES.acquire(timeout=PATIENCE_S):
        raise Unavailable(_("Other PDFs are being drawn. Try again in a minute, or take Markdown."), retry_after=60)
    try:
        return _drawn(jobs)
    finally:
        PRESSES.release()


def _drawn(jobs: Sequence[dict[str, Any]]) -> list[bytes | None]:
    with tempfile.TemporaryFile() as given:
        given.write(json.dumps({"words": _words(), "most_letters": MOST_LETTERS, "chats": jobs}).encode())
        given.seek(0)
        child = subprocess.Popen(  # noqa: S603 - our own program; what people said is its input
            [sys.executable, "-I", "-B", str(PROGRAM), *map(str, (os.getpid(), CPU_S, MEMORY_BYTES))],
            stdin=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={"LC_ALL": "C.UTF-8"},
            cwd="/",
            start_new_session=True,
        )
        try:
            said = child.communicate(timeout=WALL_S)[0]
        except subprocess.TimeoutExpired:
            said = b""
        finally:
            with suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
    return list(_documents(said))


def _documents(said: bytes) -> Iterator[bytes | None]:
    """The whole ones; what was cut off in the middle is left out."""
    while len(said) >= 8:
        end = 8 + int(said[:8], 16)
        if end > len(said):
            return
        yield said[8:end] or None
        said = said[end:]


def _job(chat: Chat) -> dict[str, Any]:
    """What is drawn of a chat. One letter more than ever goes on paper is enough to say that there was more."""
    left, texts = MOST_LETTERS + 1, []
    for message in path(chat):
        texts.append(message["content"][:left])
        left -= len(texts[-1])
        if not left:
            break
    return {
        "title": chat["title"],
        "at": (chat["last_message_at"] or chat["created_at"]).isoformat(),
        "messages": [
            {
                "who": who(message),
                "text": text,
                "is_markdown": message["role"] == "assistant",
                "remarks": remarks(message),
            }
            for message, text in zip(path(chat), texts, strict=False)
        ],
    }


def _words() -> dict[str, str]:
    return {
        "page": _("Page %"),
        "cut": _("This chat is too long for a PDF, so it ends here. The exports as Markdown and JSON have all of it."),
        "lacking": _("Some characters of this chat have no shape in the fonts of this server and show as boxes."),
        "lacking_cjk": _(
            "The fonts of this server do not have all Chinese, Japanese or Korean characters of this chat; "
            "the missing ones show as boxes. The exports as Markdown and JSON have them."
        ),
    }
