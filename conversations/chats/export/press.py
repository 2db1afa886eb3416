"""The program that draws PDFs, as a process of its own that can open nothing: no file, no address (F-13, F-22).

    python -I press.py PARENT CPU_S MEMORY_BYTES < job

The job is JSON: {"words", "most_letters", "chats"}. For each chat it prints eight digits of hex, the length, and
the PDF; no bytes where it could not be drawn.
"""

import json
import sys
from pathlib import Path


def main() -> None:
    sys.path.insert(0, str(Path(__file__).resolve().parents[3]))
    from knowledge.confined import be_alone, be_small

    be_small(*map(int, sys.argv[1:]))
    from django.conf import settings

    settings.configure(USE_I18N=False)
    from conversations.chats.export import typesetting

    job = json.load(sys.stdin.buffer)
    typesetting.warm_up(job["words"])
    pages = [typesetting.Page(job["words"], chat["at"]) for chat in job["chats"]]  # with its fonts open
    be_alone()
    for page, chat in zip(pages, job["chats"], strict=True):
        try:
            document = typesetting.typeset(page, chat, job["most_letters"])
        except Exception:  # whatever a text makes of fpdf2; the next chat is another one
            document = b""
        sys.stdout.buffer.write(b"%08x" % len(document) + document)
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
