"""Answers of which no text comes, or only late: what they cost, and how long they are waited for."""

import anthropic
import openai
import pytest

from lib.db import db
from tests.conversations import rows
from tests.conversations.rows import charged, stored

ASK = [{"role": "user", "content": "Hello?"}]


@pytest.fixture(scope="module")
def web(_running):
    """A process that waits no longer for a first token than some models think."""
    with _running[0].serve(LIMITS='{"first_token_s": 2}') as web:
        yield web


@pytest.fixture
async def client(web, person):
    async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=person.key, max_retries=0) as client:
        yield client


async def is_paid(person, tokens):
    (turn,) = await db(rows.of, person)
    assert (turn.status, turn.is_charged) == ("done", True)
    assert await db(charged, turn.pk) == {"queries": 1, "tokens": tokens}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("given", "reason", "completion_tokens"),
    [
        ({"model": "words", "stop": ["w0001"]}, "stop", 0),
        ({"model": "thinks-only", "max_completion_tokens": 300, "reasoning_effort": "high"}, "length", 300),
    ],
)
async def test_an_answer_without_text_costs_what_its_vendor_counted(
    site, client, person, given, reason, completion_tokens, stream
):
    """Q-05: else a stop sequence that matches at once, or a thought that fills its limit, would be free for ever."""
    more = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
    answer = await client.chat.completions.create(messages=ASK, **given, **more)
    if stream:
        *_, ended, told = [chunk async for chunk in answer]
        answer = ended
        usage = told.usage
    else:
        usage = answer.usage
        assert answer.choices[0].message.content == ""

    assert answer.choices[0].finish_reason == reason
    assert usage.completion_tokens == completion_tokens
    assert usage.prompt_tokens > 0
    await is_paid(person, usage.total_tokens)


@pytest.mark.parametrize("model", ["claude", "words"])
async def test_a_stop_sequence_that_matches_at_once_is_paid_at_the_other_door_too(site, web, person, model):
    async with anthropic.AsyncAnthropic(base_url=web.url, api_key=person.key, max_retries=0) as client:
        answer = await client.messages.create(model=model, max_tokens=9, messages=ASK, stop_sequences=["w0001"])

    assert answer.content == []
    assert answer.usage.input_tokens > 0
    await is_paid(person, answer.usage.input_tokens + answer.usage.output_tokens)


async def test_a_page_says_what_an_answer_without_text_cost(site, browser):
    asked = await browser.ask("Think.", site.models["thinks-only"])
    seen = await browser.read(asked.turn_id)

    _, message = await db(stored, asked.turn_id)
    assert message.is_charged
    assert message.tokens_used > 100
    assert f"{message.tokens_used:,}" in seen.done
    assert (await db(charged, asked.turn_id))["queries"] == 1


async def test_an_answer_without_text_of_which_nobody_counted_anything_stays_free(site, client, person):
    answer = await client.chat.completions.create(model="says-nothing", messages=ASK)

    assert (answer.choices[0].message.content, answer.usage.total_tokens) == ("", 0)
    (turn,) = await db(rows.of, person)
    assert (turn.status, turn.is_charged) == ("done", False)
    assert set((await db(charged, turn.pk)).values()) == {0}


@pytest.mark.parametrize(
    ("model", "asked"),
    [("thinks", {}), ("thinks-aloud", {}), ("thinks-silently", {"reasoning_effort": "high"})],
)
async def test_a_model_that_thinks_longer_than_the_first_token_may_take_is_waited_for(site, client, model, asked):
    """O-03: its thoughts are no silence, and where it sends none, it was told to think."""
    answer = await client.chat.completions.create(model=model, messages=ASK, **asked)

    assert answer.choices[0].message.content.startswith("w0001 ")
    assert answer.usage.completion_tokens_details.reasoning_tokens == 30
    assert len(site.upstream.calls()) == 1


@pytest.mark.parametrize("asked", [{}, {"reasoning_effort": "minimal"}])
async def test_a_silent_model_that_was_not_told_to_think_is_not(site, client, person, asked):
    with pytest.raises(openai.InternalServerError) as refused:
        await client.chat.completions.create(model="thinks-silently", messages=ASK, **asked)

    assert refused.value.status_code == 504
    (turn,) = await db(rows.of, person)
    assert (turn.error_code, turn.is_charged) == ("provider_timeout", False)
