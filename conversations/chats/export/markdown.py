"""A chat as CommonMark, with front matter that YAML and JSON readers both take."""

import json
import re
from datetime import datetime
from typing import Any

from django.utils.translation import gettext as _
from markdown_it import MarkdownIt

from conversations.chats.export.chats import Chat, path
from lib.html import is_too_much

READER = MarkdownIt("commonmark")  # as others will read it, with HTML
END = "\n\n###### end-of-what-was-said\n"
RUN = re.compile(r"`{3,}")


def markdown(chat: Chat) -> str:
    """The shown path of a chat. What somebody said stays between its own heading and the next, whatever it holds."""
    front = {
        "title": chat["title"],
        "id": str(chat["id"]),
        "created": _moment(chat["created_at"]),
        "updated": _moment(chat["last_message_at"]),
        "model": chat["provider"]["name"] or chat["model"],
    }
    lines = ["---", *(f"{name}: {json.dumps(value, ensure_ascii=False)}" for name, value in front.items()), "---", ""]
    lines += [f"# {_heading(chat['title'])}", ""]
    for message in path(chat):
        lines += [f"## {_heading(who(message))}", "", *_said(message), ""]
    return "\n".join(lines)


def who(message: dict[str, Any]) -> str:
    """The line above one message: who spoke, and when."""
    speaker = {
        "user": _("You"),
        "assistant": message["model_name"] or _("Assistant"),
        "system": _("Instructions"),
        "function": _("Result of a tool"),
    }[message["role"]]
    return f"{speaker} · {message['created_at']:%Y-%m-%d %H:%M} UTC"


def remarks(message: dict[str, Any]) -> list[str]:
    """What a reader has to know besides the text: files that went along, tools that were called, how it ended."""
    found = [_("Attached: %(name)s") % {"name": file.get("name", "")} for file in message["files"] or ()]
    calls = (message["function_call"] or {}).get("calls", ())
    found += [
        _("Called %(name)s with %(given)s") % {"name": call["name"], "given": call["arguments"]} for call in calls
    ]
    if message["status"] not in ("done", "pending"):
        found.append(message["error_detail"] or _("This answer was not finished."))
    return found


def contained(text: str) -> str:
    """Markdown that ends where it ends: what would swallow all that follows is shown as it was typed, in a fence."""
    if not is_too_much(text):
        end = READER.parse(text + END)[-3:]
        if len(end) == 3 and end[0].tag == "h6" and end[0].level == 0 and end[1].content == END.strip("\n# "):
            return text
    return fenced(text)


def fenced(text: str) -> str:
    """Between fences longer than any run inside."""
    fence = "`" * (max((len(run) for run in RUN.findall(text)), default=2) + 1)
    return f"{fence}\n{text}\n{fence}"


def _said(message: dict[str, Any]) -> list[str]:
    text = message["content"].replace("\r\n", "\n").replace("\0", "\ufffd").strip("\n")
    if message["role"] == "function":
        text = fenced(text)
    return [contained(text), *(f"\n> {_heading(remark)}" for remark in remarks(message))]


def _heading(text: str) -> str:
    """One line of plain words; nothing in it is markup."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&-])", r"\\\1", " ".join(text.split()))


def _moment(at: datetime | None) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%SZ}" if at else ""
