"""What a chat that has grown too long offers, and what a program defines for a chat once: tools."""

import re

import pytest
from django.test import Client

from accounts import keys
from conversations.chats import pending, reading, recording
from conversations.doors.fields import BadField
from conversations.doors.tools import tools
from conversations.engine import beginning, finishing, tuning
from conversations.engine.turns import Question
from conversations.models import Conversation, Message, Turn
from lib.db import SERVICE, scope
from lib.errors import Invalid, NotFound
from providers import offers
from providers.calls import estimate_tokens
from tests import factories
from tests.quotas.proofs import prove

SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {"name": "weather", "description": "Of a city.", "parameters": SCHEMA}


@pytest.fixture
def world(world):
    offers.forget()
    yield world
    offers.forget()
    prove(world)


@pytest.fixture
def alice(world):
    return factories.member(world.act, world.alice)


@pytest.fixture
def small(world):
    made = factories.make_provider("small", max_tokens=100, context_window=1200)
    offers.forget()
    return made


@pytest.fixture
def chat(world, alice, small):
    """Longer than its model reads, and set in its own way."""
    said = [(role, f"{role} {number} " * 20) for number in range(20) for role in ("user", "assistant")]
    made = factories.make_conversation(world.act, world.alice, "Ferrow", said=said)
    with scope(alice):
        Conversation.objects.filter(pk=made.pk).update(
            settings={"temperature": 0.3}, system_prompt="Be brief.", provider_id=small.pk, context_type="bill",
            context_id="C-11",
        )  # fmt: skip
    return made


def browser(user):
    client = Client(headers={"host": "act.localhost"})
    client.force_login(user)
    return client


def finish(begun, text="A summary."):
    return finishing.finish(
        begun.turn_id, status="done", text=text, usage=None, offer=begun.offer, own_prompt_tokens=begun.prompt_tokens,
        own_completion_tokens=5, held_tokens=begun.held_tokens, started_at=begun.started_at, has_arrived=True,
    )  # fmt: skip


def row(model, **wanted):
    with scope(SERVICE):
        return model.objects.get(**wanted)


def test_a_new_chat_begins_with_a_summary_of_one_that_is_too_long_and_each_leads_to_the_other(world, alice, chat):
    question = Question(
        text="Summarise Ferrow.", continues=chat.pk, settings={"temperature": 0.3}, own_prompt="Be brief."
    )

    begun = beginning.begin(alice, world.act, question, key="k", route="summary")
    again = beginning.begin(alice, world.act, question, key="k", route="summary")
    finish(begun)

    assert (again.call, again.conversation_id) == (None, begun.conversation_id), "a double click begins one"
    made = row(Conversation, pk=begun.conversation_id)
    assert (made.continues_id, made.title, made.settings, made.system_prompt) == (
        chat.pk, "Ferrow, continued", {"temperature": 0.3}, "Be brief."
    )  # fmt: skip
    with scope(SERVICE):
        said = list(Message.objects.filter(conversation=made).order_by("id").values_list("role", "content"))
    assert said == [("user", "Summarise Ferrow."), ("assistant", "A summary.")]
    messages = begun.call.messages
    assert messages[0]["content"].startswith("Be brief.")
    assert messages[-2]["content"].startswith("assistant 19"), "the newest of the old chat goes along"
    assert estimate_tokens(messages) + 100 <= 600, "half a window: it must not be too long again"
    assert row(Turn, pk=begun.turn_id).sent.get("memory_begins") is None
    assert row(Conversation, pk=chat.pk).message_count == chat.message_count, "the old one stays as it was"
    going_on = beginning.begin(alice, world.act, Question(text="And now?", conversation_id=made.pk))
    assert [message["content"] for message in going_on.call.messages[-3:]] == [
        "Summarise Ferrow.", "A summary.", "And now?"
    ]  # fmt: skip
    finish(going_on)
    page = browser(world.alice)
    new, old = (page.get(f"/c/{each}/").content.decode() for each in (made.pk, chat.pk))
    assert re.search(rf'summary of <bdi>“Ferrow”</bdi>.*?href="/c/{chat.pk}/"', new, re.DOTALL)
    assert re.search(rf'goes on in <bdi>“Ferrow, continued”</bdi>.*?href="/c/{made.pk}/"', old, re.DOTALL)
    with scope(SERVICE):
        Conversation.objects.filter(pk=chat.pk).update(deleted_at="2026-11-21T10:00Z")
    assert "Ferrow”" not in page.get(f"/c/{made.pk}/").content.decode(), "nothing leads into the bin"


def test_nobody_continues_a_chat_that_is_not_theirs(world, chat):
    """I-01"""
    bob = factories.member(world.act, world.bob)

    with pytest.raises(NotFound):
        beginning.begin(bob, world.act, Question(text="Summarise it.", continues=chat.pk))
    assert browser(world.bob).post(f"/c/{chat.pk}/summarise/", {"into": "new"}).status_code == 404
    assert browser(world.bob).post(f"/c/{chat.pk}/summarise/").status_code == 404


def test_a_question_that_is_too_long_is_given_back_with_both_ways_on(world, chat, small):
    """UX, "too long": cause, effect, what to do, and the words that were typed."""
    page, text = browser(world.alice), "word " * 1300

    told = page.post(f"/c/{chat.pk}/send/", {"text": text, "provider": small.pk}, headers={"HX-Request": "true"})
    plain = page.post(f"/c/{chat.pk}/send/", {"text": text, "provider": small.pk})
    new = page.post("/c/send/", {"text": text, "provider": small.pk}, headers={"HX-Request": "true"})

    for answer in (told, plain):
        said = answer.content.decode()
        assert answer.status_code == 413
        assert "This is too long for Small: about" in said
        assert "and it reads 1,200 with its answer" in said
        assert "at the price beside Send" in said
        assert said.count(f'formaction="/c/{chat.pk}/summarise/"') == 2 + said.count('id="memory-begins"') * 2
        assert 'name="into" value="new"' in said
    assert text.strip() in plain.content.decode()
    assert "summarise" not in new.content.decode(), "of a new chat there is nothing to summarise"


def test_what_was_typed_waits_in_the_new_chat_and_is_sent_by_its_author_alone(world, alice):
    made = factories.make_conversation(world.act, world.alice, "New")

    pending.lay_aside(alice, made.pk, "Typed before.")

    page = browser(world.alice).get(f"/c/{made.pk}/").content.decode()
    assert "Typed before.</textarea>" in page
    assert not pending.is_to_send(world.act.pk, world.alice.pk), "signing in sends it to nobody"
    with scope(alice):
        waiting = pending.waiting(alice, made.pk)
    key = pending.key_of(waiting)
    assert f'value="{key}"' in page
    begun = beginning.begin(alice, world.act, Question(text="Typed before.", conversation_id=made.pk), key=key)
    finish(begun)
    pending.sent(alice, key, made.pk)
    assert "Typed before.</textarea>" not in browser(world.alice).get(f"/c/{made.pk}/").content.decode()


def test_tools_are_taken_in_the_words_of_each_protocol_and_of_no_other():
    spoken = [
        {"type": "function", "function": WEATHER},
        {"type": "function", **WEATHER},
        {"name": "weather", "description": "Of a city.", "input_schema": SCHEMA},
        {"type": "custom", "name": "weather", "description": "Of a city.", "input_schema": SCHEMA},
    ]
    for each in spoken:
        assert tools([each]) == (WEATHER,)
    assert tools([]) == ()
    for wrong in (
        "tools", {}, [1], [{"type": "web_search"}], [{"name": "a b", "parameters": SCHEMA}], [WEATHER, WEATHER],
        [{"type": "function", "function": WEATHER, "more": 1}], [{"name": "x", "input_schema": {"type": "string"}}],
        [{"name": "x", "parameters": "text"}], [{"name": f"t{n}"} for n in range(200)],
    ):  # fmt: skip
        with pytest.raises(BadField):
            tools(wrong)


def test_tools_of_a_chat_go_with_each_of_its_questions_and_calls_and_results_are_replayed(world, alice):
    """C10: defined once, sent with every turn, stored with what was sent; another's chat takes none."""
    made = factories.make_conversation(world.act, world.alice, "Tools")
    with scope(alice):
        tuning.define_tools(alice, made.pk, tools([{"type": "function", "function": WEATHER}]))
    bob = factories.member(world.act, world.bob)
    with scope(bob), pytest.raises(NotFound):
        tuning.define_tools(bob, made.pk, [])
    with scope(alice), pytest.raises(Invalid, match="32,000 bytes"):
        tuning.define_tools(alice, made.pk, [{"name": "x", "description": "y" * 32_000}])

    begun = beginning.begin(alice, world.act, Question(text="Rain in Oslo?", conversation_id=made.pk))

    assert begun.call.tools == (WEATHER,)
    assert row(Turn, pk=begun.turn_id).sent["tools"] == [WEATHER]
    finish(begun, text="")
    call = {"id": "call_1", "name": "weather", "arguments": '{"city": "Oslo"}'}
    for role, content, told in (("assistant", "", {"calls": [call]}), ("function", "Rain.", {"call_id": "call_1"})):
        recording.add_message_with_quota(
            alice, world.act, made.pk, role=role, content=content, tokens_used=0, function_call=told
        )
    going_on = beginning.begin(alice, world.act, Question(text="And tomorrow?", conversation_id=made.pk))
    assert [message["role"] for message in going_on.call.messages[-3:]] == ["assistant", "tool", "user"]
    assert going_on.call.messages[-2] == {"role": "tool", "tool_call_id": "call_1", "content": "Rain."}
    assert going_on.call.tools == (WEATHER,)
    finish(going_on)

    page = browser(world.alice)
    shown = page.get(f"/c/{made.pk}/").content.decode()
    assert "Called the tool weather" in shown
    assert "Result of the tool weather" in shown
    assert "A program lets the models of this chat call:" in shown
    page.post(f"/c/{made.pk}/options/", {"do": "save", "temperature": "0.5"})
    assert row(Conversation, pk=made.pk).settings == {"temperature": 0.5, "tools": [WEATHER]}
    page.post(f"/c/{made.pk}/options/", {"do": "reset"})
    with scope(alice):
        assert reading.conversation(alice, made.pk).settings == {"tools": [WEATHER]}
        tuning.define_tools(alice, made.pk, [])
    assert row(Conversation, pk=made.pk).settings == {}
    assert beginning.begin(alice, world.act, Question(text="No tools?", conversation_id=made.pk)).call.tools == ()


def test_a_program_defines_tools_and_records_calls_and_results_over_rest(world, alice):
    """C10, in S0's names: what is no tool, and a result of no call, is refused with the field that is wrong."""
    made = factories.make_conversation(world.act, world.alice, "Tools")
    with scope(SERVICE):
        _, key = keys.create(
            world.act,
            world.alice,
            name="tests",
            scopes=["conversations:read", "conversations:write", "messages:record"],
        )
    program = Client(headers={"host": "act.localhost", "authorization": f"Bearer {key}"})
    here = f"/api/v1/conversations/{made.pk}"

    def sends(method, path, body):
        answer = getattr(program, method)(path, body, content_type="application/json")
        return answer.status_code, answer.json()

    assert sends("patch", here, {"tools": [{"name": "weather", "input_schema": SCHEMA}]})[0] == 200
    status, told = sends("patch", here, {"tools": [{"type": "function", "function": WEATHER}]})
    assert (status, told["settings"]) == (200, {"tools": [WEATHER]})
    assert sends("patch", here, {"tools": [{"type": "web_search"}]})[0] == 400
    assert sends("patch", here, {"tools": "weather"})[0] == 400
    call = {"id": "call_1", "name": "weather", "arguments": "{}"}
    for wrong in (
        {"role": "function", "content": "Rain."}, {"role": "user", "content": "x", "function_call": {"call_id": "call_1"}},
        {"role": "assistant", "function_call": {"calls": [{"id": 1}]}}, {"role": "assistant"},
        {"role": "user", "content": " "},
        {"role": "function", "content": "Rain.", "function_call": {"calls": [call]}},
    ):  # fmt: skip
        assert sends("post", f"{here}/messages", wrong)[0] == 400, wrong
    assert sends("post", f"{here}/messages", {"role": "user", "content": "Rain?"})[0] == 201
    assert sends("post", f"{here}/messages", {"role": "assistant", "function_call": {"calls": [call]}})[0] == 201
    result = {"role": "function", "content": "Rain.", "function_call": {"call_id": "call_1"}}
    assert sends("post", f"{here}/messages", result)[0] == 201
    begun = beginning.begin(alice, world.act, Question(text="So?", conversation_id=made.pk))
    assert [message["role"] for message in begun.call.messages[-3:]] == ["assistant", "tool", "user"]
    finish(begun)
