"""One brand does its worst while another works: nobody spends more than they may, and nothing breaks."""

import asyncio
import contextlib
import os
import random
import statistics
import time
from collections import Counter

import aiohttp
from django.db.models import Count

from conversations.models import OPEN_STATES
from lib.db import SERVICE, db, scope
from quotas import ledger
from quotas.models import Hold
from tests.conversations import rows
from tests.conversations.test_bad_input import BODIES
from tests.figures import tell
from tests.quotas.proofs import numbers
from tests.server import Browser, Person, eventually

ABUSE_S = float(os.environ.get("SOAK_ABUSE_S", "4"))
AT_ONCE = 24
QUERIES, TOKENS = 40, 60_000
RATE = 100  # questions a second
MEMBER_CAP, BRAND_CAP = 10, 25
POOL = 10**6


async def test_a_brand_that_hammers_at_every_door_spends_no_more_than_its_cap(site, web, http):
    """Q-34; every answer it gets is an answer or a refusal, never a 5xx of ours."""
    villain, neighbour = await db(site.person, None, limit=QUERIES), Browser(http, web, await db(site.person))
    brand = villain.brand
    cap = [ledger.Grant("tokens", "month", TOKENS)]
    await db(ledger.entitle, brand, kind="brand", owner_id=brand.pk, grants=cap)
    quiet_ms = [await first_word_ms(site, neighbour) for _ in range(5)]
    until = time.monotonic() + ABUSE_S
    statuses: list[int] = []

    async with asyncio.TaskGroup() as group:
        for number in range(AT_ONCE):
            group.create_task(hammer(site, Browser(http, web, villain), number, until, statuses))
        loud_ms = []
        while time.monotonic() < until:
            loud_ms.append(await first_word_ms(site, neighbour))
            await asyncio.sleep(0.1)

    async def over():
        return not await db(rows.running, villain)

    await eventually(over, seconds=30)
    asked = await db(numbers, brand, villain.user.pk, "queries")
    spent = await db(numbers, brand, brand.pk, "tokens")
    quiet, loud = statistics.median(quiet_ms), statistics.median(loud_ms)
    tell(
        "abuse, one person at every door",
        seconds=round(ABUSE_S),
        requests=len(statuses),
        answered=statuses.count(200),
        questions=f"{asked[1]} of {QUERIES}",
        tokens=f"{spent[1]} of {TOKENS}",
        neighbours_first_word_p50=f"{quiet:.0f} ms before and {loud:.0f} ms meanwhile ({loud / quiet:.1f} x)",
    )
    assert {status for status in statuses if status >= 500} <= {502, 503, 504}, "what the vendor's faults become"
    assert asked[1] <= QUERIES
    assert asked[2] == 0
    assert spent[1] <= TOKENS
    assert spent[2] == 0
    assert 402 in statuses
    assert web.process.poll() is None


async def test_a_hundred_questions_a_second_run_no_more_at_once_than_the_caps_and_starve_nobody(site, web, http):
    """Q-34, with the longest answers there are: the neighbour is never refused, and the caps hold at every moment."""
    brand = await db(site.brand)
    villains = [await db(site.person, brand) for _ in range(4)]
    for villain in villains:
        await db(entitle, villain, {"concurrent_turns": MEMBER_CAP})
    pool = [ledger.Grant("tokens", "month", POOL)]
    features = {"concurrent_turns": BRAND_CAP}
    await db(ledger.entitle, brand, kind="brand", owner_id=brand.pk, grants=pool, features=features)
    neighbour = Browser(http, web, await db(site.person))
    program_of_neighbour = await db(site.person)
    quiet_ms = [await first_word_ms(site, neighbour) for _ in range(20)]
    until = time.monotonic() + ABUSE_S
    statuses: Counter[int] = Counter()
    over_cap: list[tuple[int, int]] = []
    most_running, refused_neighbours, loud_ms = 0, Counter[int](), []

    async def fire(number: int) -> None:
        villain = villains[number % len(villains)]
        with contextlib.suppress(asyncio.TimeoutError, aiohttp.ClientError):
            async with asyncio.timeout(30):
                if number % 2:
                    statuses[(await Browser(http, web, villain).ask("More!", site.models["long"])).status] += 1
                else:
                    body = b'{"model":"long","stream":true,"messages":[{"role":"user","content":"More!"}]}'
                    statuses[await at_the_door(Browser(http, web, villain), body)] += 1

    async def hammer_on() -> None:
        async with asyncio.TaskGroup() as shots:
            for number in range(int(ABUSE_S * RATE)):
                await asyncio.sleep(max(0, until - ABUSE_S + number / RATE - time.monotonic()))
                shots.create_task(fire(number))

    async def watch() -> None:
        nonlocal most_running
        while time.monotonic() < until:
            of_brand, of_member = await db(at_once, brand)
            most_running = max(most_running, of_brand)
            if of_brand > BRAND_CAP or of_member > MEMBER_CAP:
                over_cap.append((of_brand, of_member))
            await asyncio.sleep(0.1)

    async def live_next_door() -> None:
        while time.monotonic() < until:
            loud_ms.append(await first_word_ms(site, neighbour))
            body = b'{"model":"words","messages":[{"role":"user","content":"Hello"}]}'
            refused_neighbours[await at_the_door(Browser(http, web, program_of_neighbour), body)] += 1
            await asyncio.sleep(0.1)

    async with asyncio.TaskGroup() as group:
        for task in (hammer_on(), watch(), live_next_door()):
            group.create_task(task)

    for villain in villains:
        for turn in await db(rows.of, villain):
            if turn.status in OPEN_STATES:
                with contextlib.suppress(
                    TimeoutError
                ):  # then it ends by itself; the villain waits behind the own crowd
                    async with asyncio.timeout(10):
                        await Browser(http, web, villain).stop(turn.pk)

    async def over():
        return not any([await db(rows.running, villain) for villain in villains])

    await eventually(over, seconds=300)
    spent = await db(numbers, brand, brand.pk, "tokens")
    quiet, loud = (sorted(times)[len(times) * 95 // 100] for times in (quiet_ms, loud_ms))
    tell(
        "abuse, one brand",
        seconds=round(ABUSE_S),
        requests=statuses.total(),
        **{f"status_{status}": count for status, count in sorted(statuses.items())},
        most_at_once=f"{most_running} of {BRAND_CAP}",
        over_the_cap=len(over_cap),
        tokens=f"{spent[1]} of {POOL}",
        neighbours_first_word_p95=f"{quiet:.0f} ms before and {loud:.0f} ms meanwhile ({loud / quiet:.1f} x)",
    )
    assert not over_cap
    assert most_running > MEMBER_CAP, "hardly anything ran, so nothing was shown"
    assert set(refused_neighbours) == {200}
    assert statuses[429] or statuses[402]
    assert set(statuses) <= {200, 402, 429, 503, 504}, "504: the vendor's time limits, on a machine this busy"
    assert spent[1] <= POOL
    assert spent[2] == 0


def entitle(person: Person, features: dict[str, int]) -> None:
    may = [ledger.Grant("queries", "day", None)]
    ledger.entitle(person.brand, kind="user", owner_id=person.user.pk, grants=may, features=features)


def at_once(brand) -> tuple[int, int]:
    """Reservations that are open now: of the brand, and of its busiest member."""
    with scope(SERVICE):
        held = Hold.objects.filter(brand=brand)
        per_owner = held.values("owner_id").annotate(count=Count("reservation", distinct=True))
        counts = {row["owner_id"]: row["count"] for row in per_owner}
    return counts.pop(brand.pk, 0), max(counts.values(), default=0)


async def first_word_ms(site, browser: Browser) -> float:
    began = time.monotonic()
    asked = await browser.ask("Quick?", site.models["words"])
    await browser.read(asked.turn_id, until=1)
    return (time.monotonic() - began) * 1000


async def hammer(site, browser: Browser, number: int, until: float, statuses: list[int]) -> None:
    chance = random.Random(number)
    while time.monotonic() < until:
        deed = chance.choice((ask_and_stop, ask_and_hang_up, bad_body, program, program))
        with contextlib.suppress(asyncio.TimeoutError):
            async with asyncio.timeout(5):
                statuses.append(await deed(site, browser, chance))


async def ask_and_stop(site, browser: Browser, chance: random.Random) -> int:
    asked = await browser.ask("More!", site.models[chance.choice(["words", "brisk", "cut-middle", "usage-263"])])
    if asked.turn_id:
        await asyncio.sleep(chance.random() / 4)
        await asyncio.gather(browser.stop(asked.turn_id), browser.stop(asked.turn_id))
    return asked.status


async def ask_and_hang_up(site, browser: Browser, chance: random.Random) -> int:
    asked = await browser.ask("More!", site.models["words"], key=f"k{chance.randrange(50)}")
    if asked.turn_id:
        await browser.read(asked.turn_id, until=1)
    return asked.status


async def bad_body(site, browser: Browser, chance: random.Random) -> int:
    return await at_the_door(browser, BODIES[chance.choice([name for name in BODIES if name != "10 MB"])])


async def program(site, browser: Browser, chance: random.Random) -> int:
    model = chance.choice(["words", "echo", "broken", "cut-quiet", "brisk"])
    stream = chance.choice(["true", "false"])
    content = "x" * chance.choice([1, 100, 10_000])
    body = f'{{"model":"{model}","stream":{stream},"messages":[{{"role":"user","content":"{content}"}}]}}'
    return await at_the_door(browser, body.encode(), hang_up=chance.random() < 0.3)


async def at_the_door(browser: Browser, body: bytes, *, hang_up: bool = False) -> int:
    person: Person = browser.person
    headers = {"Authorization": f"Bearer {person.key}", "Content-Type": "application/json"}
    url = f"{browser.web.url}/v1/chat/completions"
    async with browser.session.post(url, data=body, headers=headers) as response:
        if not hang_up:
            await response.read()
        return response.status
