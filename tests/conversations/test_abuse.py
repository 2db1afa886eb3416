"""One brand does its worst while another works: nobody spends more than they may, and nothing breaks."""

import asyncio
import contextlib
import os
import random
import statistics
import time

from lib.db import db
from quotas import ledger
from tests.conversations import rows
from tests.conversations.test_bad_input import BODIES
from tests.quotas.proofs import numbers
from tests.server import Browser, Person, eventually

ABUSE_S = float(os.environ.get("SOAK_ABUSE_S", "4"))
AT_ONCE = 24
QUERIES, TOKENS = 40, 60_000


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
    print(
        f"\nabuse: {len(statuses)} requests in {ABUSE_S:.0f} s, {statuses.count(200)} answered, queries {asked}, "
        f"tokens {spent}; a neighbour's first word {statistics.median(quiet_ms):.0f} ms before, "
        f"{statistics.median(loud_ms):.0f} ms meanwhile (median), {max(loud_ms):.0f} ms at worst"
    )
    assert {status for status in statuses if status >= 500} <= {502, 503, 504}, "what the vendor's faults become"
    assert asked[1] <= QUERIES
    assert asked[2] == 0
    assert spent[1] <= TOKENS
    assert spent[2] == 0
    assert 402 in statuses
    assert web.process.poll() is None


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
