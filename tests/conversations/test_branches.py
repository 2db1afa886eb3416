"""What one can do with a message: ask for another answer, edit a question, go on, turn over, delete and take back."""

from uuid import uuid4

import pytest

from conversations import beginning, turns
from conversations.models import Conversation, Message, Turn
from conversations.turns import Branch, Question
from lib.db import SERVICE, scope
from lib.errors import Conflict, NotFound
from providers import offers
from tests import factories
from tests.conversations.test_turns import finish
from tests.quotas.proofs import prove


@pytest.fixture
def world(world):
    offers.forget()
    yield world
    offers.forget()
    prove(world)


@pytest.fixture
def alice(world):
    return factories.member(world.act, world.alice)


class Talk:
    """A chat of alice's, told by its texts."""

    def __init__(self, alice, brand):
        self.alice, self.brand, self.chat = alice, brand, None

    def ask(self, text, answer, **fields):
        begun = beginning.begin(
            self.alice, self.brand, Question(text=text, conversation_id=self.chat), key=str(uuid4())
        )
        finish(begun, text=answer, **fields)
        self.chat = begun.conversation_id
        return begun

    def begin(self, way, message_id, **fields):
        asked = Question(branch=Branch(way, message_id), **fields)
        return beginning.begin(self.alice, self.brand, asked, key=str(uuid4()), route=way)

    def path(self):
        with scope(SERVICE):
            rows = Message.objects.filter(conversation_id=self.chat, is_current=True).order_by("id")
            return [row.content for row in rows]

    def all(self):
        with scope(SERVICE):
            return set(Message.objects.filter(conversation_id=self.chat).values_list("content", flat=True))


@pytest.fixture
def talk(alice, world):
    return Talk(alice, world.act)


def told(begun):
    return [message["content"] for message in begun.call.messages if message["role"] != "system"]


def test_another_answer_stands_beside_the_first_and_is_one_more_question_on_the_bill(talk):
    """Q-30: its own hold, its own charge; what followed the first answer stays."""
    first = talk.ask("One?", "First.")
    talk.ask("Two?", "Second.")
    begun = talk.begin(Branch.AGAIN, first.answer_id)

    assert told(begun) == ["One?"]
    assert (begun.question_id, begun.versions) == (None, 2)
    assert talk.path() == ["One?", ""]
    assert finish(begun, text="Other first.").is_charged
    assert talk.path() == ["One?", "Other first."]
    assert talk.all() == {"One?", "First.", "Two?", "Second.", "Other first."}
    talk.ask("Three?", "Third.")
    assert talk.path() == ["One?", "Other first.", "Three?", "Third."]
    with scope(SERVICE):
        chat = Conversation.objects.get(pk=talk.chat)
        assert chat.message_count == 7
        assert Turn.objects.get(pk=begun.turn_id).sent["history"] == [str(first.question_id)]


def test_an_edited_question_stands_beside_the_first_also_at_the_very_beginning(talk):
    first = talk.ask("One?", "First.")
    second = talk.ask("Two?", "Second.")
    edited = talk.begin(Branch.EDIT, second.question_id, text="Two, please?")
    assert told(edited) == ["One?", "First.", "Two, please?"]
    finish(edited, text="Other second.")
    assert talk.path() == ["One?", "First.", "Two, please?", "Other second."]

    root = talk.begin(Branch.EDIT, first.question_id, text="Zero?")
    assert told(root) == ["Zero?"]
    finish(root, text="Nought.")
    assert talk.path() == ["Zero?", "Nought."]
    with scope(SERVICE):
        assert Message.objects.get(pk=root.question_id).parent_id is None
        assert Message.objects.get(pk=root.question_id).edited_from_id == first.question_id
    talk.ask("Next?", "Last.")
    assert talk.path() == ["Zero?", "Nought.", "Next?", "Last."]


def test_an_answer_that_was_cut_off_is_gone_on_with_and_nothing_of_it_is_lost(talk):
    """The first one stays as it was; what is new begins with it, and only what is new is counted and charged."""
    first = talk.ask("Count.", "One, two, thr", status="stopped")
    begun = talk.begin(Branch.ON, first.answer_id)

    assert told(begun)[:2] == ["Count.", "One, two, "]
    assert begun.so_far == "One, two, "
    with scope(SERVICE):
        assert Turn.objects.get(pk=begun.turn_id).partial == "One, two, "  # should we die now, the reaper stores this
    turns.checkpoint([(begun.turn_id, "One, two, three", 1)])
    assert finish(begun, text="One, two, three, four.", own=3).completion_tokens == 3
    assert talk.path() == ["Count.", "One, two, three, four."]
    assert "One, two, thr" in talk.all()


def test_what_cannot_be_branched_from_is_refused_in_words_and_holds_nothing(talk, world):
    first = talk.ask("One?", "", status="failed", own=0)
    for way, message_id, refusal in (
        (Branch.AGAIN, first.question_id, NotFound),
        (Branch.EDIT, first.answer_id, NotFound),
        (Branch.AGAIN, uuid4(), NotFound),
        (Branch.ON, first.answer_id, Conflict),
    ):
        with pytest.raises(refusal):
            talk.begin(way, message_id, text="x")
    other = Talk(factories.member(world.act, world.bob), world.act)
    other.chat = talk.chat
    with pytest.raises(NotFound):
        other.begin(Branch.AGAIN, first.answer_id)
    running = talk.begin(Branch.AGAIN, first.answer_id)
    with pytest.raises(Conflict):
        talk.begin(Branch.AGAIN, running.answer_id)
    with pytest.raises(Conflict, match="still being written"):
        talk.begin(Branch.EDIT, first.question_id, text="Other?")
    finish(running)
