"""Races on the real log-ins: one turn for one request, one end for one turn, one bill for both."""

from datetime import timedelta

import pytest
from django.utils import timezone

from conversations.engine import beginning, finishing, reaper, turns
from conversations.engine.turns import Question
from conversations.errors import StillAnswering
from conversations.models import Conversation, Message, Turn
from lib.db import SERVICE, scope
from lib.errors import Conflict
from providers import offers
from providers.calls import Usage
from quotas.errors import QuotaExceeded
from quotas.models import Entry, Hold
from tests import factories
from tests.quotas.proofs import entitle, numbers, prove, together


@pytest.fixture
def world(live_world):
    offers.forget()
    yield live_world
    offers.forget()
    prove(live_world)


@pytest.fixture
def alice(world):
    return factories.member(world.act, world.alice)


def unexpected(outcomes, *expected):
    return [one for one in outcomes if isinstance(one, Exception) and not isinstance(one, expected)]


def test_one_key_from_fifty_threads_makes_one_turn_one_pair_of_messages_and_one_hold(world, alice):
    """Q-12: the others get the same turn, or a 409 while it is begun."""
    outcomes = together(50, lambda _: beginning.begin(alice, world.act, Question(text="Once?"), key="k"))

    assert not unexpected(outcomes, Conflict)
    begun = [one for one in outcomes if not isinstance(one, Exception)]
    assert len({one.turn_id for one in begun}) == 1
    assert sum(one.call is not None for one in begun) == 1
    with scope(SERVICE):
        assert (Conversation.objects.count(), Message.objects.count(), Turn.objects.count()) == (1, 2, 1)
        assert Hold.objects.values("reservation").distinct().count() == 1
    assert numbers(world.act, world.alice.pk, "queries")[1:] == (0, 1)


def test_one_key_refused_in_fifty_threads_is_refused_in_words_to_all(world, alice):
    """A claim is given back by one in the moment another meets it: nobody gets a 500."""
    entitle(world.act, world.alice, ("queries", "day", 0))

    outcomes = together(50, lambda _: beginning.begin(alice, world.act, Question(text="Once?"), key="k"))

    assert not unexpected(outcomes, QuotaExceeded, Conflict)
    assert any(isinstance(one, QuotaExceeded) for one in outcomes)
    with scope(SERVICE):
        assert Conversation.objects.count() == Turn.objects.count() == Hold.objects.count() == 0


def test_twenty_questions_at_once_in_one_chat_start_one_answer(world, alice):
    chat = factories.make_conversation(world.act, world.alice)

    asked = Question(text="Me first!", conversation_id=chat.pk)
    outcomes = together(20, lambda number: beginning.begin(alice, world.act, asked, key=f"k{number}"))

    assert not unexpected(outcomes, StillAnswering)
    assert sum(not isinstance(one, Exception) for one in outcomes) == 1
    assert numbers(world.act, world.alice.pk, "queries")[1:] == (0, 1)
    with scope(SERVICE):
        assert Message.objects.count() == 2


def test_runner_and_reapers_end_a_turn_at_the_same_moment_and_one_of_them_does(world, alice, settings):
    """Q-10"""
    settings.TURN_LOST_AFTER_S = 5
    for round_number in range(6):
        begun = beginning.begin(alice, world.act, Question(text="Whose?"))
        turns.checkpoint([(begun.turn_id, "Half", 1)])
        with scope(SERVICE):
            Turn.objects.filter(pk=begun.turn_id).update(heartbeat_at=timezone.now() - timedelta(seconds=6))

        def end(number, begun=begun):
            if number % 3:
                return reaper.reap()
            finished = finishing.finish(
                begun.turn_id,
                status="done",
                text="Half and whole",
                usage=Usage(10, 10),
                offer=begun.offer,
                own_prompt_tokens=begun.prompt_tokens,
                own_completion_tokens=4,
                held_tokens=begun.held_tokens,
                started_at=begun.started_at,
            )
            return int(finished is not None)

        outcomes = together(12, end)

        assert not unexpected(outcomes)
        assert sum(outcomes) == 1
        with scope(SERVICE):
            turn = Turn.objects.get(pk=begun.turn_id)
            answer = Message.objects.get(pk=begun.answer_id)
            bill = dict(Entry.objects.filter(reservation=begun.turn_id).values_list("bucket__meter", "used_delta"))
        assert (turn.status, answer.content) in {("done", "Half and whole"), ("interrupted", "Half")}
        assert bill["tokens"] == answer.tokens_used
        assert numbers(world.act, world.alice.pk, "queries")[1:] == (round_number + 1, 0)


def test_orphaned_holds_are_given_back_once_by_many_reapers(world, alice, settings, monkeypatch):
    settings.TURN_LOST_AFTER_S = 0
    monkeypatch.setattr(beginning, "_store", lambda *_: (_ for _ in ()).throw(SystemExit))  # dies between hold and turn
    monkeypatch.setattr(beginning.ledger, "settle", lambda *_, **__: None)
    for number in range(5):
        with pytest.raises(SystemExit):
            beginning.begin(alice, world.act, Question(text="Gone."), key=f"k{number}")
    monkeypatch.undo()

    outcomes = together(8, lambda _: reaper.reap())

    assert not unexpected(outcomes)
    assert numbers(world.act, world.alice.pk, "queries")[1:] == (0, 0)
    with scope(SERVICE):
        assert Hold.objects.count() == 0
