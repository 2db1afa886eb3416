"""What was charged is repeated by nobody unseen: the official clients with the repeats that they make by themselves."""

import asyncio

import anthropic
import openai
import pytest

from lib.db import db
from tests.conversations import rows
from tests.conversations.rows import charged
from tests.server import Browser, eventually

ASK = [{"role": "user", "content": "Hello?"}]


class Doors:
    """Each door with its vendor's client as it comes."""

    def __init__(self, url, key):
        self.openai = openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=key)
        self.anthropic = anthropic.AsyncAnthropic(base_url=url, api_key=key)
        assert self.openai.max_retries == self.anthropic.max_retries == 2

    async def chat(self, model, **given):
        answer = await self.openai.chat.completions.create(model=model, messages=ASK, **given)
        return answer.choices[0].finish_reason, answer.choices[0].message.content, answer.usage.total_tokens

    async def responses(self, model, **given):
        answer = await self.openai.responses.create(model=model, input="Hello?", **given)
        assert {item.status for item in answer.output} == {"incomplete"}
        return answer.status, answer.output_text, answer.usage.total_tokens

    async def messages(self, model, **given):
        answer = await self.anthropic.messages.create(model=model, messages=ASK, max_tokens=900, **given)
        return answer.stop_reason, answer.content[0].text, answer.usage.input_tokens + answer.usage.output_tokens

    async def close(self):
        await self.openai.close()
        await self.anthropic.close()


@pytest.fixture
async def doors(web, person):
    doors = Doors(web.url, person.key)
    yield doors
    await doors.close()


async def bill(person):
    (turn,) = await db(rows.of, person)
    return turn, await db(charged, turn.pk)


@pytest.mark.parametrize("model", ["cut-middle", "hang-middle", "error-mid"])
@pytest.mark.parametrize("door", ["chat", "responses", "messages"])
async def test_a_call_that_was_cut_and_charged_is_not_made_again(site, doors, person, door, model):
    """Q-09: whatever the vendor's trouble was called, busy and slow too."""
    with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)) as cut:
        await getattr(doors, door)(model)

    assert (cut.value.status_code, cut.value.response.headers["X-Should-Retry"]) == (502, "false")
    assert "Retry-After" not in cut.value.response.headers
    assert len(site.upstream.calls()) == 1
    turn, paid = await bill(person)
    assert (turn.status, paid["queries"]) == ("failed", 1)


@pytest.mark.parametrize(
    ("door", "given", "how"),
    [("chat", {"store": True}, "stop"), ("responses", {}, "cancelled")],
)
async def test_what_its_person_stopped_is_an_answer_with_what_came(site, http, web, doors, person, door, given, how):
    """Q-06: one call of the vendor, one question, and the program reads what is charged."""
    calling = asyncio.create_task(getattr(doors, door)("long", **given))

    async def runs():
        return [turn for turn in await db(rows.of, person) if turn.status == "streaming"]

    (turn,) = await eventually(runs)
    await Browser(http, web, person).stop(turn.pk)
    reason, text, tokens = await calling

    assert reason == how
    assert text.startswith("w0001 ")
    assert len(site.upstream.calls()) == 1
    turn, paid = await bill(person)
    assert (turn.status, paid) == ("stopped", {"queries": 1, "tokens": tokens})


@pytest.mark.parametrize("door", ["chat", "responses"])
async def test_a_stream_that_its_person_stopped_has_its_protocols_own_end(site, http, web, doors, person, door):
    if door == "chat":
        stream = await doors.openai.chat.completions.create(model="long", messages=ASK, stream=True, store=True)
    else:
        stream = await doors.openai.responses.create(model="long", input="Hello?", stream=True)

    async def runs():
        return [turn for turn in await db(rows.of, person) if turn.status == "streaming"]

    (turn,) = await eventually(runs)
    await Browser(http, web, person).stop(turn.pk)
    events = [event async for event in stream]

    if door == "chat":
        assert events[-1].choices[0].finish_reason == "stop"
    else:
        assert (events[-1].type, events[-1].response.status) == ("response.incomplete", "cancelled")
        assert events[-1].response.output_text.startswith("w0001 ")
    assert (await bill(person))[0].status == "stopped"


async def test_what_its_person_stopped_before_the_first_word_is_an_empty_answer_and_free(
    site, http, web, doors, person
):
    calling = asyncio.create_task(doors.chat("hang-first", store=True))

    async def runs():
        return await db(rows.of, person)

    (turn,) = await eventually(runs)
    await Browser(http, web, person).stop(turn.pk)

    assert await calling == ("stop", "", 0)
    turn, paid = await bill(person)
    assert (turn.status, turn.is_charged, set(paid.values())) == ("stopped", False, {0})


@pytest.mark.parametrize("door", ["chat", "messages"])
async def test_an_answer_whose_process_ends_is_no_503(site, person, door):
    """O-10: what is charged is a 502 that no proxy and no client repeats."""
    with site.serve(DRAIN_S="1", LAME_DUCK_S="0") as web:
        doors = Doors(web.url, person.key)
        calling = asyncio.create_task(getattr(doors, door)("long"))

        async def runs():
            return [turn for turn in await db(rows.of, person) if turn.status == "streaming"]

        await eventually(runs)
        web.terminate()
        with pytest.raises((openai.InternalServerError, anthropic.InternalServerError)) as cut:
            await calling
        await doors.close()

    assert (cut.value.status_code, cut.value.response.headers["X-Should-Retry"]) == (502, "false")
    assert len(site.upstream.calls()) == 1
    turn, paid = await bill(person)
    assert (turn.status, paid["queries"]) == ("interrupted", 1)
