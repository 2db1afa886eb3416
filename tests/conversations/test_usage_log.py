"""Each use stands in the log once, however its turn ends, with the pocket that paid and the model that answered."""

from uuid import UUID

import pytest

from conversations.engine import beginning, handing_over, reaper, turns
from conversations.engine.turns import Question
from conversations.models import Turn
from events.models import Event
from lib.db import SERVICE, scope
from providers import offers
from providers.calls import Usage
from providers.errors import CutOff
from providers.models import Fallback
from quotas.models import UsageLog
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


def logged(begun) -> list[UsageLog]:
    with scope(SERVICE):
        return list(UsageLog.objects.filter(reservation=begun.turn_id))


@pytest.mark.parametrize("status", ["done", "stopped", "failed", "interrupted"])
def test_what_has_arrived_is_logged_and_what_has_not_is_not(world, alice, status):
    error = CutOff() if status == "failed" else None
    kept, empty = (beginning.begin(alice, world.act, Question(text=text)) for text in ("Hello?", "Anybody?"))
    finish(kept, status=status, usage=Usage(12, 8), error=error)
    finish(empty, status=status, text="", own=0, error=error) if status != "done" else finish(empty, text="", own=0)

    (line,) = logged(kept)
    assert (line.usage_type, line.pocket, line.model) == ("message", "plan", "demo")
    assert (line.prompt_tokens, line.completion_tokens, line.total_tokens) == (12, 8, 20)
    assert line.counted_against_quota
    assert (line.total_cost_microusd, line.model_cost_microusd) == (0, 12 + 8 * 4)
    assert logged(empty) == []


def test_a_second_end_logs_nothing_more(world, alice):
    """Q-10: nor does an end that comes late make a use of what was free."""
    twice, late = (beginning.begin(alice, world.act, Question(text=text)) for text in ("Hello?", "Anybody?"))
    finish(late, status="failed", text="", own=0, error=CutOff())
    for begun in (twice, twice, late):
        finish(begun)

    assert (len(logged(twice)), len(logged(late))) == (1, 0)


def test_what_the_reaper_ends_is_logged_with_the_pocket_that_was_asked(world, alice):
    begun = beginning.begin(alice, world.act, Question(text="Hello?"))
    turns.checkpoint([(begun.turn_id, "As far as", 3)])
    with scope(SERVICE):
        turn = Turn.objects.get(pk=begun.turn_id)
    reaper._end(turn, begun.offer)

    (line,) = logged(begun)
    assert (turn.pocket, line.pocket, line.completion_tokens) == ("plan", "plan", 3)


def test_a_turn_that_another_model_took_over_is_one_charge_and_one_line(world, alice):
    """Q-28: both attempts stand on the turn; what is logged is who answered, at its price."""
    other = factories.make_provider("other", model="other")
    with scope(SERVICE):
        Fallback.objects.create(brand=world.act, provider=other, position=1)
    begun = beginning.begin(alice, world.act, Question(text="Hello?", model="demo"))
    failed = {"provider_id": str(begun.offer.id), "model": "demo", "error_code": "provider_away", "ms": 5}
    following = handing_over.hand_over(begun, [failed])
    assert following is not None
    finish(following, usage=Usage(12, 8), attempts=[failed])

    (line,) = logged(begun)
    with scope(SERVICE):
        turn = Turn.objects.get(pk=begun.turn_id)
    assert (line.model, line.provider_id, line.pocket) == ("other", other.pk, "plan")
    assert (turn.provider_id, [UUID(one["provider_id"]) for one in turn.attempts]) == (other.pk, [begun.offer.id])


@pytest.mark.parametrize(("is_stored", "usage_type"), [(False, "api_call"), (True, "message")])
def test_a_programs_call_is_a_message_only_when_it_is_kept(world, alice, is_stored, usage_type):
    said = ({"role": "user", "content": "Hello?"},)
    begun = beginning.begin(alice, world.act, Question(messages=said, model="demo", is_stored=is_stored))
    finish(begun)

    assert [line.usage_type for line in logged(begun)] == [usage_type]


def test_an_embedding_is_logged_as_one(world, alice):
    begun = beginning.begin_embedding(alice, world.act, offers.offer("demo-embedding", "embedding"), prompt_tokens=30)
    finish(begun, text="", own=0, usage=Usage(30, 0), has_arrived=True)

    (line,) = logged(begun)
    assert (line.usage_type, line.total_tokens, line.counted_against_quota) == ("embedding", 30, True)


def test_a_new_conversation_is_told_once(world, alice):
    """S2 usage_events: its start is an event; asking on is none."""
    begun = beginning.begin(alice, world.act, Question(text="Hello?"))
    finish(begun)
    again = beginning.begin(alice, world.act, Question(text="And?", conversation_id=begun.conversation_id))
    finish(again)

    with scope(SERVICE):
        told = list(Event.objects.filter(type="conversation.started").values_list("subject_id", "owner_id", "data"))
    assert told == [(begun.conversation_id, world.alice.pk, {"source": "website", "model": "demo"})]
