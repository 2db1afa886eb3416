"""What is deleted takes nothing out of the ledger."""

from uuid import uuid4

from conversations.engine import beginning, finishing
from conversations.engine.turns import Question
from conversations.models import Conversation, Message, Turn
from lib.db import SERVICE, scope
from quotas.models import Bucket, Entry, UsageLog
from tests.factories import member
from tests.quotas.proofs import entitle, pack, prove
from tests.quotas.test_pockets import BILLED


def books():
    with scope(SERVICE):
        return [list(model.objects.order_by("pk").values()) for model in (Bucket, Entry, UsageLog)]


def test_deleting_all_that_was_said_leaves_every_sum_and_every_line(world):
    """Q-29, INV8: of questions that the plan, a pack and overage paid."""
    alice = member(world.act, world.alice)
    entitle(world.act, world.alice, ("queries", "day", 1), features=BILLED)
    pack(world.act, world.alice, 1)
    for _ in range(3):
        begun = beginning.begin(alice, world.act, Question(text="Hello?"), key=str(uuid4()))
        ended = {
            "offer": begun.offer,
            "own_prompt_tokens": 5,
            "own_completion_tokens": 2,
            "started_at": begun.started_at,
        }
        finishing.finish(begun.turn_id, status="done", text="Hello", held_tokens=begun.held_tokens, **ended)
    before = books()
    with scope(SERVICE):
        paid = Entry.objects.filter(kind="use", used_delta__gt=0, bucket__owner_id=world.alice.pk)
        assert {line.bucket.pocket for line in paid.select_related("bucket")} == {"plan", "pack", "overage"}

    with scope(SERVICE):
        for model in (Turn, Message, Conversation):
            model.objects.filter(brand=world.act).delete()
        assert not Conversation.objects.filter(brand=world.act).exists()

    assert books() == before
    prove(world)
