"""The buttons of a message at the server: a double click is one, nonsense nothing, and the path stays whole in a race."""

import threading
from uuid import uuid4

import pytest
from django.db import IntegrityError, connections
from django.db.models import F
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from conversations.chats import branches
from conversations.engine import beginning
from conversations.engine.turns import Branch, Question
from conversations.models import Conversation, Message, Turn
from lib.db import LEAVE, SERVICE, close_all, scope
from lib.errors import Conflict
from providers import offers
from tests import factories
from tests.conversations.test_reaper import wait_for_a_lock
from tests.conversations.test_turns import finish
from tests.quotas.proofs import numbers, prove, together

BESIDE = {"host": "act.localhost", "hx-request": "true"}


@pytest.fixture
def chat(world):
    offers.forget()
    said = [("user", "One?"), ("assistant", "First."), ("user", "Two?"), ("assistant", "Second.")]
    made = factories.make_conversation(world.act, world.alice, said=said)
    with scope(SERVICE):
        messages = list(Message.objects.filter(conversation=made).order_by("id"))
    yield messages
    offers.forget()
    prove(world)


def test_the_same_press_twice_is_one_turn_and_another_answer_costs_one_statement_more_than_a_question(
    world, client, chat
):
    """Q-12, DESIGN 8: the key of a page is each message's own."""
    client.force_login(world.alice)
    finish(
        beginning.begin(factories.member(world.act, world.alice), world.act, Question(text="The first in this window."))
    )
    client.get(f"/messages/{chat[3].pk}/", headers=BESIDE)
    with CaptureQueriesContext(connections["default"]) as asked:
        first = client.post(f"/messages/{chat[3].pk}/again/", {"idempotency_key": "k"}, headers=BESIDE)
    sent = list(asked)  # the next request empties the log
    repeat = client.post(f"/messages/{chat[3].pk}/again/", {"idempotency_key": "k"}, headers=BESIDE)
    other = client.post(f"/messages/{chat[1].pk}/again/", {"idempotency_key": "k"}, headers=BESIDE)

    assert (first.status_code, repeat.status_code) == (200, 200)
    assert other.status_code in (200, 409), (
        "another message is another request, and may come while an answer is written"
    )
    assert 'id="thread"' in first.content.decode()
    of_the_test = ("BEGIN", "COMMIT", "SAVEPOINT", "RELEASE", LEAVE.strip())
    told = [query["sql"].strip() for query in sent if not query["sql"].strip().startswith(of_the_test)]
    begin = told[: next(n for n, sql in enumerate(told) if "insert into conversations_turn" in sql) + 2]
    print(f"\nanother answer: {len(begin)} statements")
    assert "set is_current = not is_current" in begin[-1]
    assert len(begin) <= 10 + 1, [sql[:70] for sql in begin]
    with scope(SERVICE):
        assert Turn.objects.count() == 2 + (other.status_code == 200)


def test_nonsense_is_refused_and_changes_nothing(world, client, chat):
    """F-02: for pages and for JavaScript alike."""
    client.force_login(world.alice)
    for address, fields in (
        ("again", {"provider": "x"}),
        ("again", {"provider": str(uuid4())}),
        ("again", {"idempotency_key": "a\0b"}),
        ("again", {"idempotency_key": "k" * 300 + "\ud800"}),
        ("edit", {"text": "x"}),
        ("version", {"by": "2"}),
        ("version", {}),
        ("rate", {"rating": "9"}),
        ("rate", {"rating": "1", "reason": "\0"}),
        ("correct", {"text": "\0"}),
        ("correct", {"text": "x" * 20_001}),
    ):
        for headers in (BESIDE, {"host": "act.localhost"}):
            body = "&".join(f"{name}={value}" for name, value in fields.items()).encode("utf-8", "surrogatepass")
            answer = client.post(
                f"/messages/{chat[3].pk}/{address}/", body, "application/x-www-form-urlencoded", headers=headers
            )
            assert 400 <= answer.status_code < 500 or fields.get("idempotency_key", "").startswith("kk"), (
                address,
                fields,
            )
    for address, fields in (("edit", {"text": ""}), ("edit", {"text": "a\0"}), ("again", {}), ("continue", {})):
        assert 400 <= client.post(f"/messages/{chat[2].pk}/{address}/", fields, headers=BESIDE).status_code < 500
    with scope(SERVICE):
        assert Message.objects.filter(conversation_id=chat[0].conversation_id, is_current=True).count() >= 2


def test_a_link_to_a_message_on_another_version_offers_it_and_shows_it_when_asked(world, client, chat):
    """UX 7: looking changes nothing; one press turns to the version that has the message, wherever it branched off."""
    client.force_login(world.alice)
    begun = beginning.begin(
        factories.member(world.act, world.alice), world.act, Question(text="1?", branch=Branch(Branch.EDIT, chat[0].pk))
    )
    finish(begun, text="Other.")
    host, hidden = {"host": "act.localhost"}, chat[1].pk
    link = f"/c/{chat[0].conversation_id}/?message={hidden}"
    show = f'action="/messages/{hidden}/version/"'

    def path():
        with scope(SERVICE):
            rows = Message.objects.filter(conversation_id=chat[0].conversation_id, is_current=True)
            return list(rows.order_by("id").values_list("content", flat=True))

    page = client.get(link, headers=host).content.decode()
    assert (show in page, f'id="message-{hidden}"' in page, path()) == (True, False, ["1?", "Other."])
    for _ in range(2):  # twice is once
        pressed = client.post(f"/messages/{hidden}/version/", {"by": "0"}, headers=host)
        assert (pressed.status_code, pressed.url) == (303, f"{link}#message-{hidden}")
        assert path() == ["One?", "First.", "Two?", "Second."]
    page = client.get(pressed.url, headers=host).content.decode()
    assert (show in page, f'id="message-{hidden}"' in page) == (False, True)
    client.force_login(world.bob)
    assert client.post(f"/messages/{hidden}/version/", {"by": "0"}, headers=host).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_the_path_stays_one_line_whatever_is_pressed_at_once(live_world):
    """S-05-like: answers begun, turned over and gone on with in many tabs; and one answer at a time all the while."""
    offers.forget()
    alice = factories.member(live_world.act, live_world.alice)
    first = beginning.begin(alice, live_world.act, Question(text="One?"))
    finish(first, text="First.")
    chat = first.conversation_id

    def press(number):
        if number % 3 == 0:
            return branches.turn_over(alice, first.answer_id, number % 2 or -1)
        asked = Question(branch=Branch(Branch.AGAIN, first.answer_id))
        if number % 3 == 1:
            asked = Question(text=f"n{number}", conversation_id=chat)
        begun = beginning.begin(alice, live_world.act, asked, key=str(uuid4()))
        return finish(begun, text=f"a{number}")

    for _ in range(3):
        outcomes = together(9, press)
        assert [one for one in outcomes if isinstance(one, Exception) and not isinstance(one, Conflict)] == []
        with scope(SERVICE):
            path = list(Message.objects.filter(conversation_id=chat, is_current=True).order_by("id"))
        assert [row.parent_id for row in path] == [None, *(row.pk for row in path[:-1])]
    prove(live_world)
    assert numbers(live_world.act, live_world.alice.pk, "queries")[2] == 0
    offers.forget()


@pytest.mark.django_db(transaction=True)
def test_the_end_of_an_answer_waits_for_whoever_has_its_chat_and_holds_nothing_meanwhile(live_world, monkeypatch):
    """S-05-like: the end held turn and message before it asked for the chat, so each stood in the other's way."""
    offers.forget()
    alice = factories.member(live_world.act, live_world.alice)
    first = beginning.begin(alice, live_world.act, Question(text="One?"))
    finish(first, text="First.")
    end_of = branches._end_of

    def while_it_ends(begun, then):
        """Have the chat, let the answer's end come to wait for it, and only then do what needs the answer's rows."""
        outcome = []
        ending = threading.Thread(target=lambda: (outcome.append(finish(begun, text="Other.")), close_all()))
        ending.start()
        wait_for_a_lock("transactionid")
        try:
            return then()
        finally:
            ended.append((ending, outcome))

    def again():
        asked = Question(branch=Branch(Branch.AGAIN, first.answer_id))
        return beginning.begin(alice, live_world.act, asked, key=str(uuid4()))

    def ask_at_once(running):
        with scope(alice):
            Conversation.objects.filter(pk=running.conversation_id).update(message_count=F("message_count") + 2)
            at = {"provider_id": running.offer.id, "heartbeat_at": timezone.now()}
            own = {"brand": live_world.act, "owner_id": alice.owner_id, "conversation_id": running.conversation_id}
            while_it_ends(running, lambda: Turn.objects.create(**own, **at))

    ended, begun = [], again()
    monkeypatch.setattr(branches, "_end_of", lambda *told: while_it_ends(begun, lambda: end_of(*told)))
    branches.turn_over(alice, begun.answer_id, -1)
    begun = again()
    with pytest.raises(IntegrityError, match="one_running_turn"):
        ask_at_once(begun)
    for thread, outcome in ended:
        thread.join(30)
        assert [one.text for one in outcome] == ["Other."]
    prove(live_world)
    offers.forget()


def test_an_answer_that_a_process_keeps_drawn_speaks_the_language_of_each_reader(world, client):
    chat = factories.make_conversation(world.act, world.alice, said=[("assistant", "```\nx\n```")])
    client.force_login(world.alice)

    for language, copy in (("en", ">Copy<"), ("de", ">Kopieren<"), ("en", ">Copy<")):
        page = client.get(f"/c/{chat.pk}/", headers={"host": "act.localhost", "accept-language": language})
        assert copy in page.content.decode(), language
