"""A real web process, as `make run` starts it, on a database of its own, with tests.upstream as its vendor.

Nothing is rolled back here: each test brings its own brand and people, and looks at their rows only.
"""

import asyncio
import contextlib
import http.client
import itertools
import json
import os
import re
import secrets
import socket
import tempfile
import time
import urllib.request
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol
from uuid import UUID

import aiohttp
import psycopg
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import connections

from accounts import keys
from accounts.models import Brand, User
from lib.db import SERVICE, scope
from quotas import ledger
from tests import canaries, factories, template
from tests.forked import Forked
from tests.upstream import Upstream

ALIASES = ("owner", "default", "service")
CSRF = "c" * 32
TURN = re.compile(r"/turns/([0-9a-f-]{36})/stream")
# What can be asked for by name: the test upstream does as its model's name says.
MODELS = {
    "words": "m;tokens=20",
    "slow": "m;tokens=100;delay_ms=30",
    "brisk": "m;tokens=40;delay_ms=50",
    "steady": "m;tokens=160;delay_ms=50",
    "long": "m;tokens=600;delay_ms=50",
    "idle": "m;tokens=120;delay_ms=700",
    "markdown": "m;tokens=120;md=1;delay_ms=10",
    "slow-markdown": "m;tokens=120;md=1;delay_ms=30",
    "book": "m;tokens=2500;md=1;delay_ms=1",
    "echo": "echo",
    "caller": "m;tokens=0;calls=1",
    "two-calls": "m;tokens=3;calls=2;mixed=1;delay_ms=10",
    "long-calls": "m;tokens=600;delay_ms=50;calls=1",
    "thinks": "m;tokens=5;thinks=30;delay_ms=100",
    "thinks-aloud": "m;tokens=5;thinks=30;thought=reasoning;delay_ms=100",
    "thinks-silently": "m;tokens=5;thinks=30;thought=silent;delay_ms=100",
    "thinks-only": "m;tokens=5;thinks=400",
    "says-nothing": "m;tokens=0;usage=missing",
    "key-refused": "m;status=401",
    "busy": "m;status=429;retry_after=7",
    "broken": "m;status=500",
    "hang-headers": "m;hang=headers",
    "hang-first": "m;hang=first",
    "hang-middle": "m;hang=middle;after=5",
    "cut-first": "m;cut=first",
    "cut-middle": "m;cut=middle;after=5",
    "cut-quiet": "m;cut=quiet;after=5",
    "garbled": "m;garble=1;after=5",
    "garbled-html": "m;garble=html",
    "error-mid": "m;error_mid=1;after=5",
    **{
        f"usage-{name.replace('*', '')}": f"m;usage={name}"
        for name in ("missing", "zero", "null", "negative", "string", "nan", "huge", "2**31", "2**63", "wrong", "list")
    },
}
# The same by Anthropic's protocol.
CLAUDES = {
    "claude": "m;tokens=20",
    "claude-caller": "m;tokens=3;calls=2",
    "claude-busy": "m;status=529;retry_after=7",
    "claude-cut-middle": "m;cut=middle;after=5",
    "claude-error-mid": "m;error_mid=1;after=5",
}


def said(tokens: int) -> str:
    """What the upstream says with `tokens=...`."""
    return "".join(f"w{number:04d} " for number in range(1, tokens + 1))


@dataclass
class Person:
    """A member of a brand with a session and a key."""

    brand: Brand
    user: User
    cookies: str
    key: str


@dataclass
class Event:
    id: int
    name: str
    data: str


@dataclass
class Asked:
    status: int
    body: str
    turn_id: UUID | None
    conversation_id: UUID | None
    headers: dict[str, str]


@dataclass
class Seen:
    """What a reader has of an answer. `text` is whole only for answers without finished blocks."""

    text: str = ""
    last_id: int = 0
    names: list[str] = field(default_factory=list)
    blocks: list[str] = field(default_factory=list)
    done: str = ""
    gone: str = ""


class Web:
    """One process of the product."""

    def __init__(self, env: dict[str, str], port: int) -> None:
        self.port = port
        self.log = tempfile.NamedTemporaryFile("w+")  # noqa: SIM115 - for as long as the process
        self.process = Forked("chatsite.web", "--port", self.port, env={**os.environ, **env}, log=self.log.name)
        self.url = f"http://127.0.0.1:{self.port}"

    def wait_ready(self) -> None:
        for _ in range(2400):
            assert self.process.poll() is None, self.logged()
            with (
                contextlib.suppress(OSError, http.client.HTTPException),
                urllib.request.urlopen(f"{self.url}/readyz", timeout=2),
            ):
                return
            time.sleep(0.05)
        raise RuntimeError(f"the web process was not ready within two minutes: {self.logged()}")

    def logged(self) -> str:
        self.log.seek(0)
        return self.log.read()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(60)

    def terminate(self) -> None:
        self.process.terminate()

    def wait(self, seconds: float) -> int:
        return self.process.wait(seconds)

    def threads(self) -> int:
        return len(list(Path(f"/proc/{self.process.pid}/task").iterdir()))


class Site:
    """The product with its database, its vendor and one web process that tests share as long as they leave it alive."""

    def __init__(self, name: str, upstream: Upstream) -> None:
        self.name, self.upstream = name, upstream
        self.models: dict[str, UUID] = {}
        self._numbers = itertools.count(1)

    @contextlib.contextmanager
    def database(self) -> Iterator[None]:
        """This process's own log-ins lead to the site's database."""
        before = {alias: connections.settings[alias]["NAME"] for alias in ALIASES}
        _let_go()
        for alias in ALIASES:
            connections.settings[alias]["NAME"] = self.name
        try:
            yield
        finally:
            _let_go()
            for alias, name in before.items():
                connections.settings[alias]["NAME"] = name

    @contextlib.contextmanager
    def serve(self, port: int = 0, /, **env: str) -> Iterator[Web]:
        """A web process of one's own, to be killed; `env` is added to its environment."""
        given = {
            "DJANGO_SETTINGS_MODULE": "tests.conversations.settings",
            "LIVE_DB": self.name,
            "OPENAI_API_KEY": "sk-test-0123456789abcdef",
            "OPENAI_BASE_URL": self.upstream.openai_url,
            "ANTHROPIC_BASE_URL": self.upstream.anthropic_url,
            "EGRESS_ALLOW": self.upstream.host_port,
            "OWN_KEY_HOMES": json.dumps(
                {
                    "openai": self.upstream.openai_url,
                    "anthropic": self.upstream.anthropic_url,
                    "openrouter": "https://openrouter.ai/api/v1",
                }
            ),
            "DEMO_TOKENS_PER_SECOND": "0",
            **env,
        }
        web = Web(given, port or free_port())
        try:
            web.wait_ready()
            yield web
        finally:
            web.kill()

    def fill(self) -> None:
        spoken = [("openai", *item) for item in MODELS.items()] + [("anthropic", *item) for item in CLAUDES.items()]
        for position, (protocol, identifier, model) in enumerate(spoken):
            row = factories.make_provider(
                identifier, protocol=protocol, model=model, position=position, max_tokens=1000, context_window=32_000
            )
            self.models[identifier] = row.pk
        self.models["seer"] = factories.make_provider(
            "seer", protocol="openai", model="m;tokens=20", position=80, context_window=32_000, config={"images": True}
        ).pk
        for position, (identifier, protocol, model) in enumerate(
            (
                ("demo-embedding", "demo", "demo-embedding"),
                ("vectors", "openai", "v"),
                ("vectors-floats", "openai", "v;floats=1"),
                ("vectors-short", "openai", "v;short=1"),
                ("vectors-broken", "openai", "v;status=500"),
                ("vectors-slow", "openai", "v;delay_ms=1500"),
                ("vectors-hang", "openai", "v;hang=headers"),
            )
        ):
            factories.make_provider(
                identifier, kind="embedding", protocol=protocol, model=model, position=100 + position,
                context_window=8_000, max_tokens=1,
            )  # fmt: skip
        self.models["demo"] = factories.make_provider("demo", position=90).pk
        self.models["no-price"] = factories.make_provider("no-price", protocol="openai", priced=False, position=91).pk
        retired = factories.make_provider("retired", protocol="openai", is_active=False)
        self.models["retired"] = retired.pk

    def brand(self) -> Brand:
        return factories.make_brand(f"b{next(self._numbers)}")

    def person(self, brand: Brand | None = None, *, limit: int | None = None, chats: int | None = None) -> Person:
        """A member who may ask `limit` questions a day, and begin `chats`; None = as many as they like.

        The brand's account has no limit.
        """
        brand = brand or self.brand()
        user = factories.make_user(f"p{next(self._numbers)}@{brand.slug}.example.com")
        factories.make_member(brand, user)
        may = [ledger.Grant("queries", "day", limit)]
        if chats is not None:
            may.append(ledger.Grant("conversations", "month", chats))
        ledger.entitle(brand, kind="user", owner_id=user.pk, grants=may)
        ledger.entitle(brand, kind="brand", owner_id=brand.pk, grants=[ledger.Grant("tokens", "month", None)])
        session = SessionStore()
        session.update(
            {
                SESSION_KEY: str(user.pk),
                BACKEND_SESSION_KEY: "django.contrib.auth.backends.ModelBackend",
                HASH_SESSION_KEY: user.get_session_auth_hash(),
            }
        )
        session.save()
        with scope(SERVICE):
            _, key = keys.create(  # the limits' own tests set theirs
                brand, user, name="tests", scopes=["chat"],
                per_minute=keys.MOST_PER_MINUTE, per_day=keys.MOST_PER_DAY,
            )  # fmt: skip
        return Person(brand, user, f"sessionid={session.session_key}; csrftoken={CSRF}", key)


def _let_go() -> None:
    for alias in ALIASES:
        connections[alias].close()


def _patiently(admin: psycopg.Connection, statement: str) -> None:
    """The owner may not end the connections of killed processes and pools: they go by themselves, a moment later."""
    for _ in range(600):
        with contextlib.suppress(psycopg.errors.ObjectInUse):
            admin.execute(statement)
            return
        time.sleep(0.1)
    raise RuntimeError(f"the database is still in use: {statement}")


@contextlib.contextmanager
def copied_database(suffix: str) -> Iterator[str]:
    """A copy of the empty database, for those who commit: it costs a file copy and not a migration."""
    owner = connections["owner"].settings_dict
    home = {"host": owner["HOST"], "port": owner["PORT"], "user": owner["USER"], "password": owner["PASSWORD"]}
    name, empty = f"{owner['NAME']}_{suffix}", template.migrated()
    _let_go()
    with psycopg.connect(**home, dbname="postgres", autocommit=True) as admin:
        _patiently(admin, f'drop database if exists "{name}"')
        _patiently(admin, f'create database "{name}" template "{empty}"')
        admin.execute(f'revoke connect, temporary on database "{name}" from public')
        admin.execute(f'grant connect on database "{name}" to web, worker, tester')
        try:
            yield name
        finally:
            _patiently(admin, f'drop database if exists "{name}"')


@contextlib.contextmanager
def run_site(suffix: str = "live", **env: str) -> Iterator[tuple[Site, Web]]:
    with copied_database(suffix) as name, Upstream() as upstream:
        site = Site(name, upstream)
        with site.database():
            site.fill()
        with site.serve(**env) as web:
            yield site, web
        canaries.look_at_rows_of_database(name)


def free_port() -> int:
    """Below what the system gives to outgoing connections, and by chance: another worker may look at the same moment."""
    while True:
        port = 10_000 + secrets.randbelow(10_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Served(Protocol):
    url: str


class Browser:
    """A member at a web process or a proxy as far as the protocol goes: cookie, CSRF token, forms, server-sent events."""

    def __init__(self, session: aiohttp.ClientSession, web: Served, person: Person) -> None:
        self.session, self.web, self.person = session, web, person
        self.headers = {"Host": person.brand.domain, "Cookie": person.cookies}
        self.owner = str(person.user.pk) if person.user else ""  # whom the page was drawn for

    async def ask(
        self,
        text: str = "Tell me.",
        model: UUID | None = None,
        conversation_id: UUID | None = None,
        key: str = "",
        **fields: str,
    ) -> Asked:
        """Send a question as the page does, with more fields of its form. The turn is None when it was refused."""
        path = f"/c/{conversation_id}/send/" if conversation_id else "/c/send/"
        form = {
            "text": text,
            "csrfmiddlewaretoken": CSRF,
            "idempotency_key": key,
            "owner": self.owner,
        } | fields
        if model:
            form["provider"] = str(model)
        async with self.post(path, data=form, headers={"HX-Request": "true"}) as response:
            body = await response.text()
            found = TURN.search(body) if response.status == 200 else None
            pushed = response.headers.get("HX-Push-Url", "")
            conversation = UUID(pushed.split("/")[2]) if pushed else conversation_id
            return Asked(response.status, body, found and UUID(found[1]), conversation, dict(response.headers))

    def post(self, path: str, *, headers: dict[str, str] | None = None, **given):
        return self.session.post(
            self.web.url + path, headers={**self.headers, **(headers or {})}, allow_redirects=False, **given
        )

    def get(self, path: str, *, headers: dict[str, str] | None = None):
        return self.session.get(self.web.url + path, headers={**self.headers, **(headers or {})}, allow_redirects=False)

    async def stop(self, turn_id: UUID) -> int:
        headers = {"HX-Request": "true", "X-CSRFToken": CSRF}
        async with self.post(f"/turns/{turn_id}/stop", headers=headers) as response:
            return response.status

    async def events(self, turn_id: UUID | None, after: int | None = None) -> AsyncGenerator[Event, None]:
        assert turn_id, "the question was refused"
        headers = {} if after is None else {"Last-Event-ID": str(after)}
        async with self.get(f"/turns/{turn_id}/stream", headers=headers) as response:
            assert response.status == 200, (response.status, await response.text())
            lines: dict[str, str] = {}
            async for line in response.content:
                text = line.decode().rstrip("\n")
                if text:
                    name, _, value = text.partition(": ")
                    lines[name] = value
                elif "event" in lines:
                    yield Event(int(lines["id"]), lines["event"], json.loads(lines["data"]))
                    lines = {}

    async def read(self, turn_id: UUID | None, seen: Seen | None = None, *, until: int | None = None) -> Seen:
        """Read on from where `seen` stands, to the end or until `until` characters are there."""
        seen = seen or Seen()
        events = self.events(turn_id, seen.last_id or None)
        async with contextlib.aclosing(events):
            async for event in events:
                assert event.id >= seen.last_id, "an event came twice"
                seen.last_id = event.id
                seen.names.append(event.name)
                if event.name == "done":
                    seen.done = event.data
                elif event.name == "gone":
                    seen.gone = event.data
                else:
                    if event.name == "block":
                        seen.blocks.append(event.data)
                    seen.text += event.data
                    if until is not None and seen.last_id >= until:
                        return seen
        return seen


async def eventually(claim, seconds: float = 60, every: float = 0.1):
    """Wait until the async `claim()` is true and give what it returned; fail after a while."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    while not (found := await claim()):
        assert loop.time() < until, f"still not true after {seconds} s: {claim}"
        await asyncio.sleep(every)
    return found
