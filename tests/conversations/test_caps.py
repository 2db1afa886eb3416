"""Q-34: the cap on answers at once, at every door and over two processes."""

import asyncio
from collections import Counter

import aiohttp
import openai
import pytest

from lib.db import db
from quotas import ledger
from tests.conversations import rows
from tests.conversations.rows import leftovers
from tests.server import Browser, eventually


async def capped(site, most: int):
    person = await db(site.person)
    may = [ledger.Grant("queries", "day", None)]
    features = {"concurrent_turns": most}
    await db(ledger.entitle, person.brand, kind="user", owner_id=person.user.pk, grants=may, features=features)
    return person


async def test_one_too_many_is_refused_in_words_on_the_page_and_in_the_vendors_shape_at_the_door(site, web, http):
    """The keys of a person count with the person; nothing is stored and nothing held of what was refused."""
    person = await capped(site, 2)
    browser = Browser(http, web, person)
    client = openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=person.key, max_retries=0)
    first = await browser.ask("One.", site.models["long"])
    second = await client.chat.completions.create(
        model="long", messages=[{"role": "user", "content": "Two."}], stream=True
    )
    before = await db(leftovers, person)

    page = await browser.ask("Three.", site.models["words"], key="three")
    plain = await http.post(
        f"{web.url}/c/send/",
        data={"text": "Three.", "csrfmiddlewaretoken": "c" * 32, "provider": str(site.models["words"])},
        headers=browser.headers,
    )
    with pytest.raises(openai.RateLimitError) as program:
        await client.chat.completions.create(model="words", messages=[{"role": "user", "content": "Three."}])

    assert (page.status, page.headers["Retry-After"]) == (429, "5")
    assert "You have 2 answers running" in page.body
    assert "data-retry hidden" not in page.body
    assert plain.status == 429
    assert "You have 2 answers running" in await plain.text()
    assert program.value.response.headers["Retry-After"] == "5"
    assert (program.value.type, program.value.code) == ("rate_limit_error", "rate_limit_exceeded")
    assert program.value.body["reason"] == "user_concurrent_turns"
    assert await db(leftovers, person) == before
    await browser.stop(first.turn_id)
    await second.close()
    await client.close()

    async def asked_again():  # under the same key: the refusal kept no claim
        return (await browser.ask("Three.", site.models["words"], key="three")).turn_id

    again = await eventually(asked_again)
    assert (await browser.read(again)).names[-1] == "done"


async def test_a_hundred_at_once_at_two_processes_start_exactly_as_many_as_may_run(site, web, http):
    person = await capped(site, 7)

    async def ask(process) -> int:
        return (await Browser(http, process, person).ask("Go on.", site.models["long"])).status

    async def call(process) -> int:
        body = {"model": "long", "messages": [{"role": "user", "content": "Go on."}], "stream": True}
        headers = {"Authorization": f"Bearer {person.key}"}
        response = await http.post(f"{process.url}/v1/chat/completions", json=body, headers=headers)
        open_streams.append(response)
        return response.status

    async def over():
        return not await db(rows.running, person)

    open_streams: list[aiohttp.ClientResponse] = []
    with site.serve() as other:
        processes = (web, other)
        statuses = await asyncio.gather(*((ask, call)[n % 5 > 2](processes[n % 2]) for n in range(100)))
        assert Counter(statuses) == {200: 7, 429: 93}
        assert await db(rows.running, person) == 7
        for response in open_streams:
            response.close()
        for turn in await db(rows.of, person):
            await asyncio.gather(*(Browser(http, process, person).stop(turn.pk) for process in processes))
        await eventually(over)
