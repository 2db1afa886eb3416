"""Tools, JSON and pictures at /v1/chat/completions, with the official client and a model that really calls."""

import asyncio
import base64
import json

import openai
import pytest
from pydantic import BaseModel

from conversations.engine import abilities
from lib.db import db
from lib.errors import Invalid
from lib.ids import uuid7
from providers.offers import Offer
from tests.conversations import rows
from tests.conversations.rows import charged
from tests.server import eventually

ASK = [{"role": "user", "content": "What is the weather?"}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Of a city.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}, "n": {"type": "integer"}}},
        "strict": True,
    },
}
CLOCK = {"type": "function", "function": {"name": "clock"}}
PNG = "data:image/png;base64," + base64.b64encode(b"\x89PNG\r\n\x1a\n").decode()


class Place(BaseModel):
    city: str
    n: int


@pytest.fixture
async def client(web, person):
    async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=person.key, max_retries=0) as client:
        yield client


async def test_a_tool_is_called_answered_and_its_result_read(site, client, person):
    """Whole, then the round trip: what the program sends back reaches the vendor as it was."""
    first = await client.chat.completions.create(
        model="caller", messages=ASK, tools=[WEATHER, CLOCK], parallel_tool_calls=False
    )
    choice = first.choices[0]
    (call,) = choice.message.tool_calls
    assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
    assert (call.type, call.function.name, json.loads(call.function.arguments)) == (
        "function", "weather", {"city": "Paris", "n": 1},
    )  # fmt: skip

    result = {"role": "tool", "tool_call_id": call.id, "content": [{"type": "text", "text": "Sunny."}]}
    history = [*ASK, choice.message.model_dump(), result]
    second = await client.chat.completions.create(model="caller", messages=history, tools=[WEATHER, CLOCK])
    assert second.choices[0].message.content == "told: Sunny. "
    assert second.choices[0].message.tool_calls is None

    sent, again = (seen["body"] for seen in site.upstream.calls())
    assert (sent["tools"], sent["parallel_tool_calls"]) == ([WEATHER, CLOCK], False)
    assert "tool_choice" not in sent
    assert again["messages"] == [
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": [call.model_dump()]},
        {"role": "tool", "content": "Sunny.", "tool_call_id": call.id},
    ]
    for turn, answer in zip(await db(rows.of, person), (first, second), strict=True):
        assert (turn.status, turn.is_charged) == ("done", True)
        assert await db(charged, turn.pk) == {"queries": 1, "tokens": answer.usage.total_tokens}


async def test_parallel_calls_stream_in_openais_shape(site, client):
    """The client's own accumulator puts them together; text before them is not lost."""
    async with client.chat.completions.stream(model="two-calls", messages=ASK, tools=[WEATHER, CLOCK]) as stream:
        chunks = [event.chunk async for event in stream if event.type == "chunk"]
        final = (await stream.get_final_completion()).choices[0]

    assert final.finish_reason == "tool_calls"
    assert final.message.content == "w0001 w0002 w0003 "
    assert [(made.function.name, json.loads(made.function.arguments)) for made in final.message.tool_calls] == [
        ("weather", {"city": "Paris", "n": 1}),
        ("clock", {"city": "Paris", "n": 2}),
    ]
    deltas = [delta for chunk in chunks for delta in chunk.choices[0].delta.tool_calls or []]
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [delta.index for delta in deltas if delta.id] == [0, 1]
    assert all((delta.id is None) == (delta.function.name is None) for delta in deltas)


@pytest.mark.parametrize(
    ("choice", "sent"),
    [
        ("auto", "auto"),
        ("none", "none"),
        ("required", "required"),
        ({"type": "function", "function": {"name": "clock"}}, {"type": "function", "function": {"name": "clock"}}),
    ],
)
async def test_every_form_of_tool_choice_reaches_the_vendor(site, client, choice, sent):
    answer = await client.chat.completions.create(
        model="caller", messages=ASK, tools=[WEATHER, CLOCK], tool_choice=choice
    )
    assert site.upstream.calls()[0]["body"]["tool_choice"] == sent
    made = answer.choices[0].message.tool_calls
    assert (made is None) == (choice == "none")
    if isinstance(choice, dict):
        assert [call.function.name for call in made] == ["clock"]


async def test_an_answer_can_be_parsed_into_a_model(site, client):
    """response_format json_schema by `.parse`, and json_object."""
    parsed = await client.chat.completions.parse(model="words", messages=ASK, response_format=Place)
    assert parsed.choices[0].message.parsed == Place(city="Paris", n=1)
    plain = await client.chat.completions.create(
        model="words", messages=ASK, response_format={"type": "json_object"}, reasoning_effort="low", verbosity="low"
    )
    assert json.loads(plain.choices[0].message.content) == {"city": "Paris", "n": 1}
    by_schema, by_object = (call["body"] for call in site.upstream.calls())
    assert by_schema["response_format"]["json_schema"]["strict"] is True
    assert by_schema["response_format"]["json_schema"]["schema"]["required"] == ["city", "n"]
    assert by_object["response_format"] == {"type": "json_object"}
    assert (by_object["reasoning_effort"], by_object["verbosity"]) == ("low", "low")


async def test_pictures_go_to_a_model_that_takes_them_and_are_held_for(site, client, person):
    """F-01: up to 8 MB; we fetch nothing."""
    large = "data:image/png;base64," + base64.b64encode(bytes(5_500_000)).decode()
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": large, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://127.0.0.1:1/a.png"}},
    ]
    answer = await client.chat.completions.create(model="seer", messages=[{"role": "user", "content": parts}])

    assert answer.choices[0].message.content
    assert site.upstream.calls()[0]["body"]["messages"] == [{"role": "user", "content": parts}]
    (turn,) = await db(rows.of, person)
    assert 5_000 < turn.prompt_tokens_estimate < 6_000
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="words", messages=[{"role": "user", "content": parts[:2]}])
    assert "Words takes no images" in refused.value.message


async def test_what_claude_has_no_word_for_is_refused_by_name(site, client):
    """Nothing that changes an answer is dropped quietly, and no fallback drops it either."""
    named = [{"role": "user", "content": "x"}, {"role": "user", "content": "y", "name": "bob"}]
    for wrong, param in (({"temperature": 1.2}, "temperature"), ({"messages": named}, "messages[1].name")):
        with pytest.raises(openai.BadRequestError) as refused:
            await client.chat.completions.create(**{"model": "claude", "messages": ASK, **wrong})
        assert refused.value.param == param
    assert site.upstream.calls() == []
    await client.chat.completions.create(model="claude", messages=ASK, temperature=1)
    await client.chat.completions.create(model="words", messages=named, temperature=1.2)


def test_claude_takes_no_detail_of_a_picture_but_its_own():
    of = {"api_identifier": "c", "description": "", "kind": "chat", "base_url": "", "max_tokens": 9, "params": {}}
    claude = Offer(
        id=uuid7(), name="Claude", protocol="anthropic", model="c", context_window=99, image_tokens=9, is_active=True,
        lacks_key=False, input_price=1, output_price=1, **of,
    )  # fmt: skip

    def picture(**detail):
        url = {"url": "https://example.com/a.png", **detail}
        return ({"role": "user", "content": [{"type": "image_url", "image_url": url}]},)

    abilities.require(claude, {}, "", picture())
    abilities.require(claude, {}, "", picture(detail="auto"))
    with pytest.raises(Invalid) as refused:
        abilities.require(claude, {}, "", picture(detail="low"))
    assert refused.value.extra["param"] == "detail"


async def test_a_demo_model_takes_tools_but_no_order_to_call_one(site, client):
    answer = await client.chat.completions.create(model="demo", messages=ASK, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "stop"
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(model="demo", messages=ASK, tools=[WEATHER], tool_choice="required")
    assert refused.value.param == "tool_choice"


async def test_an_agent_is_not_there_yet(site, client):
    with pytest.raises(openai.NotFoundError) as refused:
        await client.chat.completions.create(model="agent:helper", messages=ASK)
    assert refused.value.code == "model_not_found"


async def test_a_program_that_leaves_in_the_middle_of_a_tool_call_pays_what_came_once(site, client, person):
    """Q-06, Q-07"""
    stream = await client.chat.completions.create(model="long-calls", messages=ASK, tools=[WEATHER], stream=True)
    async for _ in stream:
        break
    await stream.close()

    async def over():
        return not await db(rows.running, person)

    await eventually(over)
    (turn,) = await db(rows.of, person)
    assert (turn.status, turn.is_charged) == ("stopped", True)
    assert (await db(charged, turn.pk))["queries"] == 1


async def test_twenty_at_once_at_one_below_the_limit_get_one_tool_call(site, web):
    """Q-02, Q-30"""
    person = await db(site.person, None, limit=1)
    async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=person.key, max_retries=0) as client:
        asks = [client.chat.completions.create(model="caller", messages=ASK, tools=[WEATHER]) for _ in range(20)]
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
    assert sum(not isinstance(one, Exception) for one in outcomes) == 1
    assert {one.status_code for one in outcomes if isinstance(one, Exception)} == {402}
    assert len(site.upstream.calls()) == 1
