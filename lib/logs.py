"""Logs: one line for each thing that happened, with the id of the request or task it happened in.

Code says `log.info("request", extra={"route": route})`; structlog turns the records of all loggers, Django's, Celery's and
uvicorn's too, into lines. What a line may say beside its event is an allow-list (SAID); what looks like a secret is blotted
out of the finished line; errors of the database say which rule was broken, never the row that broke it (A-16).
"""

import logging
import re
import traceback
from contextvars import ContextVar
from typing import Any

import orjson
import structlog
from structlog.typing import EventDict, ExcInfo, WrappedLogger

request_id: ContextVar[str] = ContextVar("request_id", default="")

# What a line may say beside its event. Never text of people or models, never what somebody sent as it came.
SAID = frozenset(
    [
        *("method", "route", "status", "ms", "brand"),  # a request
        *("turn_id", "provider", "model", "attempt", "first_piece_ms", "tokens", "outcome", "vendor_status"),  # a call
        *("task", "task_id", "attempts", "alert", "value", "since", "count", "reason", "pid"),  # background work
    ]
)
PLAIN = (str, int, float, bool, type(None))
MOST_CHARS = 500  # of one value, and of what an exception says

SECRETS = re.compile(
    rb"(?<![A-Za-z0-9])(?:sk|pk|rk|whsec|key)[-_][\w.*-]{6,}"  # keys of ours, of vendors, of Stripe
    rb"|(?i:bearer|basic) +[\w.~+/=-]{6,}"
    rb"|(?<=://)[^/\s\"@]*:[^/\s\"@]+(?=@)"  # a log-in within an address
    rb"|(?i:(?<=password=)|(?<=sessionid=)|(?<=csrftoken=)|(?<=token=))[^\s;&\",]{4,}"
)
# Looking for these first is 20 times faster than the expression; a line without any of them holds no such secret.
MARKS = (b"sk-", b"sk_", b"pk-", b"pk_", b"rk-", b"rk_", b"whsec", b"key-", b"key_", b"bearer ", b"basic ", b"://",
         b"password=", b"sessionid=", b"token=")  # fmt: skip
NAMES_A_PATH = {"django.request", "django.security.csrf"}  # paths may hold tokens; the access line has the route


def _add_request(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    if known := request_id.get():
        line["request_id"] = known
    return line


def _say_it_plainly(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    for name in line.keys() & SAID:
        value = line[name]
        if not isinstance(value, PLAIN):
            line[name] = str(value)[:MOST_CHARS]
        elif isinstance(value, str) and len(value) > MOST_CHARS:
            line[name] = value[:MOST_CHARS]
    return line


def _leave_out_paths(_: WrappedLogger, __: str, line: EventDict) -> EventDict:
    if line["_record"].name in NAMES_A_PATH:
        line["event"] = line["event"].partition(": /")[0]
    return line


def described(error: BaseException) -> str:
    """What an error may say in a log: of a refused statement only which rule it broke, for the rest is rows."""
    sqlstate = getattr(error, "sqlstate", None) or getattr(error.__cause__, "sqlstate", None)
    if sqlstate and str(sqlstate).startswith("22"):  # data exceptions quote the value
        return f"SQLSTATE {sqlstate}"
    return str(error).partition("\n")[0][:MOST_CHARS]


def _render_exception(exc_info: ExcInfo) -> str:
    """The traceback without values; each exception says what described() lets it say."""
    lines: list[str] = []
    error: BaseException | None = exc_info[1]
    seen: set[int] = set()
    while error is not None and id(error) not in seen and len(seen) < 5:
        seen.add(id(error))
        frames = "".join(traceback.format_tb(error.__traceback__, limit=-20))
        lines.insert(0, f"{frames}{type(error).__module__}.{type(error).__qualname__}: {described(error)}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return "\n\n".join(lines)


def blotted(text: str) -> str:
    """Without what looks like a secret."""
    return _blotted(text.encode("utf-8", "replace"))


def _blotted(line: bytes) -> str:
    low = line.lower()
    if any(mark in low for mark in MARKS):
        line = SECRETS.sub(b"[secret]", line)
    return line.decode()


def _to_json(_: WrappedLogger, __: str, line: EventDict) -> str:
    return _blotted(orjson.dumps(line, default=str))


class _ToText:
    """A line for people: time, level, event, what belongs to it, and below it the traceback."""

    def __call__(self, _: WrappedLogger, __: str, line: EventDict) -> str:
        exception, time = line.pop("exception", ""), line.pop("timestamp", "")[11:23]
        head = f"{time} {line.pop('level', ''):7} {line.pop('logger', '')}: {line.pop('event', '')}"
        text = " ".join([head, *(f"{name}={value}" for name, value in line.items())])
        text = f"{text}\n{exception}" if exception else text
        return blotted(text)


def config(*, json: bool, level: str, access: bool) -> dict[str, Any]:
    """Settings' LOGGING. `access` = one line for each request."""
    if json:
        logging.captureWarnings(True)
    to_root = {"handlers": [], "propagate": True}
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {
            "line": {
                "()": structlog.stdlib.ProcessorFormatter,
                "foreign_pre_chain": [
                    _leave_out_paths,
                    structlog.stdlib.ExtraAdder(allow=SAID),
                    _say_it_plainly,
                    _add_request,
                    structlog.stdlib.add_log_level,
                    structlog.stdlib.add_logger_name,
                    structlog.processors.TimeStamper(fmt="iso", utc=True),
                    structlog.processors.ExceptionRenderer(_render_exception),
                ],
                "processors": [
                    structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                    _to_json if json else _ToText(),
                ],
            }
        },
        "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
        "root": {"handlers": ["console"], "level": level},
        "loggers": {
            "chatsite.access": {"level": level if access else "WARNING"},
            # Django's own would mail whole requests to ADMINS, values and all.
            "django": {**to_root, "level": "INFO"},
            "django.server": to_root,
            "django.request": {"level": "ERROR"},  # what was refused stands in the access line
            "uvicorn": {**to_root, "level": "WARNING"},
            "uvicorn.error": to_root,
            "uvicorn.access": {"handlers": [], "propagate": False},
            **{name: {"level": "WARNING"} for name in ("celery", "kombu", "stripe")},
            **{name: {"level": "WARNING"} for name in ("httpx", "httpx2", "openai", "anthropic")},
        },
    }
