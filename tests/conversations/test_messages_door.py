"""The door at /v1/messages with Anthropic's official client, unchanged, to models of both protocols."""

import asyncio
import json

import anthropic
import pytest

from lib.db import db
from tests.conversations import rows
from tests.conversations.rows import charged, stored
from tests.server import eventually, said

ASK = [{"role": "user", "content": "How is the weather in Paris?"}]
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {"name": "get_weather", "description": "The weather of a city.", "input_schema": SCHEMA}
CLOCK = {"name": "get_time", "input_schema": {"type": "object"}}
BODY = {"max_tokens": 300, "messages": ASK}
PNG = {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}


@pytest.fixture
async def client(web, person):
    async with anthropic.AsyncAnthropic(base_url=web.url, api_key=person.key, max_retries=0) as client:
        yield client


@pytest.fixture
def post(web, http, person):
    """post(body) -> (status, answer): whatever the client would not let us send."""

    async def post(body, path="/v1/messages", **headers):
        headers = headers or {"X-Api-Key": person.key}
        async with http.post(web.url + path, json=body, headers=headers) as response:
            return response.status, await response.json()

    return post


async def only_turn(person):
    (turn,) = await db(rows.of, person)
    return turn


@pytest.mark.parametrize("model", ["words", "claude"])
async def test_a_whole_answer_has_blocks_usage_and_a_bill_but_leaves_no_content(site, client, person, model):
    answer = await client.messages.create(model=model, system="Be brief.", **BODY)

    assert [(block.type, block.text) for block in answer.content] == [("text", said(20))]
    assert (answer.type, answer.role, answer.model) == ("message", "assistant", model)
    assert (answer.stop_reason, answer.stop_sequence) == ("end_turn", None)
    assert answer.usage.output_tokens == 20
    assert answer._request_id
    turn, message = await db(stored, (await only_turn(person)).pk)
    assert (turn.status, turn.conversation_id, turn.partial, message) == ("done", None, "", None)
    assert await db(charged, turn.pk) == {"queries": 1, "tokens": answer.usage.input_tokens + 20}
    (call,) = site.upstream.calls()
    told = call["body"].get("system") or call["body"]["messages"][0]["content"]
    assert (told, call["body"]["max_tokens"]) == ("Be brief.", 300)


@pytest.mark.parametrize("model", ["slow", "claude"])
async def test_a_stream_has_the_same_text_and_the_true_usage_at_its_end(site, client, person, model):
    async with client.messages.stream(model=model, **BODY) as stream:
        names = [event.type async for event in stream]
        text, answer = await stream.get_final_text(), await stream.get_final_message()

    assert text == said(100 if model == "slow" else 20)
    assert [names[0], names[1], *names[-3:]] == [
        "message_start", "content_block_start", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    assert (answer.stop_reason, answer.usage.output_tokens) == ("end_turn", 100 if model == "slow" else 20)
    paid = (await db(charged, (await only_turn(person)).pk))["tokens"]
    assert paid == answer.usage.input_tokens + answer.usage.output_tokens


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("model", ["two-calls", "claude-caller"])
async def test_parallel_tools_are_called_and_their_results_come_back(site, client, person, model, stream):
    """Text, then both calls, in the order the model said them, also where a vendor mixes their pieces."""
    tools = [WEATHER, CLOCK]
    if stream:
        async with client.messages.stream(model=model, tools=tools, **BODY) as events:
            called = await events.get_final_message()
    else:
        called = await client.messages.create(model=model, tools=tools, **BODY)

    assert called.stop_reason == "tool_use"
    text, first, second = called.content
    assert text.text == said(3)
    assert (first.name, first.input) == ("get_weather", {"city": "Paris", "n": 1})
    assert (second.name, second.input) == ("get_time", {"city": "Paris", "n": 2})

    results = [
        {"type": "text", "text": "<system-reminder>Go on.</system-reminder>"},
        {
            "type": "tool_result",
            "tool_use_id": first.id,
            "content": [{"type": "text", "text": "12 °C", "cache_control": {"type": "ephemeral"}}],
        },
        {"type": "tool_result", "tool_use_id": second.id, "content": "no clock", "is_error": True},
    ]
    told = await client.messages.create(
        model=model,
        tools=tools,
        max_tokens=300,
        messages=[*ASK, {"role": "assistant", "content": called.content}, {"role": "user", "content": results}],
    )
    assert [block.text for block in told.content] == ["told: 12 °C no clock "]
    sent = site.upstream.calls()[-1]["body"]["messages"]
    if model == "claude-caller":
        assert sent[2]["content"] == [
            {"type": "tool_result", "tool_use_id": first.id, "content": "12 °C"},
            {"type": "tool_result", "tool_use_id": second.id, "content": "no clock", "is_error": True},
            {"type": "text", "text": "<system-reminder>Go on.</system-reminder>"},
        ]
    else:
        assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool", "user"]
        assert [call["function"]["name"] for call in sent[1]["tool_calls"]] == ["get_weather", "get_time"]
        assert "is_error" not in sent[3]


@pytest.mark.parametrize("model", ["caller", "claude-caller"])
@pytest.mark.parametrize(
    ("choice", "names"),
    [
        ({"type": "auto"}, {"get_weather", "get_time"}),
        ({"type": "any", "disable_parallel_tool_use": True}, {"get_weather", "get_time"}),
        ({"type": "tool", "name": "get_time"}, {"get_time"}),
        ({"type": "none"}, set()),
    ],
)
async def test_a_choice_of_tools_reaches_the_vendor(site, client, model, choice, names):
    answer = await client.messages.create(model=model, tools=[WEATHER, CLOCK], tool_choice=choice, **BODY)

    assert {block.name for block in answer.content if block.type == "tool_use"} <= names
    assert answer.stop_reason == ("tool_use" if names else "end_turn")
    body = site.upstream.calls()[0]["body"]
    assert len(body["tools"]) == 2
    if choice.get("disable_parallel_tool_use"):
        if model == "caller":
            assert (body["tool_choice"], body["parallel_tool_calls"]) == ("required", False)
        else:
            assert body["tool_choice"] == choice


async def test_an_answer_that_reaches_its_limit_or_a_stop_sequence_says_which(site, client):
    cut = await client.messages.create(model="words", messages=ASK, max_tokens=5)
    stopped = await client.messages.create(model="claude", stop_sequences=["nothing", "w0004"], **BODY)

    assert (cut.content[0].text, cut.stop_reason) == (said(5), "max_tokens")
    assert (stopped.content[0].text, stopped.stop_reason, stopped.stop_sequence) == (said(3), "stop_sequence", "w0004")


@pytest.mark.parametrize("model", ["words", "claude"])
async def test_an_answer_in_a_schema_is_asked_for_in_the_vendors_own_words(site, client, model):
    wanted = {"format": {"type": "json_schema", "schema": SCHEMA}}
    answer = await client.messages.create(model=model, output_config=wanted, **BODY)

    assert json.loads(answer.content[0].text) == {"city": "Paris", "n": 1}
    body = site.upstream.calls()[0]["body"]
    told = body["output_config"]["format"] if model == "claude" else body["response_format"]["json_schema"]
    assert told["schema"] == SCHEMA


async def test_what_a_coding_agent_sends_is_taken(site, client, person):
    """Long system blocks with cache marks, many tools, beta headers, ?beta=true, a count before the question."""
    system = [
        {"type": "text", "text": "You are a coding agent. " * 200, "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "The date is today.", "cache_control": {"type": "ephemeral", "ttl": "1h"}},
    ]
    tools = [
        {"name": f"tool_{number}", "description": "Does a thing. " * 20, "input_schema": SCHEMA, "type": "custom"}
        for number in range(40)
    ]
    asked = {"model": "claude-caller", "system": system, "tools": tools, "messages": ASK}
    counted = await client.beta.messages.count_tokens(betas=["token-counting-2024-11-01"], **asked)
    async with client.beta.messages.stream(
        max_tokens=500,
        metadata={"user_id": "user_1"},
        thinking={"type": "disabled"},
        betas=["claude-code-20250219", "fine-grained-tool-streaming-2025-05-14"],
        **asked,
    ) as stream:
        answer = await stream.get_final_message()

    assert [block.name for block in answer.content if block.type == "tool_use"] == ["tool_0", "tool_1"]
    assert counted.input_tokens > 3000
    assert len(await db(rows.of, person)) == 1, "counting is no turn"
    sent = site.upstream.calls()[-1]
    assert sent["body"]["system"].endswith("\n\nThe date is today.")
    assert "anthropic-beta" not in {name.lower() for name in sent["headers"]}


async def test_a_count_asks_no_vendor_and_holds_nothing(site, client, person):
    short = await client.messages.count_tokens(model="claude", messages=ASK)
    long = await client.messages.count_tokens(model="claude", messages=ASK, system="word " * 1000, tools=[WEATHER])

    assert 5 < short.input_tokens < 30
    assert long.input_tokens > 1000
    with pytest.raises(anthropic.NotFoundError):
        await client.messages.count_tokens(model="no-such-model", messages=ASK)
    assert site.upstream.calls() == []
    assert await db(rows.leftovers, person) == {"messages": 0, "turns": 0, "holds": 0}


async def test_the_models_are_listed_for_this_client_too(site, client):
    listed = [model async for model in client.models.list()]

    assert {"words", "claude", "demo"} <= {model.id for model in listed}
    assert all(model.type == "model" and model.display_name and model.created_at.year > 2020 for model in listed)
    assert (await client.models.retrieve("words")).id == "words"
    with pytest.raises(anthropic.NotFoundError):
        await client.models.retrieve("retired")


async def test_one_key_opens_by_either_header_and_two_that_differ_open_nothing(site, web, person, post):
    """I-09: one decision for every channel."""
    other = await db(site.person)
    body = {"model": "words", **BODY}
    mine, bearer = {"X-Api-Key": person.key}, {"Authorization": f"Bearer {person.key}"}
    for headers in (mine, bearer, mine | bearer):
        assert (await post(body, **headers))[0] == 200
        assert (await post(body, "/v1/messages/count_tokens", **bearer))[0] == 400  # says nothing of the answer
    for headers in (
        {"X-Api-Key": other.key, **bearer},
        {"X-Api-Key": "nonsense", **bearer},
        {"X-Api-Key": person.key, "Authorization": "Bearer nonsense"},
        {"X-Api-Key": person.key, "Authorization": "Basic eDp4"},
        {"X-Api-Key": ""},
    ):
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            status, told = await post(body, path, **headers)
            assert (status, told["type"], told["error"]["type"]) == (401, "error", "authentication_error")
    assert len(await db(rows.of, person)) == 3
    assert await db(rows.of, other) == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_used_up_plan_is_a_billing_error_that_says_what_is_left(site, web, stream):
    """Q-02"""
    person = await db(site.person, None, limit=1)
    async with anthropic.AsyncAnthropic(base_url=web.url, api_key=person.key, max_retries=0) as client:
        await client.messages.create(model="words", **BODY)
        with pytest.raises(anthropic.APIStatusError) as refused:
            await client.messages.create(model="words", stream=stream, **BODY)

    assert (refused.value.status_code, refused.value.type) == (402, "billing_error")
    assert refused.value.body["error"]["details"]["left"] == 0
    assert refused.value.body["error"]["details"]["resets_at"]
    assert len(site.upstream.calls()) == 1


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("model", "status", "kind"),
    [
        ("no-such-model", 404, "not_found_error"),
        ("retired", 404, "not_found_error"),
        ("no-price", 503, "overloaded_error"),
        ("busy", 529, "overloaded_error"),
        ("claude-busy", 529, "overloaded_error"),
        ("key-refused", 502, "api_error"),
        ("hang-first", 504, "timeout_error"),
    ],
)
async def test_what_fails_before_the_first_word_is_the_clients_own_error_and_costs_nothing(
    site, client, person, model, status, kind, stream
):
    """Q-04, Q-08"""
    with pytest.raises(anthropic.APIStatusError) as refused:
        await client.messages.create(model=model, stream=stream, **BODY)

    assert (refused.value.status_code, refused.value.type) == (status, kind)
    assert refused.value.api_message
    assert refused.value.request_id
    if status == 529:
        assert refused.value.response.headers["Retry-After"] == "7"
    for turn in await db(rows.of, person):
        assert (turn.status, turn.is_charged) == ("failed", False)
        assert set((await db(charged, turn.pk)).values()) <= {0}


@pytest.mark.parametrize("model", ["cut-middle", "error-mid", "claude-cut-middle", "claude-error-mid"])
async def test_a_stream_that_is_cut_ends_in_an_error_event_and_never_in_a_quiet_stop(site, client, person, model):
    """Q-09"""
    text = ""
    with pytest.raises(anthropic.APIStatusError) as cut:  # noqa: PT012
        async with client.messages.stream(model=model, **BODY) as stream:
            async for piece in stream.text_stream:
                text += piece

    assert text == said(5)
    assert cut.value.type in ("api_error", "overloaded_error")
    turn = await only_turn(person)
    assert (turn.status, turn.is_charged) == ("failed", True)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_program_that_hangs_up_ends_the_answer_and_pays_for_what_came_once(site, client, person, stream):
    """Q-06"""
    if stream:
        answer = await client.messages.create(model="long", stream=True, **BODY)
        async for event in answer:
            if event.type == "content_block_delta":
                break
        await eventually(lambda: db(rows.has_begun, person))
        await answer.close()
    else:
        asking = asyncio.create_task(client.messages.create(model="long", **BODY))
        await eventually(lambda: db(rows.has_begun, person))
        asking.cancel()

    async def over():
        return not await db(rows.running, person)

    await eventually(over)
    turn = await only_turn(person)
    assert (turn.status, turn.is_charged) == ("stopped", True)
    bill = await db(charged, turn.pk)
    assert bill["queries"] == 1
    assert 0 < bill["tokens"] < 200


def user(*blocks):
    return [{"role": "user", "content": list(blocks)}]


def assistant(*blocks):
    return [*ASK, {"role": "assistant", "content": list(blocks)}]


USE = {"type": "tool_use", "id": "a", "name": "get_weather", "input": {}}
# what is wrong -> the field that is named
BAD = {
    "model": [{"model": 5}, {"model": ""}, {"model": None}, {"model": "x" * 200}],
    "max_tokens": [{"max_tokens": 0}, {"max_tokens": None}, {"max_tokens": 1.5}, {"max_tokens": "5"}],
    "messages": [{"messages": []}, {"messages": "hi"}, {"messages": None}, {"messages": ASK * 2001}],
    "messages.0": [{"messages": ["x"]}],
    "messages.0.role": [{"messages": [{"role": "tool", "content": "x"}]}, {"messages": [{"content": "x"}]}],
    "messages.0.name": [{"messages": [{"role": "user", "content": "x", "name": "bob"}]}],
    "messages.0.content": [{"messages": [{"role": "user", "content": 5}]}, {"messages": [{"role": "user"}]}],
    "messages.0.content.0": [
        {"messages": user("x")},
        {"messages": user({"type": "document", "source": {}})},
        {"messages": user(USE)},
        {"messages": user({"type": ["text"], "text": "x"})},
    ],
    "messages.0.content.0.text": [{"messages": user({"type": "text", "text": 5})}],
    "messages.0.content.0.citations": [{"messages": user({"type": "text", "text": "x", "citations": [{}]})}],
    "messages.0.content.0.odd": [{"messages": user({"type": "text", "text": "x", "odd": 1})}],
    "messages.0.content.0.tool_use_id": [{"messages": user({"type": "tool_result", "content": "x"})}],
    "messages.0.content.0.is_error": [
        {"messages": user({"type": "tool_result", "tool_use_id": "a", "is_error": "yes"})}
    ],
    "messages.0.content.0.content.0": [
        {"messages": user({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image", "source": PNG}]})}
    ],
    "messages.0.content.0.source.type": [{"messages": user({"type": "image", "source": {"type": "file"}})}],
    "messages.0.content.0.source.url": [
        {"messages": user({"type": "image", "source": {"type": "url", "url": "http://127.0.0.1/x"}})}
    ],
    "messages.0.content.0.source.data": [
        {"messages": user({"type": "image", "source": {**PNG, "data": "<svg>"}})},
        {"messages": user({"type": "image", "source": {**PNG, "media_type": "image/svg+xml"}})},
    ],
    "messages.1.content.0": [{"messages": assistant({"type": "thinking", "thinking": "…", "signature": "x"})}],
    "messages.1.content.0.id": [{"messages": assistant({**USE, "id": "é"})}],
    "messages.1.content.0.name": [{"messages": assistant({**USE, "name": "a b"})}],
    "messages.1.content.0.input": [{"messages": assistant({**USE, "input": "x"})}],
    "system": [{"system": 5}],
    "system.0": [{"system": [{"type": "image", "source": PNG}]}],
    "temperature": [{"temperature": 1.5}, {"temperature": "1"}, {"temperature": True}],
    "top_k": [{"top_k": 1.5}, {"top_k": 5}],  # the second: this model knows none
    "stop_sequences": [{"stop_sequences": "x"}, {"stop_sequences": [5]}],
    "stream": [{"stream": "yes"}, {"stream": 1}],
    "metadata.email": [{"metadata": {"email": "a@example.com"}}],
    "thinking": [{"thinking": {"type": "enabled", "budget_tokens": 1024}}, {"thinking": {"type": "adaptive"}}],
    "container": [{"container": "c"}],
    "mcp_servers": [{"mcp_servers": [{"type": "url", "url": "https://example.com"}]}],
    "output_config.effort": [{"output_config": {"effort": "high"}}],
    "output_config.format.type": [{"output_config": {"format": {"type": "json_object"}}}],
    "tools": [{"tools": {}}, {"tools": [CLOCK, CLOCK]}],
    "tools.0.type": [{"tools": [{"type": "web_search_20250305", "name": "web_search"}]}, {"tools": [{"type": 5}]}],
    "tools.0.name": [{"tools": [{"name": "a b", "input_schema": {}}]}],
    "tools.0.input_schema": [
        {"tools": [{"name": "a"}]},
        {"tools": [{"name": "a", "input_schema": {"type": "string"}}]},
    ],
    "tools.0.defer_loading": [{"tools": [{**CLOCK, "defer_loading": True}]}],
    "tool_choice": [{"tool_choice": {"type": "any"}}, {"tools": [CLOCK], "tool_choice": {"type": "tool", "name": "x"}}],
    "tool_choice.type": [{"tools": [CLOCK], "tool_choice": {"type": "required"}}],
    "shoe_size": [{"shoe_size": 46}],
}


async def test_a_field_that_cannot_be_honoured_is_a_bad_request_that_names_it(site, person, post):
    """F-02, Q-26: a field that we do not know is refused, never dropped."""
    for param, cases in BAD.items():
        for wrong in cases:
            status, told = await post({"model": "words", **BODY, **wrong})
            assert (status, told["type"]) == (400, "error"), (param, wrong, told)
            assert told["error"]["type"] == "invalid_request_error"
            assert told["error"]["details"]["param"] == param, (wrong, told)
            assert param in told["error"]["message"] or param == "top_k", told
    assert site.upstream.calls() == []
    assert await db(rows.leftovers, person) == {"messages": 0, "turns": 0, "holds": 0}


async def test_pictures_go_to_models_that_take_them_and_are_refused_by_others(site, client, person):
    asked = {"max_tokens": 100, "messages": user({"type": "text", "text": "What?"}, {"type": "image", "source": PNG})}
    await client.messages.create(model="seer", **asked)
    (call,) = site.upstream.calls()
    assert call["body"]["messages"][0]["content"] == [
        {"type": "text", "text": "What?"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    with pytest.raises(anthropic.BadRequestError) as refused:
        await client.messages.create(model="words", **asked)
    assert "image" in refused.value.api_message
    with pytest.raises(anthropic.BadRequestError):
        await client.messages.count_tokens(model="words", messages=asked["messages"])
    assert (await client.messages.count_tokens(model="seer", messages=asked["messages"])).input_tokens > 1000


async def test_what_is_no_address_or_no_method_is_told_in_the_same_shape(site, web, http, person):
    headers = {"X-Api-Key": person.key}
    for method, path, status in [
        ("GET", "/v1/messages", 405),
        ("DELETE", "/v1/messages/count_tokens", 405),
        ("POST", "/v1/messages/batches", 404),
        ("POST", "/v1/messages/", 404),
    ]:
        async with http.request(method, web.url + path, headers=headers, json={}) as response:
            told = await response.json()
            assert (response.status, told["type"]) == (status, "error"), path
            assert told["error"]["type"] == ("not_found_error" if status == 404 else "invalid_request_error")
