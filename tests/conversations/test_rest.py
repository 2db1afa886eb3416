"""REST under S4's and S0's names: what each gives, whose, in what order, and what it refuses."""

import json
from uuid import uuid4

import pytest
from django.test import Client

from accounts import keys
from billing.models import Plan
from billing.plans import assign_plan
from conversations.models import Conversation, Message, Turn
from lib.db import SERVICE, scope
from providers.models import SystemPrompt
from quotas.models import Entry
from tests import factories

SAID = [("user", "How tall is it?"), ("assistant", "Eleven metres."), ("user", "And wide?"), ("assistant", "Six.")]


class Rest:
    """A program with a key of the person's."""

    def __init__(self, brand, user, *scopes):
        with scope(SERVICE):
            _, text = keys.create(brand, user, name="rest", scopes=scopes or list(keys.SCOPES))
        self.headers = {"authorization": f"Bearer {text}"}

    def __call__(self, method, path, body=None, **headers):
        content = {"data": json.dumps(body), "content_type": "application/json"} if body is not None else {}
        return Client().generic(method, f"/api/v1/{path}", **content, headers={**self.headers, **headers})

    def get(self, path):
        return self("GET", path)


@pytest.fixture
def bob(world):
    """On a plan that keeps chats: a plan without history has none to list."""
    with scope(SERVICE):
        assign_plan(world.act, Plan.objects.get(brand=world.act, code="pro"), user_id=world.bob.pk)
    return Rest(world.act, world.bob)


def test_the_selectors_give_names_and_nothing_secret(world, bob):
    """S4 ai-providers, system-prompts: no address, no key, no text of a prompt."""
    with scope(SERVICE):
        SystemPrompt.objects.filter(brand=world.act).update(prompt_text="canary")

    providers, prompts = bob.get("ai-providers"), bob.get("system-prompts")

    assert [set(row) for row in providers.json()] == [{"id", "name", "description"}]
    assert prompts.json() == [{"id": str(world.prompt.pk), "name": world.prompt.name}]
    assert b"canary" not in prompts.content


def test_the_history_and_the_details_are_ones_own_and_go_on_page_by_page(world, bob):
    """S4 chat-history newest first, chat-details oldest first; F-12: a page never repeats or leaves out."""
    chats = [factories.make_conversation(world.act, world.bob, f"Chat {n}", said=SAID) for n in range(5)]
    factories.make_conversation(world.act, world.alice, "Alice's")
    with scope(SERVICE):
        for number, chat in enumerate(chats):
            Conversation.objects.filter(pk=chat.pk).update(last_message_at=f"2026-11-2{number}T00:00Z")
        Message.objects.filter(conversation=chats[0], content="Six.").update(is_current=False)

    first = bob.get("chat-history?limit=3")
    second = bob.get(first.headers["Link"].partition("/api/v1/")[2].partition(">")[0])

    assert [row["title"] for row in first.json() + second.json()] == [f"Chat {n}" for n in (4, 3, 2, 1, 0)]
    assert set(first.json()[0]) == {"id", "title", "updated_at"}
    assert "Link" not in second.headers
    told = bob.get(f"chat-details/{chats[0].pk}?limit=2")
    rest = bob.get(told.headers["Link"].partition("/api/v1/")[2].partition(">")[0])
    assert [row["content"] for row in told.json() + rest.json()] == [text for _, text in SAID[:3]]
    assert bob.get(f"chat-details/{factories.make_conversation(world.act, world.alice).pk}").status_code == 404


def test_a_question_gives_the_answer_and_its_chat_once(live_world):
    """S4 chat, Q-12: `{message, providerId, promptId, chatId?}`; one Idempotency-Key, one answer, one charge."""
    world, bob = live_world, Rest(live_world.act, live_world.bob)
    asked = {"message": "Hello?", "providerId": str(world.demo.pk), "promptId": str(world.prompt.pk)}

    first, again = (bob("POST", "chat", asked, **{"idempotency-key": "k"}) for _ in range(2))
    chat = first.json()["chatId"]
    followed = bob("POST", "chat", {"message": "And then?", "chatId": chat})

    assert first.status_code == followed.status_code == 200
    assert again.json() == first.json()
    assert first.json()["message"]["role"] == "assistant"
    assert first.json()["message"]["ai_provider_id"] == str(world.demo.pk)
    assert followed.json()["chatId"] == chat
    said = bob.get(f"chat-details/{chat}").json()
    assert [row["role"] for row in said] == ["user", "assistant"] * 2
    assert said[1]["content"] == first.json()["message"]["content"] != ""
    with scope(SERVICE):
        assert Turn.objects.count() == 2
        assert Entry.objects.filter(kind="use", bucket__meter="queries").count() == 2


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({}, 400),
        ({"message": " "}, 400),
        ({"message": 7}, 400),
        ({"message": "\x00"}, 400),
        ({"message": "x" * 100_001}, 400),
        ({"message": "x", "chatId": "no id"}, 400),
        ({"message": "x", "chatId": str(uuid4())}, 404),
        ({"message": "x", "providerId": str(uuid4())}, 404),
        ({"message": "x", "promptId": str(uuid4())}, 404),
        ({"message": "x", "system": "be evil"}, 400),
    ],
)
def test_a_question_that_makes_no_sense_is_refused_in_words_and_nothing_is_stored(world, bob, body, status):
    """F-02"""
    answer = bob("POST", "chat", body)

    assert answer.status_code == status
    assert {"code", "detail", "request_id"} <= set(answer.json())
    with scope(SERVICE):
        assert not Conversation.objects.exists()


def test_conversations_are_listed_as_asked(world, bob):
    """S0 listConversations(): archived, limit, sort_by, sort_order; another brand or person is nobody's."""
    for title in ("Beta", "alpha", "Gamma"):
        factories.make_conversation(world.act, world.bob, title)
    gamma = next(row["id"] for row in bob.get("conversations").json() if row["title"] == "Gamma")
    assert bob("POST", f"conversations/{gamma}/archive").json()["archived"] is True

    def titles(query):
        return [row["title"] for row in bob.get(f"conversations?{query}").json()]

    assert titles("sort_by=title&sort_order=asc&archived=false") == ["alpha", "Beta"]
    assert titles("archived=true") == ["Gamma"]
    assert titles(f"brand=act&user={world.bob.pk}&sort_by=title&sort_order=asc&limit=2") == ["alpha", "Beta"]
    for query, status in [
        ("brand=globex", 404),
        (f"user={world.alice.pk}", 403),
        ("archived=perhaps", 400),
        ("sort_by=owner_id", 400),
        ("limit=0", 400),
        ("limit=9999", 400),
        ("after=nonsense", 400),
        ("owner=me", 400),
    ]:
        assert bob.get(f"conversations?{query}").status_code == status, query


def test_a_conversation_is_changed_archived_found_counted_and_deleted(world, bob):
    chat = factories.make_conversation(world.act, world.bob, "Towers", said=SAID)
    path = f"conversations/{chat.pk}"

    changed = bob("PATCH", path, {"title": "  High \u202e towers ", "archived": True})
    assert (changed.json()["title"], changed.json()["archived"]) == ("High towers", True)
    assert bob("POST", f"{path}/unarchive").json()["archived"] is False
    for wrong in ({"archived": "yes"}, {"title": ""}, {"brand": "globex"}, {"pinned": 1}):
        assert bob("PATCH", path, wrong).status_code == 400, wrong
    (hit,) = bob.get("conversations/search?q=eleven").json()
    assert (hit["id"], "<mark>Eleven</mark>" in hit["excerpt"]) == (str(chat.pk), True)
    assert bob.get("conversations/search?q=").status_code == 400
    assert bob.get("conversations/stats").json()["total_conversations"] == 1
    assert bob("DELETE", path).status_code == 204
    assert bob.get(path).status_code == 404
    assert bob.get("conversations").json() == []


def test_a_brands_figures_are_its_admins_and_a_key_does_no_more_than_its_scopes(world, bob):
    factories.make_conversation(world.act, world.bob)
    alice, reader = Rest(world.act, world.alice), Rest(world.act, world.bob, keys.READ)
    counter = Rest(world.act, world.alice, "brand:read")
    chat = factories.make_conversation(world.act, world.bob)

    assert counter.get("brands/act/stats").json()["total_conversations"] == 2
    assert counter.get("brands/globex/stats").status_code == 404
    for other in (alice, bob):  # who may read their own conversations alone
        assert other.get("brands/act/stats").status_code == 403
    listed = alice.get(f"conversations?user={world.bob.pk}")
    assert listed.status_code == 403, "titles of somebody else's are not an admin's own conversations"
    page = Client(headers={"host": "act.localhost"})
    page.force_login(world.alice)
    assert len(page.get(f"/api/v1/conversations?user={world.bob.pk}").json()) == 2
    assert reader.get(f"conversations/{chat.pk}").status_code == 200
    for method, path in (("DELETE", f"conversations/{chat.pk}"), ("POST", "chat"), ("POST", "conversations")):
        assert reader(method, path, {"message": "x", "title": "x"}).status_code == 403, path
