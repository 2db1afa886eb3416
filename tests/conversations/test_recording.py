"""Talks of elsewhere, recorded over REST: who may, what is charged, what is only stored, and once."""

import json
from uuid import uuid4

import pytest
from django.test import Client

from accounts import keys
from accounts.models import IdempotencyRecord
from conversations.models import Conversation, Message
from events.models import Event
from lib.db import SERVICE, scope
from quotas.models import Entry, Hold, UsageLog
from tests import factories
from tests.quotas.proofs import entitle, numbers, prove, together

SAID = {"role": "assistant", "content": "The best channels depend on …", "tokens_used": 150, "model": "gpt-4"}


class Program:
    """A client with a key of the person's."""

    def __init__(self, brand, user, *scopes):
        with scope(SERVICE):
            _, text = keys.create(brand, user, name="recorder", scopes=scopes or ["messages:record"])
        self.headers = {"authorization": f"Bearer {text}"}

    def post(self, path, body, key=""):
        headers = {**self.headers, **({"idempotency-key": key} if key else {})}
        body = body if isinstance(body, str) else json.dumps(body)
        return Client().post(path, body, content_type="application/json", headers=headers)

    def begin(self, **body):
        return self.post("/api/v1/conversations", {"title": "Elsewhere", "model": "gpt-4", **body})

    def say(self, conversation_id, body, key=""):
        return self.post(f"/api/v1/conversations/{conversation_id}/messages", body, key)


@pytest.fixture
def program(world):
    yield Program(world.act, world.bob)
    prove(world)


def stands():
    with scope(SERVICE):
        return tuple(
            model.objects.count() for model in (Conversation, Message, Hold, Entry, UsageLog, IdempotencyRecord, Event)
        )


def pool(world):
    return numbers(world.act, world.act.pk, "tokens")[1:]


def test_a_talk_of_elsewhere_is_charged_for_what_the_assistant_said(world, program):
    """Q-26, S0: 20 tokens of the user are stored, 150 of the assistant are the brand's."""
    begun = program.begin(system_prompt="Be brief.", settings={"temperature": 0.7, "max_tokens": 2000, "top_p": 1})
    talk = begun.json()["id"]
    asked = program.say(talk, {"role": "user", "content": "Which channels?", "tokens_used": 20})
    said = program.say(talk, {**SAID, "metadata": {"parts": ["not ours"], "ref": "A-1"}})

    assert (begun.status_code, asked.status_code, said.status_code) == (201, 201, 201)
    assert (asked.json()["is_charged"], said.json()["is_charged"]) == (False, True)
    assert said.json()["metadata"] == {"parts": ["not ours"], "ref": "A-1"}
    assert pool(world) == (150, 0)
    with scope(SERVICE):
        row = Conversation.objects.get(pk=talk)
        assert (row.owner_id, row.source, row.message_count, row.total_tokens_used) == (world.bob.pk, "api", 2, 170)
        assert (row.system_prompt, row.settings["max_tokens"], row.total_cost_microusd) == ("Be brief.", 2000, 0)
        answer = Message.objects.get(pk=said.json()["id"])
        assert (answer.is_charged, answer.tokens_used, "parts" in answer.metadata) == (True, 150, False)
        lines = list(UsageLog.objects.order_by("id").values_list("usage_type", "total_tokens", "counted_against_quota"))
        assert lines == [("conversation", 0, False), ("message", 150, True)]
        assert Event.objects.filter(type="conversation.started", subject_id=talk).count() == 1
    assert numbers(world.act, world.bob.pk, "queries") == (10, 0, 0)  # a question asked elsewhere is none of ours


def test_a_plan_that_counts_conversations_or_messages_counts_recorded_ones(world, program):
    """S2 and S3."""
    entitle(world.act, world.bob, ("conversations", "month", 1), features={"unit": "conversations"})
    first, second = program.begin(), program.begin()
    entitle(world.act, world.bob, ("messages", "month", 1), features={"unit": "messages"})
    talk = first.json()["id"]
    codes = [program.say(talk, said).status_code for said in (SAID, {**SAID, "role": "user"}, SAID)]

    assert (first.status_code, second.status_code) == (201, 402)
    assert second.json()["reason"] == "user_conversations_used_up"
    assert codes == [201, 201, 402]
    assert numbers(world.act, world.bob.pk, "messages") == (1, 1, 0)


def test_more_than_the_brand_has_left_is_refused_and_nothing_is_stored(world, program):
    talk = program.begin().json()["id"]
    before = stands()
    refused = program.say(talk, {**SAID, "tokens_used": 2_000_001})

    assert (refused.status_code, refused.json()["code"], refused.json()["meter"]) == (402, "quota_exceeded", "tokens")
    assert refused.json()["request_id"]
    assert stands()[:-1] == before[:-1]  # but for the news of it


def test_an_empty_pool_begins_no_conversation(world, program):
    """S0: "Creates a conversation with initial quota validation"."""
    talk = program.begin().json()["id"]
    assert program.say(talk, {**SAID, "tokens_used": 2_000_000}).status_code == 201

    refused = program.begin()

    assert (refused.status_code, refused.json()["reason"]) == (402, "brand_tokens_used_up")


@pytest.mark.parametrize(
    "body",
    [
        "{",
        "[]",
        {},
        {**SAID, "tokens_used": -1},
        {**SAID, "tokens_used": 2**63},
        {**SAID, "tokens_used": 1.5},
        {**SAID, "tokens_used": True},
        {**SAID, "tokens_used": "12"},
        {**SAID, "role": "function"},
        {**SAID, "role": 7},
        {**SAID, "content": ""},
        {**SAID, "content": "a\u0000b"},
        {**SAID, "content": ["x"]},
        {**SAID, "model": "m" * 81},
        {**SAID, "metadata": []},
        {**SAID, "metadata": {"a": "\u0000"}},
        {**SAID, "metadata": {"a": "x" * 16_001}},
        {**SAID, "cost_usd": 0},
        {**SAID, "owner_id": "00000000-0000-0000-0000-000000000000"},
        '{"role": "user", "content": "a", "content": "b"}',
        '{"role": "user", "content": "a", "tokens_used": NaN}',
    ],
    ids=lambda body: repr(body)[:60].replace("\x00", "NUL"),
)
def test_a_body_that_cannot_be_honoured_is_refused_in_words(world, program, body):
    """Q-26: what it costs is not asked for, so it is not taken."""
    talk = program.begin().json()["id"]
    before = stands()
    refused = program.say(talk, body)

    assert refused.status_code == 400
    assert refused.json()["detail"]
    assert stands() == before


@pytest.mark.parametrize(
    "body",
    [
        {"title": "t" * 201},
        {"title": 3},
        {"settings": {"temperature": 3}},
        {"settings": {"max_tokens": 0}},
        {"settings": {"tools": []}},
        {"settings": "warm"},
        {"system_prompt": "p" * 32_001},
        {"user_id": "x"},
    ],
    ids=lambda body: repr(body)[:60].replace("\x00", "NUL"),
)
def test_a_conversation_is_not_begun_with_what_it_could_not_go_on_with(world, program, body):
    before = stands()

    assert program.begin(**body).status_code == 400
    assert stands() == before


def test_who_may_record_what(world, program):
    """I-04: another member's conversation, and another brand's, are as unknown as one that never was."""
    of_alice = factories.make_conversation(world.act, world.alice).pk
    of_charlie = factories.make_conversation(world.globex, world.charlie).pk
    in_the_bin = factories.make_conversation(world.act, world.bob).pk
    own = factories.make_conversation(world.act, world.bob).pk
    with scope(SERVICE):
        Conversation.objects.filter(pk=in_the_bin).update(deleted_at=Conversation.objects.get(pk=own).created_at)
    before = stands()

    told = {program.say(talk, SAID).content for talk in (of_alice, of_charlie, in_the_bin)}
    codes = [program.say(talk, SAID).status_code for talk in (of_alice, of_charlie, in_the_bin, uuid4())]
    reader = Program(world.act, world.bob, "conversations:read", "conversations:write", "chat")
    narrow = [reader.say(own, SAID), reader.begin()]
    session = Client(headers={"host": "act.localhost"})
    session.force_login(world.bob)
    by_session = session.post("/api/v1/conversations", "{}", content_type="application/json")

    assert codes == [404] * 4
    assert len({json.loads(one)["detail"] for one in told}) == 1
    assert [answer.status_code for answer in narrow] == [403, 403]
    assert "messages:record" in narrow[0].json()["detail"]
    assert by_session.status_code == 401
    assert "Bearer" in by_session.headers["WWW-Authenticate"]
    assert stands()[:5] == before[:5]
    wrong_method = Client().put("/api/v1/conversations", headers=program.headers)
    assert (wrong_method.status_code, wrong_method.headers["Allow"]) == (405, "GET, POST, HEAD")
    assert wrong_method.json()["code"] == "method_not_allowed"


def test_the_same_key_records_once(world, program):
    """Q-12"""
    talk = program.begin().json()["id"]
    first, again = (program.say(talk, SAID, key="k-1") for _ in range(2))
    other = program.say(talk, {**SAID, "tokens_used": 1}, key="k-1")
    twice = [program.post("/api/v1/conversations", {"title": "One"}, key="k-1").json()["id"] for _ in range(2)]

    assert (first.status_code, again.status_code, other.status_code) == (201, 201, 422)
    assert first.json() == again.json()
    assert twice[0] == twice[1]
    assert pool(world) == (150, 0)


def test_a_refusal_gives_the_key_back(world, program):
    talk = program.begin().json()["id"]
    entitle(world.act, world.bob, ("messages", "month", 0), features={"unit": "messages"})
    refused = program.say(talk, SAID, key="k-1")
    entitle(world.act, world.bob, ("messages", "month", 1), features={"unit": "messages"})

    assert (refused.status_code, program.say(talk, SAID, key="k-1").status_code) == (402, 201)


@pytest.mark.django_db(transaction=True)
def test_at_one_left_ten_at_once_record_one(live_world):
    """Q-02, on the real log-ins; and ten with one key are one."""
    program = Program(live_world.act, live_world.bob)
    talk = program.begin().json()["id"]
    entitle(live_world.act, live_world.bob, ("messages", "month", 2), features={"unit": "messages"})
    same = together(10, lambda _: program.say(talk, SAID, key="k-1").status_code)
    apart = together(10, lambda _: program.say(talk, SAID).status_code)

    assert set(same) <= {201, 409}
    assert 201 in same
    assert sorted(apart) == [201] + [402] * 9
    with scope(SERVICE):
        assert Message.objects.filter(conversation_id=talk).count() == 2
    prove(live_world)


@pytest.mark.parametrize("written", ["\\u0000", "x\\\\u0000"])
def test_metadata_may_say_the_letters_of_what_it_may_not_hold(program, written):
    """A program's own text about NUL is no NUL."""
    begun = program.begin().json()["id"]

    answer = program.say(begun, {**SAID, "metadata": {"a": written}})

    assert (answer.status_code, answer.json()["metadata"]) == (201, {"a": written})
