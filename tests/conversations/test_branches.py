"""What one can do with a message: ask for another answer, edit a question, go on, turn over, delete and take back."""

from datetime import timedelta
from uuid import uuid4

import pytest
from django.utils import timezone

from conversations.chats import branches, judging, reading, withdrawing
from conversations.engine import beginning, finishing, turns
from conversations.engine.turns import Branch, Question
from conversations.models import Conversation, Correction, Feedback, Message, Turn
from events.models import Event
from lib.db import SERVICE, scope
from lib.errors import Conflict, Invalid, NotFound
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

    def __init__(self, alice, brand, stranger):
        self.alice, self.brand, self.stranger, self.chat = alice, brand, stranger, None

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
    return Talk(alice, world.act, factories.member(world.act, world.bob))


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
    with pytest.raises(NotFound):
        Talk(talk.stranger, world.act, talk.alice).begin(Branch.AGAIN, first.answer_id)
    running = talk.begin(Branch.AGAIN, first.answer_id)
    with pytest.raises(Conflict):
        talk.begin(Branch.AGAIN, running.answer_id)
    with pytest.raises(Conflict, match="still being written"):
        talk.begin(Branch.EDIT, first.question_id, text="Other?")
    finish(running)


def test_turning_over_shows_another_version_with_what_followed_it(talk):
    """Twice is once, because a press names the message that it was pressed on; at the ends nothing changes."""
    first = talk.ask("One?", "First.")
    talk.ask("Two?", "Second.")
    other = talk.begin(Branch.AGAIN, first.answer_id)
    finish(other, text="Other first.")

    for _ in range(2):
        assert branches.turn_over(talk.alice, other.answer_id, -1) == talk.chat
        assert talk.path() == ["One?", "First.", "Two?", "Second."]
    with scope(talk.alice):
        places = {row["content"]: (row.get("n"), row.get("of")) for row in reading.messages(talk.alice, talk.chat)}
    assert places == {"One?": (None, None), "First.": (1, 2), "Two?": (None, None), "Second.": (None, None)}
    branches.turn_over(talk.alice, first.answer_id, -1)
    assert talk.path()[1] == "First."
    branches.turn_over(talk.alice, first.answer_id, 1)
    assert talk.path() == ["One?", "Other first."]
    with pytest.raises(NotFound):
        branches.turn_over(talk.stranger, first.answer_id, 1)


def test_a_deleted_message_is_gone_everywhere_but_from_the_bill_and_can_be_taken_back(talk):
    first = talk.ask("My secret?", "It is kept.")
    second = talk.ask("Two?", "Second.")
    with scope(SERVICE):
        cost = Message.objects.get(pk=first.answer_id).tokens_used
        Message.objects.filter(pk=first.question_id).update(
            metadata={"parts": []}, files=[{"name": "x"}], file_text="y"
        )

    for _ in range(2):
        withdrawing.delete(talk.alice, first.question_id)
        withdrawing.delete(talk.alice, first.answer_id)
    assert talk.path() == ["", "", "Two?", "Second."]
    following = beginning.begin(talk.alice, talk.brand, Question(text="Three?", conversation_id=talk.chat))
    assert told(following) == ["Two?", "Second.", "Three?"]
    finish(following, text="Third.")
    with pytest.raises(Conflict, match="was deleted"):
        talk.begin(Branch.AGAIN, first.answer_id)
    with scope(SERVICE):
        row = Message.objects.get(pk=first.question_id)
        assert (row.files, row.file_text, row.metadata) == ([], "", {})
        assert Message.objects.get(pk=first.answer_id).tokens_used == cost

    for _ in range(2):
        withdrawing.restore(talk.alice, first.question_id)
    with scope(SERVICE):
        row = Message.objects.get(pk=first.question_id)
        assert (row.content, row.files, row.file_text, row.withdrawn) == ("My secret?", [{"name": "x"}], "y", None)
        Message.objects.filter(pk=first.answer_id).update(deleted_at=timezone.now() - timedelta(minutes=2))
    assert withdrawing.forget() == 1
    with pytest.raises(Conflict, match="more than a minute ago"):
        withdrawing.restore(talk.alice, first.answer_id)
    with scope(SERVICE):
        assert not Message.objects.exclude(withdrawn=None).exists()
    with pytest.raises(NotFound):
        withdrawing.delete(talk.stranger, second.answer_id)
    with scope(SERVICE):
        told_of = Event.objects.filter(type__in=["message.deleted", "message.restored"]).order_by("id")
        assert [event.type for event in told_of] == ["message.deleted"] * 2 + ["message.restored"]


def test_what_is_being_written_cannot_be_deleted_and_the_reaper_brings_nothing_back(talk):
    running = beginning.begin(talk.alice, talk.brand, Question(text="Go on."))
    talk.chat = running.conversation_id
    with pytest.raises(Conflict, match="still being written"):
        withdrawing.delete(talk.alice, running.answer_id)
    finish(running, text="Half", status="interrupted")
    withdrawing.delete(talk.alice, running.answer_id)
    finishing.as_ended(running.turn_id, text="Half of it")
    assert talk.path() == ["Go on.", ""]


def test_a_rating_can_be_changed_and_taken_back_and_a_correction_waits_for_the_brand(talk):
    """S3 feedback_rating and corrections: one of each for an answer, the last word counts."""
    answer = talk.ask("One?", "Wrong.").answer_id
    for rating in (1, 1, -1):
        judging.rate(talk.alice, answer, rating)
    for text in ("Right", "Right.", "Right."):
        judging.correct(talk.alice, answer, text)
    with scope(SERVICE):
        (said,) = Feedback.objects.all()
        (correction,) = Correction.objects.all()
        row = Message.objects.get(pk=answer)
        assert (said.rating, row.feedback_rating, row.was_corrected) == (-1, -1, True)
        assert (correction.original_response, correction.corrected_response) == ("Wrong.", "Right.")
        assert (correction.status, row.correction_id) == ("pending", correction.pk)
        told = Event.objects.filter(type__in=["message.rated", "correction.created"]).order_by("id")
        assert [event.type for event in told] == ["message.rated", "message.rated", "correction.created"]
        assert not any("Right" in str(event.data) for event in told), "never content"
    judging.rate(talk.alice, answer, 0)
    judging.correct(talk.alice, answer, "")
    with scope(SERVICE):
        assert not Feedback.objects.exists()
        assert not Correction.objects.exists()
        row = Message.objects.get(pk=answer)
        assert (row.feedback_rating, row.was_corrected, row.correction_id) == (None, False, None)
    judging.correct(talk.alice, answer, "Right.")
    with scope(SERVICE):
        Correction.objects.update(status="approved")
    with pytest.raises(Conflict):
        judging.correct(talk.alice, answer, "Left.")
    for wrong in (
        lambda: judging.rate(talk.alice, answer, 5),
        lambda: judging.correct(talk.alice, answer, "x" * 20_001),
    ):
        with pytest.raises(Invalid):
            wrong()
    with pytest.raises(NotFound):
        judging.rate(talk.stranger, answer, 1)
