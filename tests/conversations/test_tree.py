"""The tree of messages in the database: what hangs on what, whoever writes it."""

from importlib import import_module

import pytest
from django.db import connections

from conversations.engine import beginning
from conversations.engine.turns import Question
from conversations.models import Message
from lib.db import SERVICE, scope
from tests import factories
from tests.conversations.test_turns import finish

filling = import_module("conversations.migrations.0023_fill_parents")


def line(chat):
    """Contents, and whether each message hangs on the one before it."""
    with scope(SERVICE):
        rows = list(Message.objects.filter(conversation_id=chat).order_by("id"))
    return [row.content for row in rows], [
        row.parent_id == (before.pk if before else None) for row, before in zip(rows, [None, *rows], strict=False)
    ]


def test_who_only_goes_on_hangs_on_the_end_of_the_path(world):
    """A page, a program, what integrators record, and a release that knows nothing of the tree."""
    alice = factories.member(world.act, world.alice)
    begun = beginning.begin(alice, world.act, Question(text="One?"))
    finish(begun, text="First.")
    chat = begun.conversation_id
    finish(beginning.begin(alice, world.act, Question(text="Two?", conversation_id=chat)), text="Second.")
    said = ({"role": "user", "content": "Three?"}, {"role": "user", "content": "Please."})
    program = Question(messages=said, conversation_id=chat, is_stored=True)
    finish(beginning.begin(alice, world.act, program), text="Third.")
    with scope(SERVICE):
        Message.objects.filter(content="Third.").update(is_current=False)
        left = Message.objects.create(
            brand=world.act, owner_id=world.alice.pk, conversation_id=chat, role="user", content="Four"
        )
        left.refresh_from_db()
        assert left.parent_id == Message.objects.get(content="Please.").pk

    contents, follow = line(chat)
    assert contents == ["One?", "First.", "Two?", "Second.", "Three?", "Please.", "Third.", "Four"]
    assert follow == [True] * 7 + [False]


@pytest.mark.django_db(transaction=True)
def test_old_rows_get_their_parents_in_batches_and_a_second_try_changes_nothing(live_world):
    """O-05: what the release before wrote; another chat's messages in between are another line."""
    said = [("user", f"n{number}") for number in range(5)]
    chats = [factories.make_conversation(live_world.act, live_world.alice, said=said) for _ in range(4)]
    with scope(SERVICE), connections["service"].cursor() as cursor:
        cursor.execute("update conversations_message set parent_id = null")

    with connections["owner"].schema_editor(atomic=False) as editor:
        for operation in filling.Migration.operations * 2:
            operation.most = 3
            operation.database_forwards("conversations", editor, None, None)

    assert [line(chat.pk) for chat in chats] == [([f"n{number}" for number in range(5)], [True] * 5)] * 4
