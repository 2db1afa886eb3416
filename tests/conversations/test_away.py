"""O-01, O-04: the database goes away while answers are written. What runs goes on, what is new is refused in words and at
once, what was said is stored when it is back, and nobody restarts anything."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from django.db import connections

from chatsite import roles
from chatsite.embedded.postgres import Postgres
from conversations.engine import reaper
from conversations.models import Look
from lib.db import SERVICE, close_all, db, scope
from tests.conversations import rows
from tests.conversations.road import Road
from tests.conversations.rows import charged, stored
from tests.forked import Forked
from tests.pooler import pooler
from tests.quotas.proofs import prove
from tests.server import ALIASES, Browser, Seen, Site, eventually, said
from tests.upstream import PROJECT, Upstream

AWAY_S = float(os.environ.get("SOAK_AWAY_S", "8"))
CHATS = int(os.environ.get("SOAK_AWAY_CHATS", "15"))
BACK_S = 10  # and not more until everything works again
QUESTION = {"model": "words", "messages": [{"role": "user", "content": "Now?"}]}


@pytest.fixture(autouse=True)
def _short_patience(settings):
    settings.TURN_LOST_AFTER_S = 3.0  # shorter than the database is away: whoever counts that time ends live turns


class Chats:
    """Some that end while the database is away, and some that are stopped after it."""

    def __init__(self, browser: Browser, site: Site) -> None:
        self.browser, self.site = browser, site

    async def begin(self) -> None:
        long = CHATS // 3
        models = ["long"] * long + ["slow"] * (CHATS - long)
        asked = await asyncio.gather(*(self.browser.ask("Go on.", self.site.models[name]) for name in models))
        assert {one.status for one in asked} == {200}, [one.body for one in asked]
        self.ids = [one.turn_id for one in asked if one.turn_id]
        self.seen = [Seen() for _ in asked]
        pairs = zip(self.ids, self.seen, strict=True)
        self.readers = [asyncio.create_task(self.browser.read(turn_id, its)) for turn_id, its in pairs]
        self.long, self.short = self.ids[:long], self.ids[long:]
        await self.arrived(60)

    def whole(self, turn_id) -> str:
        return said(600 if turn_id in self.long else 100)

    async def arrived(self, more: int) -> None:
        """Until every answer has so many more characters, or all of its own."""
        lengths = [len(self.whole(turn_id)) for turn_id in self.ids]
        goal = [min(its.last_id + more, length) for its, length in zip(self.seen, lengths, strict=True)]

        async def all_there():
            return all(its.last_id >= least for its, least in zip(self.seen, goal, strict=True))

        await eventually(all_there)

    async def end(self) -> None:
        for turn_id in self.long:
            assert await self.browser.stop(turn_id) == 204
        await asyncio.wait_for(asyncio.gather(*self.readers), 60)
        for turn_id, its in zip(self.ids, self.seen, strict=True):
            turn, answer = await db(stored, turn_id)
            is_whole = its.text == self.whole(turn_id)
            status = "done" if is_whole else "stopped"
            assert (turn.status, answer.status) == (status, status)
            assert answer.content == its.text
            assert is_whole or turn_id in self.long
            assert (await db(charged, turn_id))["queries"] == 1


async def refused_in_words(browser: Browser, person) -> None:
    """A page, a question and a program's call; healthy is the process all the same."""
    async with browser.get("/c/") as page:
        assert (page.status, "Retry-After" in page.headers) == (503, True)
        assert "database" in await page.text()
    asked = await browser.ask("Now?", browser.person.brand.pk)
    assert (asked.status, "Retry-After" in asked.headers) == (503, True)
    assert "database" in asked.body
    key = {"Authorization": f"Bearer {person.key}"}
    async with browser.post("/v1/chat/completions", json=QUESTION, headers=key) as answer:
        assert (answer.status, "Retry-After" in answer.headers) == (503, True)
        assert "database" in (await answer.json())["error"]["message"]
    assert await health(browser) == (200, 503)


async def health(browser: Browser) -> tuple[int, int]:
    async with browser.get("/healthz") as lives, browser.get("/readyz") as works:
        return lives.status, works.status


async def all_is_well(browser: Browser, site: Site) -> float:
    """Seconds until a question is answered and the balancer is told so."""
    began = time.monotonic()

    async def answered():
        return (await browser.ask("Again?", site.models["words"])).turn_id

    seen = await browser.read(await eventually(answered, seconds=BACK_S, every=0.2))
    took_s = time.monotonic() - began
    assert seen.text == said(20)
    assert await health(browser) == (200, 200)
    return took_s


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("how", "is_pooled"),
    [("cut", False), ("swallow", False), pytest.param("cut", True, marks=pytest.mark.pooler)],
    ids=["cut", "swallow", "cut-behind-a-pooler"],
)
async def test_answers_outlive_a_database_that_cannot_be_reached(site, http, person, how, is_pooled):
    """O-01: refused and reset, or swallowed without a word; or refused to the pooler that the process talks to."""
    with ExitStack() as at_end:
        road = Road()
        async with road:
            given = {**road.urls(), "DATABASE_SILENCE_S": "2"}
            if is_pooled:
                given |= await asyncio.to_thread(at_end.enter_context, pooler(to_port=road.port))
                given["PREPARE_STATEMENTS"] = "0"
            web = await asyncio.to_thread(at_end.enter_context, site.serve(**given))
            browser = Browser(http, web, person)
            chats = Chats(browser, site)
            await chats.begin()
            await db(reaper.reap)
            until = time.monotonic() + AWAY_S
            await getattr(road, how)()
            await asyncio.gather(*(refused_in_words(browser, person) for _ in range(10)))
            began = time.monotonic()
            await asyncio.gather(*(refused_in_words(browser, person) for _ in range(10)))
            at_once_s = time.monotonic() - began
            await chats.arrived(60)
            await asyncio.sleep(max(0, until - time.monotonic()))

            await road.open()
            assert await db(reaper.reap) == 0, (
                "the reaper ended turns whose process had no chance to tell that it lives"
            )
            print(f"{how}: back after {await all_is_well(browser, site):.1f} s; 40 refusals took {at_once_s:.1f} s")
            await chats.end()


@pytest.fixture
def killable(django_db_setup, django_db_blocker, tmp_path_factory):
    """A cluster that may be killed and a site on it, with this process's log-ins leading there, and their addresses."""
    with django_db_blocker.unblock(), ExitStack() as at_end:
        postgres = Postgres(tmp_path_factory.mktemp("cluster") / "postgres")
        postgres.start()
        at_end.callback(postgres.stop)
        urls = roles.bootstrap(postgres.url(), development=True)
        env = {**os.environ, **urls, "DJANGO_SETTINGS_MODULE": "chatsite.settings"}
        subprocess.run([sys.executable, "manage.py", "migrate", "-v0"], cwd=PROJECT, env=env, check=True)
        at_end.enter_context(led_to(urls))
        site = Site(str(connections.settings["owner"]["NAME"]), at_end.enter_context(Upstream()))
        site.fill()
        close_all()
        yield postgres, site, urls
        prove(None)


@contextmanager
def led_to(urls: dict[str, str]):
    before = {alias: dict(connections.settings[alias]) for alias in ALIASES}
    names = dict(zip(ALIASES, ("DATABASE_OWNER_URL", "DATABASE_URL", "DATABASE_SERVICE_URL"), strict=True))
    close_all()
    for alias, name in names.items():
        parts = urlsplit(urls[name])
        connections.settings[alias].update(PORT=parts.port, PASSWORD=parts.password, NAME=parts.path[1:])
    try:
        yield
    finally:
        close_all()
        for alias in ALIASES:
            connections.settings[alias].update(before[alias])


@contextmanager
def worker(folder: Path, site: Site, **env: str):
    """Celery with its beat, as `make run` starts it."""
    command = ["-A", "chatsite", "worker", "-B", "-P", "threads", "-c", "4", "-l", "warning", "-s", folder / "beat"]
    env = {**os.environ, "DJANGO_SETTINGS_MODULE": "tests.conversations.settings", "LIVE_DB": site.name, **env}
    process = Forked("celery", "--quiet", *command, env=env, log=str(folder / "worker.log"), own_group=True)
    try:
        yield
    finally:
        process.terminate()
        with suppress(subprocess.TimeoutExpired):
            process.wait(30)
        process.kill_group()


def kill(postgres: Postgres) -> None:
    """kill -9 of the whole server, as when the machine goes."""
    first = int((postgres.data / "postmaster.pid").read_text().splitlines()[0])
    children = Path(f"/proc/{first}/task/{first}/children").read_text().split()
    for pid in (first, *map(int, children)):
        os.kill(pid, signal.SIGKILL)


@pytest.mark.timeout(300)
async def test_nothing_is_lost_when_the_database_is_killed_under_web_and_worker(killable, http, tmp_path):
    """O-01, Q-10, INV1-INV10: the server dies with what it had not written, and comes back; the worker reaps as before."""
    postgres, site, urls = killable
    with ExitStack() as at_end:
        web = await asyncio.to_thread(at_end.enter_context, site.serve(**urls))
        queue = urlsplit(os.environ["REDIS_URL"])._replace(path="/9").geturl()
        at_end.enter_context(worker(tmp_path, site, REDIS_URL=queue, TURN_LOST_AFTER_S="6", **urls))
        await eventually(lambda: db(has_looked), seconds=60)
        person = await db(site.person)
        browser = Browser(http, web, person)
        chats = Chats(browser, site)
        await chats.begin()
        until = time.monotonic() + AWAY_S
        kill(postgres)
        await asyncio.gather(*(refused_in_words(browser, person) for _ in range(5)))
        await chats.arrived(60)
        await asyncio.sleep(max(0, until - time.monotonic()))

        await asyncio.to_thread(postgres.start)
        print(f"killed: back after {await all_is_well(browser, site):.1f} s")
        await chats.end()
        asked = await browser.ask("And now?", site.models["long"])
        await eventually(lambda: db(rows.kept, asked.turn_id), seconds=60)
        web.kill()

        async def reaped():
            turn, answer = await db(stored, asked.turn_id)
            return turn.status == "interrupted" and answer.content

        assert said(600).startswith(await eventually(reaped, seconds=60))
        assert await db(rows.running, person) == 0


def has_looked() -> bool:
    with scope(SERVICE):
        return Look.objects.exists()


FULL = """
create function full_disk() returns trigger language plpgsql as $$ begin
    raise exception 'could not extend file: No space left on device' using errcode = 'disk_full';
end $$;
create trigger full_disk before insert or update on conversations_turn for each row execute function full_disk()
"""


def disk_is(full: bool) -> None:
    with connections["owner"].cursor() as cursor:
        cursor.execute(FULL if full else "drop function full_disk cascade")
    connections["owner"].close()


async def test_a_full_disk_refuses_in_words_and_loses_no_text(site, http, person, web, browser):
    """O-04: the server's own error, by a trigger in place of a full disk."""
    running = await browser.ask("Go on.", site.models["brisk"])
    reading = asyncio.create_task(browser.read(running.turn_id))
    await db(disk_is, full=True)
    try:
        refused = await browser.ask("Now?", site.models["words"])
        assert (refused.status, "Retry-After" in refused.headers) == (503, True)
        assert "database" in refused.body

        async def is_written():
            return [call["finished"] for call in await asyncio.to_thread(site.upstream.calls)] == [True]

        await eventually(is_written, seconds=30)
        assert (await db(rows.leftovers, person))["turns"] == 1
        assert not reading.done()
    finally:
        await db(disk_is, full=False)
    seen = await asyncio.wait_for(reading, 30)

    turn, answer = await db(stored, running.turn_id)
    assert (turn.status, answer.content, seen.text) == ("done", said(40), said(40))
    assert (await db(charged, running.turn_id))["queries"] == 1
    assert (await db(rows.leftovers, person))["holds"] == 0
