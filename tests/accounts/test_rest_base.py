"""What every address of /api/v1/ has: who asks, strict input, ETags, and pages (accounts.rest)."""

import json

import pytest
from django.test import Client

from conversations.models import Conversation
from events.models import Activity
from lib.db import SERVICE, scope
from tests import factories
from tests.conversations.test_rest import Rest

HOST = {"host": "act.localhost"}


@pytest.fixture
def bob(world):
    with scope(SERVICE):
        from billing.models import Plan
        from billing.plans import assign_plan

        assign_plan(world.act, Plan.objects.get(brand=world.act, code="pro"), user_id=world.bob.pk)
    return Rest(world.act, world.bob)


def test_a_session_changes_only_what_a_page_of_ours_asks_it_to(world, bob):
    """A-06: no token, a wrong one, another site's Origin; then JSON that says it is text. A key needs none of it."""
    chat = factories.make_conversation(world.act, world.bob, "Towers")
    path = f"/api/v1/conversations/{chat.pk}"
    browser = Client(enforce_csrf_checks=True, headers=HOST)
    browser.force_login(world.bob)
    browser.get("/c/")
    token = browser.cookies["csrftoken"].value

    def change(kind="application/json", **headers):
        return browser.patch(path, json.dumps({"title": "High towers"}), content_type=kind, headers=headers)

    for refused in (
        change(),
        change(**{"x-csrftoken": "a" * 32}),
        change(**{"x-csrftoken": token, "origin": "https://evil.example"}),
    ):
        assert (refused.status_code, refused.json()["code"]) == (403, "csrf_failed")
    assert change("text/plain", **{"x-csrftoken": token}).status_code == 415
    assert browser.post(f"{path}/archive").status_code == 403
    assert (
        browser.post("/api/v1/chat", json.dumps({"message": "x"}), content_type="application/json").status_code == 403
    )
    assert bob("PATCH", f"conversations/{chat.pk}", {"title": "By key"}).json()["title"] == "By key"
    assert change(**{"x-csrftoken": token}).json()["title"] == "High towers"
    assert browser.get(path).json()["title"] == "High towers"


@pytest.mark.parametrize(
    "body",
    [
        b"", b"null", b"[]", b"{", b'{"title":"a","title":"b"}', b'{"title":NaN}', b'{"title":"\\u0000"}',
        b'{"title":"\\ud800"}', b'{"title":"\xff"}', b'{"title":' + b"[" * 100 + b"]" * 100 + b"}",
        b'{"title":' + b"9" * 5000 + b"}", b'{"title":1}', b'{"titel":"x"}', b'{"settings":{"top_p":2}}',
        b'{"settings":{"top_k":2}}', b'{"settings":{"max_tokens":true}}', b'{"settings":{"max_tokens":1.5}}',
    ],
)  # fmt: skip
def test_a_body_that_makes_no_sense_is_refused_and_nothing_is_stored(world, bob, body):
    """F-02"""
    path = "/api/v1/conversations"
    answer = Client().post(path, body, content_type="application/json", headers=bob.headers)

    assert answer.status_code == (201 if body == b"" else 400)
    if body:
        assert {"code", "detail", "request_id"} <= answer.json().keys()
        with scope(SERVICE):
            assert not Conversation.objects.exists()


def test_an_object_has_a_tag_and_nobody_overwrites_what_he_has_not_seen(world, bob):
    chat = factories.make_conversation(world.act, world.bob, "Towers")
    path = f"conversations/{chat.pk}"
    seen = bob.get(path)
    tag = seen.headers["ETag"]

    assert bob("GET", path, **{"if-none-match": tag}).status_code == 304
    assert bob("GET", path, **{"if-none-match": f'"other", W/{tag}'}).content == b""
    first = bob("PATCH", path, {"title": "Mine"}, **{"if-match": tag})
    second = bob("PATCH", path, {"title": "Also mine"}, **{"if-match": tag})
    assert (first.status_code, second.status_code, second.json()["code"]) == (200, 412, "changed_meanwhile")
    assert first.headers["ETag"] == bob.get(path).headers["ETag"] != tag
    assert bob("DELETE", path, **{"if-match": tag}).status_code == 412
    assert bob("GET", path, **{"if-none-match": tag}).json()["title"] == "Mine"
    assert bob("DELETE", path, **{"if-match": first.headers["ETag"]}).status_code == 204


def test_a_program_says_which_fields_it_wants_and_what_is_unknown_is_refused(world, bob):
    factories.make_conversation(world.act, world.bob, "Towers")

    assert bob.get("conversations?fields=id,title").json()[0].keys() == {"id", "title"}
    for query in (
        "fields=id,secret",
        "limit=5&limit=6",
        "nothing=1",
        "limit=%D9%A1",
        "limit=1.0",
        "limit=201",
        "after=%00",
    ):
        answer = bob.get(f"conversations?{query}")
        assert (answer.status_code, "param" in answer.json() or "after" in query) == (400, True), query
    own = bob("GET", "chat-history", **{"x-request-id": "my-own-request-1"})
    assert own.headers["X-Request-Id"] == "my-own-request-1"
    assert bob("PUT", "chat-history").headers["Allow"] == "GET, HEAD"


def test_an_admin_lists_anothers_conversations_and_the_log_says_so(world, bob):
    """S0 listConversations() by user: for admins and owners, each reading with a line in the activity log."""
    factories.make_conversation(world.act, world.bob, "Towers")
    factories.make_conversation(world.globex, world.charlie, "Secret")
    alice = Client(headers=HOST)
    alice.force_login(world.alice)

    def of(user):
        return alice.get(f"/api/v1/conversations?user={user.pk}").json()

    assert [row["title"] for row in of(world.bob)] == ["Towers"]
    assert of(world.charlie) == []
    assert Rest(world.act, world.alice).get(f"conversations?user={world.bob.pk}").status_code == 403, "a key"
    here = Client(headers=HOST)
    here.force_login(world.bob)
    assert here.get(f"/api/v1/conversations?user={world.alice.pk}").status_code == 404
    with scope(SERVICE):
        lines = Activity.objects.filter(brand=world.act, actor_id=world.alice.pk, changes__has_key="owner")
        assert {line.changes["owner"] for line in lines} == {str(world.bob.pk), str(world.charlie.pk)}
