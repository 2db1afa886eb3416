"""A-16: no secret of the product stands open anywhere, looked for at the end of every test of the whole suite.

Whatever is secret is remembered the moment it is made or set, in every process under test: settings, passwords, sessions,
keys, sealed values, tokens of links and of apps, the second factor. Then what the test left behind is searched for it: its
output, the logs of its processes, all its rows, error pages, /metrics, exports, and what tasks were given.

A secret is known by its longest run of letters and digits: each word that was written is looked up, and nothing is compared.
"""

import contextlib
import io
import json
import os
import re
import tempfile
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg

FILE = "CANARIES"  # names the file in which the processes of one worker tell each other what is secret
RUNS = re.compile(r"[0-9A-Za-z]{8,}")
LEAST = 10  # letters of a run that occurs nowhere by chance; of what has none, the whole text is looked for
MOST_ROWS = 2000  # of a table, in one look

# Settings and variables of the environment that are secret, or have a secret in them.
SECRET = frozenset(
    """SECRET_KEY SECRET_KEY_FALLBACKS ENCRYPTION_KEYS ENCRYPTION_KEY METRICS_TOKEN HEADLESS_JWT_PRIVATE_KEY
    EMAIL_HOST_PASSWORD EMAIL_URL EMAIL_PROVIDER_OPTIONS EMAIL_WEBHOOK_SECRET GOOGLE_CLIENT_SECRET
    GITHUB_CLIENT_SECRET FILES_STORAGE_OPTIONS OPENAI_API_KEY ANTHROPIC_API_KEY OPENROUTER_API_KEY STRIPE_SECRET_KEY
    STRIPE_WEBHOOK_SECRET DATABASE_URL DATABASE_SERVICE_URL DATABASE_OWNER_URL DATABASE_BACKUP_URL
    DATABASE_TESTER_URL REDIS_URL""".split()  # noqa: SIM905
)
# Where a secret stands by design. Changed by hand, on purpose: whoever adds a column here says why.
BY_DESIGN = {
    "django_session": {"session_key", "session_data"},  # Django's own: its row is what a cookie is looked up by
    "usersessions_usersession": {"session_key"},  # to end another device's session
}
# Signed texts that let somebody in, by a word of their salt.
LETS_IN = ("visitor", "app_tokens", "account", "signup")

# Pages that hand their reader what is theirs, refused or not: allauth's protocol names a sign-in that goes on by its token.
HANDS_OVER = ("/api/app/v1/auth/",)

_runs: dict[str, str] = {}  # what each run is a part of
_wholes: dict[str, str] = {}
_codes: dict[str, str] = {}  # of this test: eight digits occur by chance, when there are many
_found: list[str] = []  # of this test
_logs: dict[str, Any] = {}  # of processes under test, each read once
_told = 0  # bytes that were read of the processes' file
_select: dict[str, str] = {}  # by database


def remember(what: str, secret: object) -> None:
    """From now on `secret` is looked for in everything that is written."""
    if not isinstance(secret, str) or len(secret) < LEAST:
        return
    run = max(RUNS.findall(re.split(r"[.:]", secret)[-1]), key=len, default="")
    known, part = (_runs, run) if len(run) >= LEAST else (_wholes, secret)
    if part in known or (known is _wholes and len(secret) < LEAST + 2):
        return
    known[part] = what
    if path := os.environ.get(FILE):
        with open(path, "a") as file:
            file.write(json.dumps([what, part]) + "\n")


def remember_setting(name: str, value: object) -> None:
    """A setting or a variable of the environment, if it is one of the secret ones: its password, each of its values."""
    if name not in SECRET:
        return
    for one in _texts(value):
        remember(name, urlsplit(one).password if "://" in one else one)


def _texts(value: object) -> list[str]:
    if isinstance(value, dict):
        return [text for one in value.values() for text in _texts(one)]
    if isinstance(value, list | tuple):
        return [text for one in value for text in _texts(one)]
    return re.findall(r"[^,\s]+", value) if isinstance(value, str) else []


def look(where: str, text: str) -> list[str]:
    """What stands open in this text, in words; also kept for the end of the test."""
    words = set(RUNS.findall(unquote(text) if "%" in text else text))
    open_ones = {_runs[word] for word in words & _runs.keys()} | {_codes[word] for word in words & _codes.keys()}
    open_ones |= {what for whole, what in _wholes.items() if whole in text}
    found = [f"{what} in {where}" for what in sorted(open_ones)]
    _found.extend(found)
    return found


# What is made, in this process


def listen() -> None:
    """Remember what is made from now on. Called by the settings of every process under test, before anything is imported."""
    import secrets

    import jwt
    from django.contrib.auth import hashers
    from django.contrib.auth.tokens import PasswordResetTokenGenerator
    from django.contrib.sessions.backends.base import SessionBase
    from django.core import signing

    from lib.secret import Secret

    _after(secrets, "token_urlsafe", lambda made, *_, **__: remember("a key or a token", made))
    _after(jwt, "encode", lambda made, *_, **__: remember("an app's token", made))
    _after(hashers, "make_password", lambda _, given=None, *__, **___: remember("a password", given))
    _after(SessionBase, "_get_new_session_key", lambda made, *_: remember("a session's name", made))
    _after(
        PasswordResetTokenGenerator,
        "_make_token_with_timestamp",
        lambda made, *_: remember("a link to a new password", made.replace("-", "")[-32:]),
    )
    _after(signing.TimestampSigner, "sign", _signed)
    _after(Secret, "__init__", lambda _, __, value: remember("a sealed value", value))
    for name, value in os.environ.items():
        remember_setting(name, value)


def listen_to_apps() -> None:
    """The same of what is there only once Django is set up: the second factor, and where things are written."""
    from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
    from allauth.mfa.totp.internal import auth as totp
    from django.conf import settings
    from django.core.signals import setting_changed
    from django.test import client

    from chatsite.celery import SiteTask
    from lib import files

    for name in SECRET:
        remember_setting(name, getattr(settings, name, None))
    ours: Any = settings
    for log_in in [*ours.DATABASES.values(), ours.TESTER]:
        remember("a password of the database", log_in.get("PASSWORD"))
    setting_changed.connect(_changed, weak=False)
    _after(totp, "generate_totp_secret", lambda made, *_: remember("a second factor", made))
    _after(RecoveryCodes, "generate_seed", lambda made, *_: remember("the seed of recovery codes", made))
    _after(RecoveryCodes, "generate_codes", lambda made, *_: _codes.update(dict.fromkeys(made, "a recovery code")))
    _after(
        SiteTask,
        "apply_async",
        lambda _, __, *given, **more: look("a task's arguments", f"{given} {more}"),
    )
    _after(files, "save", lambda key, _brand, kind, _name, content: _saved(key, kind, content))
    _after(client.ClientHandler, "__call__", lambda response, *_: _answered(response))


def _after(owner: Any, name: str, then: Callable[..., object]) -> None:
    """Call `then(result, *arguments)` whenever this was called."""
    real = getattr(owner, name)
    if hasattr(real, "_unheard"):
        return

    def heard(*args: Any, **kwargs: Any) -> Any:
        result = real(*args, **kwargs)
        then(result, *args, **kwargs)
        return result

    heard._unheard = real  # type: ignore[attr-defined]
    is_bound = isinstance(vars(owner).get(name), classmethod)
    setattr(owner, name, staticmethod(heard) if is_bound else heard)


def _signed(made: str, signer: Any, *_: Any) -> None:
    if any(word in str(signer.salt).lower() for word in LETS_IN):
        remember("a signed cookie or link", made)


def _changed(*, setting: str, value: object, **_: object) -> None:
    remember_setting(setting, value)


# Where it may not be


def _answered(response: Any) -> None:
    asked = response.wsgi_request.path if hasattr(response, "wsgi_request") else ""
    if asked.startswith(HANDS_OVER):
        return
    if not response.streaming and (response.status_code >= 400 or asked == "/metrics"):
        look(f"the page {asked} with status {response.status_code}", response.content.decode(errors="replace"))


def _saved(key: str, kind: str, content: Any) -> None:
    if kind != "export":
        return
    if not isinstance(content, bytes):
        content.seek(0)
        content = content.read()
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            content = b"\n".join(archive.read(name) for name in archive.namelist())
    look(f"an export ({key})", content.decode(errors="replace"))


def watch_log(path: str) -> None:
    """The output of a process under test. It is read as long as anybody holds it."""
    if path not in _logs:
        Path(path).touch()  # the process may not have said anything yet
        _logs[path] = open(path, errors="replace")  # noqa: SIM115 - as long as the suite, or the process


def look_at_rows_of_test() -> None:
    """Those of a test that will be rolled back, unless its transaction is broken already."""
    from django.db import connections

    from lib.db import SERVICE, scope, send

    one = connections["default"]
    if not one.connection or not one.in_atomic_block or one.needs_rollback:
        return
    with scope(SERVICE):
        look_at_rows(lambda statement: send((statement.replace("%", "%%"), {}))[0], one.settings_dict["NAME"])


def look_at_rows_of_database(name: str) -> None:
    """Those of a database whose test has ended."""
    from django.db import connections

    own = connections["service"].settings_dict
    log_in = {"host": own["HOST"], "port": own["PORT"], "user": own["USER"], "password": own["PASSWORD"]}
    with psycopg.connect(**log_in, dbname=name, autocommit=True) as connection:
        connection.execute("set role app_service")
        look_at_rows(lambda statement: connection.execute(statement).fetchall(), name)


def look_at_rows(ask: Callable[[str], Iterable[Any]], database: str) -> list[str]:
    """Every text, JSON and byte of every table, but for what stands there by design.

    ask  runs a statement, in which its reader sees everything
    """
    if database not in _select:
        _select[database] = _statement(ask)
    tables: dict[str, list[str]] = {}
    for table, row in ask(_select[database]):
        tables.setdefault(table, []).append(row)
    return [hit for table, rows in tables.items() for hit in look(f"table {table}", "\n".join(rows))]


COLUMNS = """
select c.relname, array_agg(case when a.atttypid = 'bytea'::regtype then format('encode(%I, ''escape'')', a.attname)
                                 else quote_ident(a.attname) end || ' as ' || quote_ident(a.attname))
from pg_class c join pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and (a.atttypid in
    ('text'::regtype, 'varchar'::regtype, 'json'::regtype, 'jsonb'::regtype, 'bytea'::regtype, 'text[]'::regtype,
     'varchar[]'::regtype)) and (c.relname, a.attname) not in (%s)
group by c.relname order by c.relname
"""


def _statement(ask: Callable[[str], Iterable[Any]]) -> str:
    kept = ", ".join(f"('{table}', '{column}')" for table in BY_DESIGN for column in sorted(BY_DESIGN[table]))
    looks = [
        f"(select '{table}', row_to_json(r)::text from (select {', '.join(columns)} from {table} limit {MOST_ROWS}) r)"
        for table, columns in ask(COLUMNS.replace("%s", kept))
    ]
    return " union all ".join(looks)


# A test, from its beginning to its end


def begin() -> None:
    """In a worker, before its first test."""
    handle, os.environ[FILE] = tempfile.mkstemp(prefix="canaries-")  # its own: a run within a run ends before this one
    os.close(handle)
    listen()
    listen_to_apps()


def leave() -> None:
    with contextlib.suppress(OSError):
        Path(os.environ.pop(FILE, "")).unlink()


def forget_test() -> None:
    _found.clear()
    _codes.clear()


def found_by_now(sections: Iterable[tuple[str, str]]) -> list[str]:
    """What stands open in this test's output and in the logs of processes, and what was found before; each once."""
    global _told
    with contextlib.suppress(OSError), open(os.environ[FILE], "rb") as file:
        file.seek(_told)
        lines, ended, _ = file.read().rpartition(b"\n")  # the rest of the last one is being written
        _told += len(lines) + len(ended)
        for what, part in map(json.loads, lines.splitlines()):
            (_wholes if not RUNS.fullmatch(part) else _runs).setdefault(part, what)
    for name, text in sections:
        look(name, text)
    for path, file in list(_logs.items()):
        look(f"the log {Path(path).name} of a process", file.read())
        if not os.path.exists(path):
            _logs.pop(path).close()
    return list(dict.fromkeys(_found))
