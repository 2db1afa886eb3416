"""The door at /v1 with the official client, unchanged: what it raises, what it reads, and what it is charged."""

import asyncio
import base64

import openai
import pytest

from lib.db import db
from tests.conversations import rows
from tests.conversations.rows import charged, stored
from tests.server import eventually, said

ASK = [{"role": "user", "content": "Hello?"}]


@pytest.fixture
async def client(web, person):
    async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=person.key, max_retries=0) as client:
        yield client


async def only_turn(person):
    (turn,) = await db(rows.of, person)
    return turn


async def test_a_whole_answer_has_text_usage_and_a_bill_but_leaves_no_content(site, client, person):
    answer = await client.chat.completions.create(model="words", messages=ASK, temperature=0.2, max_tokens=300)

    assert answer.choices[0].message.content == said(20)
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "words"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 20
    turn, message = await db(stored, (await only_turn(person)).pk)
    assert (turn.status, turn.conversation_id, turn.partial, turn.sent, message) == ("done", None, "", {}, None)
    assert await db(charged, turn.pk) == {"queries": 1, "tokens": answer.usage.total_tokens}
    (call,) = site.upstream.calls()
    assert (call["body"]["temperature"], call["body"]["max_tokens"]) == (0.2, 300)


async def test_a_stream_has_the_same_text_a_reason_and_usage_when_asked(site, client, person):
    stream = await client.chat.completions.create(
        model="slow", messages=ASK, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in stream]

    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices) == said(100)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage.completion_tokens == 100
    assert len({chunk.id for chunk in chunks}) == 1
    assert (await db(charged, (await only_turn(person)).pk))["tokens"] == chunks[-1].usage.total_tokens


async def test_an_answer_that_reaches_its_limit_says_length(site, client):
    answer = await client.chat.completions.create(model="words", messages=ASK, max_tokens=5)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (said(5), "length")


async def test_the_synchronous_client_does_the_same(site, web, person):
    def work():
        with openai.OpenAI(base_url=f"{web.url}/v1", api_key=person.key, max_retries=0) as client:
            whole = client.chat.completions.create(model="words", messages=ASK).choices[0].message.content
            stream = client.chat.completions.create(model="words", messages=ASK, stream=True)
            return whole, "".join(chunk.choices[0].delta.content or "" for chunk in stream)

    assert await asyncio.to_thread(work) == (said(20), said(20))


async def test_the_models_are_those_offered_and_each_can_be_retrieved(site, client):
    listed = [model.id async for model in client.models.list()]

    assert {"words", "echo", "demo"} <= set(listed)
    assert "retired" not in listed
    assert (await client.models.retrieve("words")).id == "words"
    with pytest.raises(openai.NotFoundError) as refused:
        await client.models.retrieve("retired")
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize("key", ["sk-nonsense", "sk_000000000000_" + "x" * 43, "", "ключ"])
async def test_a_key_that_is_none_is_an_authentication_error(site, web, http, key):
    headers = {"Authorization": f"Bearer {key}"}
    async with http.post(f"{web.url}/v1/chat/completions", json={}, headers=headers) as response:
        assert response.status in (400, 401)
    if not key.isascii() or not key:
        return
    async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=key, max_retries=0) as stranger:
        with pytest.raises(openai.AuthenticationError) as refused:
            await stranger.chat.completions.create(model="words", messages=ASK)
        with pytest.raises(openai.AuthenticationError):
            await stranger.models.list()
    assert refused.value.code == "invalid_api_key"
    assert site.upstream.calls() == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_used_up_plan_is_insufficient_quota_with_what_is_left_and_when_it_resets(site, web, stream):
    """Q-02"""
    person = await db(site.person, None, limit=1)
    async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=person.key, max_retries=0) as client:
        await client.chat.completions.create(model="words", messages=ASK)
        with pytest.raises(openai.APIStatusError) as refused:
            await client.chat.completions.create(model="words", messages=ASK, stream=stream)
    assert (refused.value.status_code, refused.value.code) == (402, "insufficient_quota")
    assert refused.value.body["left"] == 0
    assert refused.value.body["resets_at"]
    assert len(site.upstream.calls()) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "error"),
    [
        ("no-such-model", openai.NotFoundError),
        ("retired", openai.NotFoundError),
        ("no-price", openai.InternalServerError),
        ("busy", openai.RateLimitError),
        ("broken", openai.InternalServerError),
        ("key-refused", openai.InternalServerError),
        ("hang-first", openai.InternalServerError),
        ("cut-first", openai.InternalServerError),
    ],
)
async def test_what_fails_before_the_first_word_is_the_clients_own_error_and_costs_nothing(
    site, client, person, model, error, stream
):
    """Q-04, Q-08"""
    with pytest.raises(error) as refused:
        await client.chat.completions.create(model=model, messages=ASK, stream=stream)

    assert refused.value.message
    if model == "busy":
        assert refused.value.response.headers["Retry-After"] == "7"
    for turn in await db(rows.of, person):
        assert (turn.status, turn.is_charged) == ("failed", False)
        assert set((await db(charged, turn.pk)).values()) <= {0}


@pytest.mark.parametrize("model", ["cut-middle", "cut-quiet", "hang-middle", "garbled", "error-mid"])
async def test_a_stream_that_is_cut_ends_in_an_error_and_never_in_a_quiet_done(site, client, person, model):
    """Q-09"""
    text = ""
    stream = await client.chat.completions.create(model=model, messages=ASK, stream=True)
    whole = asyncio.create_task(client.chat.completions.create(model=model, messages=ASK))
    with pytest.raises(openai.APIError) as cut:  # noqa: PT012
        async for chunk in stream:
            text += chunk.choices[0].delta.content or ""
    with pytest.raises(openai.APIError):
        await whole

    assert text == said(5)
    assert cut.value.message
    for turn in await db(rows.of, person):
        assert (turn.status, turn.is_charged) == ("failed", True)
        assert (await db(charged, turn.pk))["tokens"] > 5


@pytest.mark.parametrize("stream", [False, True])
async def test_a_program_that_hangs_up_ends_the_answer_and_pays_for_what_came_once(site, client, person, stream):
    """Q-06"""
    if stream:
        answer = await client.chat.completions.create(model="long", messages=ASK, stream=True)
        async for _ in answer:
            break
        await eventually(lambda: db(rows.has_begun, person))
        await answer.close()
    else:
        asking = asyncio.create_task(client.chat.completions.create(model="long", messages=ASK))
        await eventually(lambda: db(rows.has_begun, person))
        asking.cancel()

    async def hung_up():
        return site.upstream.calls()[0]["disconnected"]

    await eventually(hung_up)

    async def over():
        return not await db(rows.running, person)

    await eventually(over)
    turn = await only_turn(person)
    assert (turn.status, turn.is_charged) == ("stopped", True)
    bill = await db(charged, turn.pk)
    assert bill["queries"] == 1
    assert 0 < bill["tokens"] < 200


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + base64.b64encode(b"x").decode()}}
TOOL = {
    "type": "function",
    "function": {"name": "weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}},
}
CALL = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
# what is wrong -> the field that is named
BAD = {
    "messages[0]": [{"messages": ["x"]}, {"messages": [{"role": "assistant", "function_call": {"name": "f"}}]}],
    "messages[0].tool_call_id": [
        {"messages": [{"role": "tool", "content": "x"}]},
        {"messages": [{"role": "user", "content": "x", "tool_call_id": "1"}]},
    ],
    "messages[0].tool_calls": [
        {"messages": [{"role": "user", "content": "x", "tool_calls": [CALL]}]},
        {"messages": [{"role": "assistant", "tool_calls": "x"}]},
    ],
    "messages[0].tool_calls[0].function.name": [
        {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "function": {"arguments": "{}"}}]}]},
    ],
    "messages[0].tool_calls[0].type": [
        {"messages": [{"role": "assistant", "tool_calls": [{**CALL, "type": "custom"}]}]}
    ],
    "messages[0].odd": [{"messages": [{"role": "user", "content": "x", "odd": 1}]}],
    "messages[0].role": [{"messages": [{"content": "x"}]}, {"messages": [{"role": "root", "content": "x"}]}],
    "messages[0].content": [{"messages": [{"role": "user"}]}, {"messages": [{"role": "user", "content": 5}]}],
    "messages": [
        {},
        {"messages": []},
        {"messages": "hi"},
        {"messages": [{"role": "user", "content": "x"}] * 2001},
        {"messages": [{"role": "user", "content": [IMAGE]}]},  # to a model that takes none
    ],
    "messages[0].content[0]": [
        {"messages": [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}]},
        {"messages": [{"role": "user", "content": [{"type": "file", "file": {}}]}]},
        {"messages": [{"role": "system", "content": [IMAGE]}]},
        {"messages": [{"role": "user", "content": ["x"]}]},
    ],
    "messages[0].content[0].image_url.url": [
        {"model": "seer", "messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}}]}]}
        for url in (
            "http://127.0.0.1/a.png",
            "file:///etc/passwd",
            "data:text/html;base64,eA==",
            "data:image/png,x",
            "data:image/png;base64,!!",
            "data:image/svg+xml;base64,eA==",
            "",
            None,
            "https://a b",
            "https://",
        )
    ],
    "model": [{"model": 5}, {"model": ""}, {"model": None}, {"model": "x" * 200}, {"model": ["words"]}],
    "temperature": [{"temperature": 3}, {"temperature": "1"}, {"temperature": True}],
    "max_tokens": [{"max_tokens": 0}, {"max_tokens": -1}, {"max_tokens": 1.5}, {"max_tokens": 2**40}],
    "stop": [{"stop": []}, {"stop": ["a"] * 5}, {"stop": 5}, {"stop": [None]}],
    "n": [{"n": 2}],
    "logprobs": [{"logprobs": True}],
    "tools": [{"tools": "x"}, {"tools": [TOOL] * 2}, {"tools": [TOOL] * 129}],
    "tools[0].function": [{"tools": [{"type": "function"}]}],
    "tools[0].type": [{"tools": [{"type": "web_search"}]}, {"tools": [{"type": "custom", "custom": {}}]}],
    "tools[0].function.name": [{"tools": [{"type": "function", "function": {"name": "a b"}}]}],
    "tools[0].function.parameters": [{"tools": [{"type": "function", "function": {"name": "a", "parameters": []}}]}],
    "tool_choice": [
        {"tool_choice": "required"},
        {"tools": [TOOL], "tool_choice": "often"},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "other"}}},
        {"tools": [TOOL], "tool_choice": {"type": "allowed_tools", "allowed_tools": {}}},
        {"tools": [TOOL], "tool_choice": {"type": "function", "function": "weather"}},
    ],
    "functions": [{"functions": [{"name": "f"}]}],
    "function_call": [{"function_call": {"name": "f"}}],
    "response_format": [{"response_format": "json"}, {"model": "demo", "response_format": {"type": "json_object"}}],
    "response_format.type": [{"response_format": {"type": "grammar"}}],
    "response_format.json_schema": [{"response_format": {"type": "json_schema"}}],
    "response_format.json_schema.name": [{"response_format": {"type": "json_schema", "json_schema": {"schema": {}}}}],
    "reasoning_effort": [{"reasoning_effort": "much"}, {"model": "demo", "reasoning_effort": "low"}],
    "metadata": [{"metadata": []}, {"metadata": {str(n): "x" for n in range(17)}}, {"metadata": {"x" * 65: "x"}}],
    "metadata.a": [{"metadata": {"a": 1}}, {"metadata": {"a": "x" * 513}}],
    "store": [{"store": "yes"}],
    "stream": [{"stream": "yes"}, {"stream": 1}, {"stream": []}],
    "stream_options": [{"stream": True, "stream_options": "x"}, {"stream": True, "stream_options": {"odd": 1}}],
    "seed": [{"seed": "x"}, {"seed": 2**70}],
    "shoe_size": [{"shoe_size": 46}],
}


@pytest.mark.parametrize("param", BAD)
async def test_a_field_that_cannot_be_honoured_is_a_bad_request_that_names_it(site, client, person, param):
    """F-02"""
    for fields in BAD[param]:
        body = {"model": "words", "messages": ASK, **fields}
        if not fields:
            del body["messages"]
        with pytest.raises(openai.BadRequestError) as refused:
            await client.post("/chat/completions", body=body, cast_to=object)
        assert refused.value.param == param, fields
        assert refused.value.type == "invalid_request_error"
    assert site.upstream.calls() == []
    assert await db(rows.of, person) == []


async def test_a_question_longer_than_the_models_window_is_refused_with_its_size(site, client, person):
    with pytest.raises(openai.APIStatusError) as refused:
        await client.chat.completions.create(model="words", messages=[{"role": "user", "content": "word " * 30_000}])
    assert refused.value.status_code == 413
    assert "tokens" in refused.value.message
    assert await db(rows.of, person) == []


async def test_fifty_programs_at_once_at_one_below_the_limit_get_one_answer(site, web):
    """Q-02"""
    person = await db(site.person, None, limit=1)
    async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=person.key, max_retries=0) as client:
        asks = [client.chat.completions.create(model="words", messages=ASK) for _ in range(50)]
        outcomes = await asyncio.gather(*asks, return_exceptions=True)

    refused = [one for one in outcomes if isinstance(one, Exception)]
    assert len(refused) == 49
    assert {one.status_code for one in refused} == {402}
    assert len(site.upstream.calls()) == 1
