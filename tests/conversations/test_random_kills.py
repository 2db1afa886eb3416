"""Processes die, freeze and are asked to go at random while people work: nothing that was accepted is lost or paid twice.

Two web processes and a worker with beat; clients that ask, read, refresh, stop, hang up and repeat under the same key, and
turn to the other process when one does not answer, as behind a proxy. SOAK_RANDOM_S says how long, SOAK_SEED repeats the
schedule of one run.
"""

import asyncio
import contextlib
import os
import random
import signal
import statistics
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import aiohttp
import orjson
import pytest

from chatsite.embedded.processes import var_dir
from chatsite.embedded.valkey import Valkey
from conversations.models import OPEN_STATES, Message, Turn
from lib.db import SERVICE, db, scope
from quotas.models import Hold
from tests.conversations.rows import charged
from tests.figures import tell
from tests.forked import Forked
from tests.server import CSRF, TURN, Person, Web, eventually, said

SECONDS = float(os.environ.get("SOAK_RANDOM_S", "12"))
SEED = int(os.environ.get("SOAK_SEED", random.SystemRandom().randrange(2**32)))
IS_SMALL = SECONDS < 60
CLIENTS = 6 if IS_SMALL else 24
LOST_AFTER_S = 4 if IS_SMALL else 15
PAUSES_S = (1.5, 3.0) if IS_SMALL else (3.0, 12.0)  # between two deeds of the schedule
PATIENCE_S = 12 if IS_SMALL else 100  # of a client, for one question; a dead request's key is free after 60 s
WORDS = {"words": 20, "brisk": 40, "slow": 100, "long": 600}
DRAIN_S = 3
FINAL_S = 600  # to be sure; how long it takes is printed


@dataclass(frozen=True)
class Deed:
    """At `at_s` something is done to one process. A freeze or a Redis outage lasts `for_s`."""

    at_s: float
    what: str
    which: int
    for_s: float


def schedule(chance: random.Random) -> list[Deed]:
    """The same for the same seed and length."""
    deeds, at_s = [], 1.0
    kinds = ["kill web"] * 4 + ["terminate web"] * 2 + ["freeze web"] * 2 + ["kill worker", "terminate worker"]
    kinds += ["freeze worker", "stop redis"]
    while at_s < SECONDS - 1:
        deeds.append(Deed(at_s, chance.choice(kinds), chance.randrange(2), chance.uniform(0.5, 1.4 * LOST_AFTER_S)))
        at_s += chance.uniform(*PAUSES_S)
    return deeds


class Fleet:
    """The processes. A web process that ends is replaced by one on another port."""

    def __init__(self, site, stack: contextlib.AsyncExitStack) -> None:
        self.site, self.stack = site, stack
        self.redis = Valkey(var_dir() / "valkey-kills")
        self.webs: list[Web | None] = [None, None]
        self.worker: Forked | None = None
        self.done = Counter[str]()
        self.going: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        await asyncio.to_thread(self.redis.start)
        self.stack.callback(self.redis.stop)
        self.stack.callback(self._kill_worker)
        self.env = {
            "REDIS_URL": self.redis.url(),
            "TURN_LOST_AFTER_S": str(LOST_AFTER_S),
            "DRAIN_S": str(DRAIN_S),
            "LAME_DUCK_S": "0.3",
        }
        self._start_worker()
        await asyncio.gather(*(self._start_web(number) for number in range(2)))

    async def _start_web(self, number: int) -> None:
        self.webs[number] = None
        self.webs[number] = await asyncio.to_thread(self.stack.enter_context, self.site.serve(**self.env))

    def _start_worker(self) -> None:
        settings = {"DJANGO_SETTINGS_MODULE": "tests.conversations.settings", "LIVE_DB": self.site.name}
        with tempfile.NamedTemporaryFile(prefix="beat-") as name:
            schedule_file = name.name
        command = ["-A", "chatsite", "worker", "-B", "-s", schedule_file, "-P", "threads", "-c", "2", "-l", "error"]
        self.worker = Forked(
            "celery", "--quiet", *command, "--without-gossip", "--without-mingle",
            env={**os.environ, **settings, **self.env}, log=os.devnull, own_group=True,
        )  # fmt: skip

    def _kill_worker(self) -> None:
        if self.worker:
            self.worker.kill_group()

    async def any(self, chance: random.Random) -> Web:
        """A process that was ready when it was last looked at; it may be dead or frozen by now."""

        async def there() -> list[Web]:
            return [web for web in self.webs if web]

        return chance.choice(await eventually(there, seconds=600))

    async def do(self, deed: Deed) -> None:
        """Begin it; what takes time goes on beside the next one."""
        what: dict[str, Callable[[Deed], Coroutine[Any, Any, None]]] = {
            "kill web": self._end_web,
            "terminate web": self._end_web,
            "freeze web": self._freeze_web,
            "kill worker": self._end_worker,
            "terminate worker": self._end_worker,
            "freeze worker": self._freeze_worker,
            "stop redis": self._stop_redis,
        }
        self.going.append(asyncio.create_task(what[deed.what](deed)))

    async def _end_web(self, deed: Deed) -> None:
        web = self.webs[deed.which]
        if web is None:
            return  # it is being started
        self.done[deed.what] += 1
        self.webs[deed.which] = None
        web.process.send_signal(signal.SIGKILL if deed.what.startswith("kill") else signal.SIGTERM)
        await self._start_web(deed.which)
        assert await asyncio.to_thread(web.wait, DRAIN_S + 300) in (0, -9)

    async def _freeze_web(self, deed: Deed) -> None:
        if (web := self.webs[deed.which]) is not None:
            self.done[deed.what] += 1
            web.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(deed.for_s)
            web.process.send_signal(signal.SIGCONT)

    async def _end_worker(self, deed: Deed) -> None:
        self.done[deed.what] += 1
        assert self.worker
        if deed.what.startswith("terminate"):
            self.worker.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                await asyncio.to_thread(self.worker.wait, 15)
        await asyncio.to_thread(self._kill_worker)
        self._start_worker()

    async def _freeze_worker(self, deed: Deed) -> None:
        assert self.worker
        self.done[deed.what] += 1
        worker = self.worker
        worker.send_signal(signal.SIGSTOP)
        await asyncio.sleep(deed.for_s)
        worker.send_signal(signal.SIGCONT)

    async def _stop_redis(self, deed: Deed) -> None:
        self.done[deed.what] += 1
        await asyncio.to_thread(self.redis.stop)
        await asyncio.sleep(min(deed.for_s, 5))
        await asyncio.to_thread(self.redis.start)

    async def settle(self) -> None:
        """The schedule is over: whatever was begun is ended, and all processes are there again."""
        for result in await asyncio.gather(*self.going, return_exceptions=True):
            if isinstance(result, Exception):
                raise result
        await asyncio.to_thread(self.redis.start)
        if self.worker and self.worker.poll() is not None:
            self._start_worker()


@dataclass
class Told:
    """What the clients were told; the database must agree with all of it."""

    accepted: dict[UUID, tuple[Person, str, str]] = field(default_factory=dict)  # turn -> who, question, model
    unanswered: list[tuple[Person, str]] = field(default_factory=list)  # questions whose fate nobody heard
    answers: dict[UUID, tuple[str, str]] = field(default_factory=dict)  # a program's turn -> model, text
    whole: set[UUID] = field(default_factory=set)  # programs' answers that came to their end
    read_to_the_end: int = 0
    retries: int = 0
    wrong: list[str] = field(default_factory=list)


NOT_THERE = (aiohttp.ClientError, TimeoutError, ConnectionError)


class Client:
    """One person at work. Whoever answers serves; a repeat goes to whichever process comes up."""

    def __init__(
        self, number: int, http: aiohttp.ClientSession, site, fleet: Fleet, person: Person, told: Told
    ) -> None:
        self.chance = random.Random(f"{SEED}-{number}")
        self.number, self.http, self.site, self.fleet, self.person, self.told = number, http, site, fleet, person, told
        self.cookie = {"Host": person.brand.domain, "Cookie": person.cookies, "HX-Request": "true"}

    async def work(self, until: float) -> None:
        asked = 0
        while time.monotonic() < until:
            asked += 1
            question = f"client {self.number} question {asked}?"
            model = self.chance.choice(["words", "words", "brisk", "brisk", "slow", "long"])
            if self.chance.random() < 0.25:
                await self.call(model)
            elif turn_id := await self.ask(question, model):
                await self.follow(turn_id, model, question)
            await asyncio.sleep(self.chance.uniform(0, 0.5))

    async def ask(self, question: str, model: str, *, key: str = "") -> UUID | None:
        """Send it again and again under the same key, until somebody says yes."""
        key = key or question
        form = {"text": question, "csrfmiddlewaretoken": CSRF, "idempotency_key": key}
        form["provider"] = str(self.site.models[model])
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            web = await self.fleet.any(self.chance)
            with contextlib.suppress(*NOT_THERE):
                async with (
                    asyncio.timeout(6),
                    self.http.post(
                        f"{web.url}/c/send/", data=form, headers=self.cookie, allow_redirects=False
                    ) as response,
                ):
                    body = await response.text()
                    if response.status == 200 and (found := TURN.search(body)):
                        turn_id = UUID(found[1])
                        self.told.accepted[turn_id] = (self.person, question, model)
                        return turn_id
                    if response.status not in (409, 500, 502, 503):  # 500: the process dies in mid-answer
                        self.told.wrong.append(f"a question was answered with {response.status}: {body[:300]}")
                        return None
                    if response.status == 500:
                        self.told.wrong.append(f"500: {body[:300]}")
            self.told.retries += 1
            await asyncio.sleep(0.4)
        self.told.unanswered.append((self.person, question))
        return None

    async def follow(self, turn_id: UUID, model: str, question: str) -> None:
        """Read it, with whatever else a person does meanwhile."""
        deed = self.chance.choice(["read", "read", "refresh", "stop", "leave", "repeat"])
        if deed == "leave":
            return
        if deed == "repeat":
            again = await self.ask(question, model)
            if again not in (None, turn_id):
                self.told.wrong.append(f"one key made two turns: {turn_id} and {again}")
        if deed == "stop":
            await asyncio.sleep(self.chance.uniform(0, 1))
            web = await self.fleet.any(self.chance)
            headers = {**self.cookie, "X-CSRFToken": CSRF}
            with contextlib.suppress(*NOT_THERE):
                async with asyncio.timeout(6), self.http.post(f"{web.url}/turns/{turn_id}/stop", headers=headers):
                    pass
        text, until = "", time.monotonic() + 60
        while time.monotonic() < until:
            with contextlib.suppress(*NOT_THERE):
                stay_s = self.chance.uniform(0.2, 2) if deed == "refresh" else 60
                async with asyncio.timeout(stay_s):
                    async for name, last_id, data in self.events(turn_id, len(text)):
                        if name == "done":
                            self.told.read_to_the_end += 1
                            return
                        if name == "delta":
                            text += data
                        if last_id != len(text) or not said(600).startswith(text):
                            self.told.wrong.append(f"{turn_id}: event {last_id} after {len(text)}: ...{text[-40:]!r}")
                            return
            self.told.retries += 1
            await asyncio.sleep(0.2)

    async def events(self, turn_id: UUID, after: int) -> AsyncIterator[tuple[str, int, str]]:
        web = await self.fleet.any(self.chance)
        headers = {**self.cookie, "Last-Event-ID": str(after)}
        silent = aiohttp.ClientTimeout(total=None, sock_read=6)
        async with self.http.get(f"{web.url}/turns/{turn_id}/stream", headers=headers, timeout=silent) as response:
            if response.status != 200:
                if response.status not in (502, 503):
                    self.told.wrong.append(f"a stream was answered with {response.status}")
                return
            lines: dict[str, str] = {}
            async for line in response.content:
                if text := line.decode().rstrip("\n"):
                    name, _, value = text.partition(": ")
                    lines[name] = value
                elif "event" in lines:
                    yield lines["event"], int(lines["id"]), orjson.loads(lines["data"])
                    lines = {}

    async def call(self, model: str) -> None:
        """A program, which may hang up; a call that fails is not repeated."""
        web = await self.fleet.any(self.chance)
        body = {"model": model, "stream": True, "messages": [{"role": "user", "content": "Go."}]}
        headers = {"Authorization": f"Bearer {self.person.key}"}
        stay_s = self.chance.choice([0.5, 1.5, 40])
        with contextlib.suppress(*NOT_THERE):
            async with (
                asyncio.timeout(stay_s),
                self.http.post(f"{web.url}/v1/chat/completions", json=body, headers=headers) as response,
            ):
                if response.status != 200:
                    if response.status not in (502, 503, 504):  # 504: a frozen process missed the vendor's first word
                        self.told.wrong.append(f"a call was answered with {response.status}")
                    return
                text = ""
                async for line in response.content:
                    if line.startswith(b"data: {"):
                        chunk = orjson.loads(line[6:])
                        if "error" in chunk:
                            return
                        turn_id = UUID(chunk["id"].removeprefix("chatcmpl-"))
                        for choice in chunk["choices"]:
                            text += choice["delta"].get("content", "")
                        self.told.answers[turn_id] = (model, text)
                    elif line.startswith(b"data: [DONE]"):
                        self.told.whole.add(turn_id)


def still_open(people: list[Person]) -> int:
    owners, brands = [one.user.pk for one in people], {one.brand.pk for one in people}
    with scope(SERVICE):
        running = Turn.objects.filter(owner_id__in=owners, status__in=OPEN_STATES).count()
        return running + Hold.objects.filter(brand_id__in=brands).count()


def check(told: Told, people: list[Person]) -> tuple[Counter, list[float], list[str]]:
    """Every claim of the clients against the rows. Returns turns by status, seconds to recover, and what is wrong."""
    wrong, owners = list(told.wrong), [one.user.pk for one in people]
    with scope(SERVICE):
        turns = {turn.pk: turn for turn in Turn.objects.filter(owner_id__in=owners)}
        asked = Counter(Message.objects.filter(owner_id__in=owners, role="user").values_list("owner_id", "content"))
        answers = {row.turn_id: row for row in Message.objects.filter(owner_id__in=owners, role="assistant")}
    for person, question, _ in told.accepted.values():
        if asked[person.user.pk, question] != 1:
            wrong.append(f"{question!r} is stored {asked[person.user.pk, question]} times")
    wrong += [f"{what} is stored {count} times" for what, count in asked.items() if count > 1]
    wrong += [f"accepted and lost: {turn_id}" for turn_id in told.accepted if turn_id not in turns]
    wrong += [f"a program's turn is lost: {turn_id}" for turn_id in told.answers if turn_id not in turns]
    for turn_id, turn in turns.items():
        bill = charged(turn_id)  # asserts that no hold is open and that no line is there twice
        answer = answers.get(turn_id)
        if bool(turn.is_charged) != (bill.get("queries", 0) == 1):
            wrong.append(f"{turn_id} ({turn.status}, charged {turn.is_charged}) has the bill {bill}")
        if answer is not None:
            model = told.accepted.get(turn_id, (None, None, "long"))[2]
            if answer.status != turn.status or not said(WORDS[model]).startswith(answer.content):
                wrong.append(f"{turn_id} is {turn.status}, its answer {answer.status}: ...{answer.content[-40:]!r}")
            if turn.status == "done" and turn_id in told.accepted and answer.content != said(WORDS[model]):
                wrong.append(f"{turn_id} is done with {len(answer.content)} characters")
            if bill.get("tokens", 0) != answer.tokens_used:
                wrong.append(f"{turn_id} cost {answer.tokens_used}, the ledger says {bill}")
    for turn_id, (model, text) in told.answers.items():
        if not said(WORDS[model]).startswith(text) or (turn_id in told.whole and text != said(WORDS[model])):
            wrong.append(f"a program was told ...{text[-40:]!r}")
        if turn_id in told.whole and turns[turn_id].status != "done":
            wrong.append(f"a program has the whole answer of {turn_id}, which is {turns[turn_id].status}")
    took = [
        (turn.ended_at - turn.heartbeat_at).total_seconds()
        for turn in turns.values()
        if turn.ended_at and turn.status == "interrupted"
    ]
    return Counter(turn.status for turn in turns.values()), took, wrong


@pytest.mark.timeout(SECONDS + 1500)
async def test_whatever_dies_at_random_nothing_accepted_is_lost_and_nothing_is_paid_twice(site, http):
    """O-09, O-10, Q-06, Q-10, Q-12, INV1-INV10 (the fixture proves the meter afterwards)."""
    deeds = schedule(random.Random(SEED))
    print(f"SOAK_SEED={SEED} SOAK_RANDOM_S={SECONDS:.0f}: {len(deeds)} deeds", flush=True)
    told, brands = Told(), [await db(site.brand) for _ in range(2)]
    people = [await db(site.person, brands[number % 2]) for number in range(CLIENTS)]
    async with contextlib.AsyncExitStack() as stack:
        fleet = Fleet(site, stack)
        await fleet.start()
        began = time.monotonic()
        clients = [Client(number, http, site, fleet, person, told) for number, person in enumerate(people)]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                group.create_task(client.work(began + SECONDS))
            for deed in deeds:
                await asyncio.sleep(max(0, began + deed.at_s - time.monotonic()))
                await fleet.do(deed)
        await fleet.settle()

        async def over():
            return not await db(still_open, people)

        await eventually(over, seconds=FINAL_S, every=0.5)
    statuses, took, wrong = await db(check, told, people)
    tell(
        "random kills under load",
        seed=SEED,
        seconds=round(SECONDS),
        turns=statuses.total(),
        **dict(sorted(statuses.items())),
        accepted_on_pages=len(told.accepted),
        read_to_the_end=told.read_to_the_end,
        repeats=told.retries,
        unanswered=len(told.unanswered),
        **dict(sorted(fleet.done.items())),
        lost_or_double_or_wrong=len(wrong),
        recovered_p50_s=round(statistics.median(took), 1) if took else "-",
        recovered_max_s=round(max(took), 1) if took else "-",
    )
    assert not wrong, "\n".join(wrong[:20])
    assert statuses["done"], "nothing was answered, so nothing was shown"
