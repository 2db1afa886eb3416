"""/v1/responses with the official client: kept, continued, called, parsed, read again, deleted, and billed once."""

import asyncio
import base64
import json
import uuid

import openai
import pytest
from pydantic import BaseModel

from accounts import keys
from conversations.models import Conversation, Message
from lib.db import SERVICE, db, scope
from tests.conversations import rows
from tests.conversations.rows import charged
from tests.server import Browser, eventually, said

WEATHER = {
    "type": "function",
    "name": "weather",
    "description": "Of a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    "strict": False,
}


class Place(BaseModel):
    city: str
    n: int


@pytest.fixture
async def client(web, person):
    async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=person.key, max_retries=0) as client:
        yield client


def kept(person):
    """What is stored of a person's conversations: (conversation, [(role, content, function_call)])."""
    with scope(SERVICE):
        return [
            (
                chat,
                list(
                    Message.objects.filter(conversation=chat)
                    .order_by("id")
                    .values_list("role", "content", "function_call")
                ),
            )
            for chat in Conversation.objects.filter(owner_id=person.user.pk).order_by("id")
        ]


async def test_an_answer_is_kept_as_its_persons_chat_and_can_be_read_again(site, http, web, client, person):
    first = await client.responses.create(
        model="words", input="Which words?", instructions="Be brief.", metadata={"order": "7"}, temperature=0.5
    )

    assert (first.status, first.output_text, first.instructions) == ("completed", said(20), "Be brief.")
    assert first.usage.total_tokens == first.usage.input_tokens + 20
    ((chat, messages),) = await db(kept, person)
    assert (chat.source, chat.title, chat.metadata, chat.message_count) == ("api", "Which words?", {"order": "7"}, 2)
    assert messages == [("user", "Which words?", None), ("assistant", said(20), None)]
    (turn,) = await db(rows.of, person)
    assert await db(charged, turn.pk) == {"queries": 1, "tokens": first.usage.total_tokens}
    assert site.upstream.calls()[0]["body"]["messages"][0] == {"role": "system", "content": "Be brief."}

    again = await client.responses.retrieve(first.id)
    assert again.model_dump() == first.model_dump()
    (item,) = (await client.responses.input_items.list(first.id)).data
    assert (item.role, item.content[0].text) == ("user", "Which words?")
    async with Browser(http, web, person).get(f"/c/{chat.pk}/") as page:
        text = await page.text()
        assert page.status == 200
        assert "Which words?" in text
        assert "w0020" in text


async def test_a_response_continues_another_and_a_second_time_is_a_fork(site, client, person):
    """What goes on brings what was said, but not the instructions; what was said later is not in it."""
    first = await client.responses.create(model="words", input="One?", instructions="Only now.", max_output_tokens=2)
    assert (first.status, first.incomplete_details.reason) == ("incomplete", "max_output_tokens")
    second = await client.responses.create(model="words", input="Two?", previous_response_id=first.id)
    fork = await client.responses.create(model="words", input="Three?", previous_response_id=first.id)
    loose = await client.responses.create(model="words", input="Four?", previous_response_id=second.id, store=False)
    by_chat = await client.responses.create(model="words", input="Five?", conversation=second.conversation.id)

    sent = [[message["content"] for message in call["body"]["messages"]] for call in site.upstream.calls()]
    assert sent == [
        ["Only now.", "One?"],
        ["One?", said(2), "Two?"],
        ["One?", said(2), "Three?"],
        ["One?", said(2), "Two?", said(20), "Four?"],
        ["One?", said(2), "Two?", said(20), "Five?"],
    ]
    assert second.conversation.id == first.conversation.id == by_chat.conversation.id
    assert fork.conversation.id != first.conversation.id
    assert loose.conversation is None
    found = await db(kept, person)
    assert [[content for _, content, _ in messages] for _, messages in found] == [
        ["One?", said(2), "Two?", said(20), "Five?", said(20)],
        ["One?", said(2), "Three?", said(20)],
    ]
    assert [chat.message_count for chat, _ in found] == [6, 4]
    assert [chat.system_prompt for chat, _ in found] == ["", ""]
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(loose.id)


@pytest.mark.parametrize("is_stored", [True, False])
async def test_a_tool_is_called_and_its_result_continues_the_response(site, http, web, client, person, is_stored):
    """C10: calls and results are stored, sent again as they were, and shown on the page."""
    first = await client.responses.create(
        model="caller", input="Weather?", tools=[WEATHER], tool_choice="required", store=is_stored
    )
    (call,) = first.output
    assert (call.type, call.name, json.loads(call.arguments)) == ("function_call", "weather", {"city": "Paris", "n": 1})
    result = {"type": "function_call_output", "call_id": call.call_id, "output": "<b>Sunny</b>"}
    if is_stored:
        second = await client.responses.create(
            model="caller", previous_response_id=first.id, input=[result], tools=[WEATHER]
        )
    else:
        items = [{"role": "user", "content": "Weather?"}, call.model_dump(exclude_none=True), result]
        second = await client.responses.create(model="caller", input=items, tools=[WEATHER], store=False)

    assert second.output_text == "told: <b>Sunny</b> "
    asked, answered = (seen["body"] for seen in site.upstream.calls())
    assert asked["tool_choice"] == "required"
    assert answered["messages"] == [
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [
                {
                    "id": call.call_id,
                    "type": "function",
                    "function": {"name": "weather", "arguments": call.arguments},
                }
            ],
        },
        {"role": "tool", "tool_call_id": call.call_id, "content": "<b>Sunny</b>"},
    ]
    found = await db(kept, person)
    if not is_stored:
        assert found == []
        return
    ((chat, messages),) = found
    assert [role for role, _, _ in messages] == ["user", "assistant", "function", "assistant"]
    assert messages[1][2] == {"calls": [{"id": call.call_id, "name": "weather", "arguments": call.arguments}]}
    (item,) = (await client.responses.input_items.list(second.id)).data
    assert (item.type, item.output) == ("function_call_output", "<b>Sunny</b>")
    browser = Browser(http, web, person)
    async with browser.get(f"/c/{chat.pk}/") as page:
        text = await page.text()
    assert "&lt;b&gt;Sunny&lt;/b&gt;" in text
    assert "<b>Sunny</b>" not in text
    assert "weather" in text

    asked = await browser.ask("And tomorrow?", site.models["words"], chat.pk)  # a person goes on from there
    await browser.read(asked.turn_id)
    assert [message["role"] for message in site.upstream.calls()[-1]["body"]["messages"]] == [
        "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip


async def test_a_call_without_its_result_is_left_out_when_a_person_goes_on(site, http, web, client, person):
    """C10: the vendor would refuse the chat for ever."""
    await client.responses.create(model="caller", input="Weather?", tools=[WEATHER])
    ((chat, _),) = await db(kept, person)
    browser = Browser(http, web, person)
    asked = await browser.ask("Never mind.", site.models["words"], chat.pk)
    assert (await browser.read(asked.turn_id)).text
    assert site.upstream.calls()[-1]["body"]["messages"] == [
        {"role": "user", "content": "Weather?"},
        {"role": "user", "content": "Never mind."},
    ]


async def test_a_stream_has_the_documented_events_in_order(site, client):
    events = [event async for event in await client.responses.create(model="two-calls", input="Hi", stream=True)]
    assert events[0].type == "response.created"
    assert events[-1].response.output_text == said(3)
    events = [
        event
        async for event in await client.responses.create(
            model="two-calls", input="Hi", stream=True, tools=[WEATHER, {**WEATHER, "name": "clock"}]
        )
    ]
    kinds = [event.type.removeprefix("response.") for event in events]
    assert kinds[:5] == ["created", "in_progress", "output_item.added", "content_part.added", "output_text.delta"]
    assert kinds[-1] == "completed"
    closing = ["function_call_arguments.done", "output_item.done"]
    assert kinds[-8:-1] == ["output_text.done", "content_part.done", "output_item.done", *closing, *closing]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    arguments = {}
    for event in events:
        if event.type == "response.function_call_arguments.delta":
            arguments[event.output_index] = arguments.get(event.output_index, "") + event.delta
    final = events[-1].response
    assert (text, list(arguments.values())) == (said(3), [item.arguments for item in final.output[1:]])
    assert [item.type for item in final.output] == ["message", "function_call", "function_call"]
    assert final.usage.output_tokens > 0
    assert (await client.responses.retrieve(final.id)).model_dump() == final.model_dump()


async def test_the_clients_own_helpers_stream_and_parse(site, client):
    async with client.responses.stream(model="words", input="Where?", text_format=Place) as stream:
        final = await stream.get_final_response()
    assert final.output_parsed == Place(city="Paris", n=1)
    parsed = await client.responses.parse(model="words", input="Where?", text_format=Place, store=False)
    assert parsed.output_parsed == Place(city="Paris", n=1)


async def test_the_synchronous_client_does_the_same(site, web, person):
    def work():
        with openai.OpenAI(base_url=f"{web.url}/v1", api_key=person.key, max_retries=0) as client:
            whole = client.responses.create(model="words", input="Hi")
            with client.responses.stream(model="words", input="Hi", previous_response_id=whole.id) as stream:
                text = "".join(event.delta for event in stream if event.type == "response.output_text.delta")
            return whole.output_text, text

    assert await asyncio.to_thread(work) == (said(20), said(20))


async def test_what_is_deleted_is_gone_and_what_it_cost_stays(site, client, person):
    first = await client.responses.create(model="words", input="One?")
    second = await client.responses.create(model="words", input="Two?", previous_response_id=first.id)
    await client.responses.delete(second.id)
    ((chat, messages),) = await db(kept, person)
    assert ([content for _, content, _ in messages], chat.message_count) == (["One?", said(20)], 2)
    await client.responses.delete(first.id)
    ((chat, messages),) = await db(kept, person)
    assert (messages, chat.title, bool(chat.deleted_at)) == ([], "", True)
    for response in (first, second):
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(response.id)
        with pytest.raises(openai.NotFoundError):
            await client.responses.delete(response.id)
    for turn in await db(rows.of, person):
        assert (await db(charged, turn.pk))["tokens"] > 20
        assert turn.sent == {}


async def test_a_key_whose_response_was_deleted_makes_a_new_one(site, client, person):
    """Q-12: nothing tells of what is gone, not even the title that a key's record keeps."""
    ask = {"model": "words", "input": "Secret?", "extra_headers": {"Idempotency-Key": "k"}}
    first = await client.responses.create(**ask)
    assert (await client.responses.create(**ask)).id == first.id
    await client.responses.delete(first.id)
    second = await client.responses.create(**ask)
    assert (second.id == first.id, second.output_text) == (False, said(20))


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/responses/x/cancel", 404),
        ("GET", "/v1/responses", 405),
        ("POST", "/v1/responses/x", 405),
        ("DELETE", "/v1/embeddings", 405),
        ("PUT", "/v1/chat/completions", 405),
    ],
)
async def test_an_address_or_method_that_is_not_there_is_told_in_openais_shape(
    site, http, web, person, method, path, status
):
    headers = {"Authorization": f"Bearer {person.key}"}
    async with http.request(method, web.url + path, headers=headers) as response:
        told = (await response.json())["error"]
        assert response.status == status
        assert {"message", "type", "param", "code"} <= set(told)
        assert (status == 405) == ("Allow" in response.headers)


async def test_what_is_somebody_elses_is_as_unknown_as_what_never_was(site, web, client, person):
    """I-05: of another person on the same brand, of another brand, of nobody; the vendor is not called."""
    colleague, stranger = await db(site.person, person.brand), await db(site.person)
    theirs = []
    for other in (colleague, stranger):
        async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=other.key, max_retries=0) as at_other:
            theirs.append(await at_other.responses.create(model="words", input="Mine."))
    site.upstream.reset()
    ids = [*(response.id for response in theirs), f"resp_{uuid.uuid4().hex}", "resp_1", "x"]
    told = set()
    for response_id in ids:
        for work in (
            client.responses.create(model="words", input="x", previous_response_id=response_id),
            client.responses.create(model="words", input="x", previous_response_id=response_id, store=False),
            client.responses.retrieve(response_id),
            client.responses.delete(response_id),
            client.responses.input_items.list(response_id),
        ):
            with pytest.raises(openai.NotFoundError) as refused:
                await work
            told.add(refused.value.body["message"])
    for chat_id in (*(response.conversation.id for response in theirs), f"conv_{uuid.uuid4().hex}"):
        with pytest.raises(openai.NotFoundError):
            await client.responses.create(model="words", input="x", conversation=chat_id)
    assert told == {"There is no such response here (any more)."}
    assert site.upstream.calls() == []
    assert await db(rows.leftovers, person) == {"messages": 0, "turns": 0, "holds": 0}


def another_key(person, *scopes):
    with scope(SERVICE):
        return keys.create(person.brand, person.user, name="another", scopes=["chat", *scopes])[1]


async def test_a_key_reaches_what_is_its_persons_only_with_the_scope_for_it(site, http, web, client, person):
    """I-09: without it, another key's answers and what is said on the page are as unknown as what never was."""
    theirs = await client.responses.create(model="words", input="One?")
    browser = Browser(http, web, person)
    asked = await browser.ask("On the page.", site.models["words"])
    await browser.read(asked.turn_id)
    on_page = f"conv_{(await db(kept, person))[-1][0].pk.hex}"
    page_answer = f"resp_{uuid.UUID(str(asked.turn_id)).hex}"

    def works(at, response_id, chat_id):
        return {
            "retrieve": lambda: at.responses.retrieve(response_id),
            "items": lambda: at.responses.input_items.list(response_id),
            "after": lambda: at.responses.create(
                model="words", input="x", previous_response_id=response_id, store=False
            ),
            "chat": lambda: at.responses.create(model="words", input="x", conversation=chat_id, store=False),
            "delete": lambda: at.responses.delete(response_id),
        }

    async def reached(scopes, response_id, chat_id):
        key = await db(another_key, person, *scopes)
        async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=key, max_retries=0) as at:
            found, told = set(), set()
            for name, work in works(at, response_id, chat_id).items():
                try:
                    await work()
                except openai.NotFoundError as refused:
                    told.add(refused.body["message"])
                else:
                    found.add(name)
        assert told <= {
            "There is no such response here (any more).",
            "There is no such conversation here (any more).",
        }
        return found

    chat_id = theirs.conversation.id
    assert await reached([], theirs.id, chat_id) == set()
    assert await reached([], page_answer, on_page) == set()
    reading = {"retrieve", "items", "after", "chat"}
    assert await reached(["conversations:read"], page_answer, on_page) == {"after", "chat"}  # no response, but said
    assert await reached(["conversations:read"], theirs.id, chat_id) == reading
    own = await client.responses.create(model="words", input="Two?", conversation=chat_id)
    asked = await browser.ask("Said on the page.", site.models["words"], uuid.UUID(hex=chat_id[5:]))
    await browser.read(asked.turn_id)
    with pytest.raises(openai.NotFoundError):  # the key that began it does not hear what its person said later
        await client.responses.create(model="words", input="x", conversation=chat_id)
    assert (await client.responses.create(model="words", input="x", previous_response_id=own.id)).output_text == said(
        20
    )
    assert await reached(["conversations:write"], theirs.id, chat_id) == {"delete"}
    await client.responses.delete(own.id)


async def test_a_model_that_takes_no_pictures_is_not_asked_about_those_of_before(site, http, web, client, person):
    """Nothing was held for them either. Whoever goes on reads what to do, a program and a person alike."""
    pixel = "data:image/png;base64," + base64.b64encode(b"x").decode()
    picture = [{"role": "user", "content": [{"type": "input_image", "image_url": pixel, "detail": "auto"}]}]
    seen = await client.responses.create(model="seer", input=picture)
    ((chat, _),) = await db(kept, person)
    why = "There are images in this chat, and Words takes only text. Choose another model, or start a new chat."

    with pytest.raises(openai.BadRequestError) as refused:
        await client.responses.create(model="words", input="And?", previous_response_id=seen.id)
    assert (refused.value.body["message"], refused.value.param) == (why, "model")
    page = await Browser(http, web, person).ask("And?", site.models["words"], chat.pk)
    assert (page.status, page.turn_id) == (400, None)
    assert why in page.body
    asked = {"message": "And?", "chatId": str(chat.pk), "providerId": str(site.models["words"])}
    headers = {"Authorization": f"Bearer {person.key}"}
    async with http.post(f"{web.url}/api/v1/chat", json=asked, headers=headers) as response:
        assert (response.status, (await response.json())["detail"]) == (400, why)

    assert len(await db(rows.of, person)) == len(site.upstream.calls()) == 1
    again = await client.responses.create(model="seer", input="And?", previous_response_id=seen.id)
    assert again.output_text == said(20)


async def test_a_conversation_of_too_many_bytes_is_refused_before_it_is_read(site, http, web, client, person):
    """F-01: pictures of zeros, which a table would keep as a hundredth of what reading them takes."""
    large = "data:image/png;base64," + base64.b64encode(bytes(5_500_000)).decode()
    picture = [{"role": "user", "content": [{"type": "input_image", "image_url": large, "detail": "auto"}]}]
    last = None
    for _ in range(3):
        last = (await client.responses.create(model="seer", input=picture, previous_response_id=last)).id
    first_of_all, *_ = (turn.pk for turn in await db(rows.of, person))
    sent = [len(call["body"]["messages"]) for call in site.upstream.calls()]
    assert sent == [1, 3, 5]  # pictures without a word are replayed too
    for going_on in ({"previous_response_id": last}, {"previous_response_id": last, "truncation": "auto"}):
        with pytest.raises(openai.APIStatusError) as refused:
            await client.responses.create(model="seer", input="And?", **going_on)
        assert (refused.value.status_code, refused.value.code) == (413, "too_large")
        assert "16 MB" in refused.value.message
        assert "Start a new one" in refused.value.message
    assert len(site.upstream.calls()) == len(sent)
    early = f"resp_{first_of_all.hex}"  # what was said by then is small enough
    assert (await client.responses.create(model="seer", input="And?", previous_response_id=early)).output_text == said(
        20
    )
    assert await db(rows.leftovers, person) | {"messages": 0, "turns": 0} == {"messages": 0, "turns": 0, "holds": 0}


async def test_the_name_of_a_speaker_is_sent_again_when_a_stored_chat_goes_on(site, client, person):
    said_by_bob = {"role": "user", "content": "One?", "name": "bob"}
    rules = {"role": "system", "content": "Be brief."}
    await client.chat.completions.create(model="words", messages=[rules, said_by_bob], store=True)
    ((chat, _),) = await db(kept, person)
    at_end = f"conv_{chat.pk.hex}"
    first = await client.responses.create(model="words", input="Two?", conversation=at_end)
    await client.responses.create(model="words", input="Three?", previous_response_id=first.id)
    fork = await client.responses.create(model="words", input="Four?", previous_response_id=first.id)
    await client.responses.create(model="words", input="Five?", conversation=fork.conversation.id)
    assert [call["body"]["messages"][:2] for call in site.upstream.calls()] == [[rules, said_by_bob]] * 5


async def test_a_stored_answer_goes_on_when_its_program_has_gone(site, client, person):
    """DESIGN 3: a disconnect never stops what can be read later; an unstored one ends (Q-06)."""
    stream = await client.responses.create(model="brisk", input="Go on.", stream=True)
    async for event in stream:
        response_id = event.response.id
        break
    await stream.close()

    async def completed():
        return (await client.responses.retrieve(response_id)).status == "completed"

    await eventually(completed)
    assert (await client.responses.retrieve(response_id)).output_text == said(40)

    stream = await client.responses.create(model="long", input="Stop.", stream=True, store=False)
    async for _ in stream:
        break
    await stream.close()

    async def over():
        return not await db(rows.running, person)

    await eventually(over)
    assert (await db(rows.of, person))[-1].status == "stopped"


@pytest.mark.parametrize("door", ["responses", "chat/completions"])
async def test_the_same_key_is_the_same_answer_and_one_charge(site, client, person, door):
    """Q-12: parallel, again, as a stream, with another body; what is stored is stored once."""
    body = {"model": "slow", "store": True}
    body |= {"input": "x"} if door == "responses" else {"messages": [{"role": "user", "content": "x"}]}
    headers = {"Idempotency-Key": "order-7"}

    async def ask(**more):
        try:
            return await client.post(f"/{door}", body={**body, **more}, cast_to=object, options={"headers": headers})
        except openai.APIStatusError as error:
            return error.status_code

    outcomes = await asyncio.gather(*(ask() for _ in range(20)))
    answers = [one for one in outcomes if one != 409]
    assert answers
    assert all(one["id"] == answers[0]["id"] for one in answers)
    again = await ask()
    assert again == answers[0]
    assert await ask(temperature=1.5) == 422
    assert len(site.upstream.calls()) == 1
    (turn,) = await db(rows.of, person)
    assert (await db(charged, turn.pk))["queries"] == 1
    ((_, messages),) = await db(kept, person)
    assert [content for _, content, _ in messages] == ["x", said(100)]


async def test_a_stored_completion_is_a_chat_too_with_its_tools_and_system(site, http, web, client, person):
    history = [
        {"role": "system", "content": "You know cities."},
        {"role": "user", "content": "Weather?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}],
        },
        {"role": "tool", "tool_call_id": "c1", "content": "Rain."},
    ]
    answer = await client.chat.completions.create(model="words", messages=history, store=True, metadata={"a": "b"})
    assert answer.choices[0].message.content == "told: Rain. "
    ((chat, messages),) = await db(kept, person)
    assert (chat.source, chat.title, chat.metadata, chat.message_count) == ("api", "Weather?", {"a": "b"}, 5)
    assert messages[0][:2] == ("system", "You know cities.")
    assert messages[3] == ("function", "Rain.", {"call_id": "c1"})
    browser = Browser(http, web, person)
    asked = await browser.ask("Go on.", site.models["words"], chat.pk)
    await browser.read(asked.turn_id)
    assert site.upstream.calls()[-1]["body"]["messages"][:4] == history


async def test_a_stored_call_counts_as_a_new_chat(site, web):
    """Q-02: a page's new chat and a program's are the same to the meter; a continued one is none."""
    person = await db(site.person, None, chats=2)
    async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=person.key, max_retries=0) as client:
        first = await client.responses.create(model="words", input="x")
        await client.responses.create(model="words", input="x", store=False)
        await client.responses.create(model="words", input="x", previous_response_id=first.id)
        asks = [client.responses.create(model="words", input="x") for _ in range(10)]
        outcomes = await asyncio.gather(*asks, return_exceptions=True)
    refused = [one for one in outcomes if isinstance(one, Exception)]
    assert len(refused) == 9
    assert {(one.status_code, one.code) for one in refused} == {(402, "insufficient_quota")}
    assert len(site.upstream.calls()) == 4


BAD = {
    "input": [{"input": []}, {"input": 5}, {"input": None}, {"input": [{"type": "reasoning", "summary": []}]}],
    "input[0]": [{"input": ["x"]}],
    "input[0].role": [{"input": [{"content": "x"}]}, {"input": [{"role": "tool", "content": "x"}]}],
    "input[0].type": [{"input": [{"type": "item_reference", "id": "x"}]}, {"input": [{"type": "computer_call"}]}],
    "input[0].content": [{"input": [{"role": "user", "content": 5}]}, {"input": [{"role": "user", "content": "a\0"}]}],
    "input[0].content[0]": [{"input": [{"role": "user", "content": [{"type": "input_file", "file_id": "x"}]}]}],
    "input[0].call_id": [{"input": [{"type": "function_call_output", "output": "x"}]}],
    "tools[0].type": [{"tools": [{"type": "web_search"}]}, {"tools": [{"type": "mcp"}]}, {"tools": [{}]}],
    "tool_choice": [
        {"tool_choice": "required"},
        {"tools": [WEATHER], "tool_choice": {"type": "function", "name": "x"}},
    ],
    "background": [{"background": True}],
    "prompt": [{"prompt": {"id": "x"}}],
    "conversation": [{"conversation": "x", "previous_response_id": "x"}, {"conversation": 5}],
    "text.format.type": [{"text": {"format": {"type": "x"}}}],
    "text.format.name": [{"text": {"format": {"type": "json_schema", "schema": {}}}}],
    "truncation": [{"truncation": "some"}],
    "reasoning.summary": [{"reasoning": {"summary": "auto"}}],
    "max_output_tokens": [{"max_output_tokens": 0}],
    "include[0]": [{"include": ["file_search_call.results"]}],
    "store": [{"store": "no"}],
    "stream": [{"stream": 1}],
    "temperature": [{"temperature": 3}],
    "stop": [{"stop": "x"}],
    "metadata": [{"metadata": []}],
    "model": [{"model": None}, {"model": 5}],
}


@pytest.mark.parametrize("param", BAD)
async def test_a_field_that_cannot_be_honoured_is_a_bad_request_that_names_it(site, client, person, param):
    """F-02"""
    for fields in BAD[param]:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.post("/responses", body={"model": "words", "input": "x", **fields}, cast_to=object)
        assert refused.value.param == param, fields
    assert site.upstream.calls() == []
    assert await db(rows.leftovers, person) == {"messages": 0, "turns": 0, "holds": 0}


@pytest.mark.parametrize("model", ["busy", "broken", "hang-first", "no-such-model"])
async def test_what_fails_before_the_first_word_is_the_clients_own_error(site, client, person, model):
    """Q-08"""
    asking = [client.responses.create(model=model, input="x", stream=stream) for stream in (False, True)]
    told = await asyncio.gather(*asking, return_exceptions=True)
    assert [isinstance(one, openai.APIStatusError) for one in told] == [True, True], told
    for turn in await db(rows.of, person):
        assert (turn.status, turn.is_charged) == ("failed", False)


async def test_a_stream_that_is_cut_ends_in_failed_and_stays_readable(site, client, person):
    """Q-09"""
    events = [event async for event in await client.responses.create(model="cut-middle", input="x", stream=True)]
    assert events[-1].type == "response.failed"
    assert events[-1].response.error.message
    stored = await client.responses.retrieve(events[-1].response.id)
    assert (stored.status, stored.output_text) == ("failed", said(5))
    (turn,) = await db(rows.of, person)
    assert turn.is_charged
