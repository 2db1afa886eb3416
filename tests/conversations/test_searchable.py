"""What is stored for search beside messages and titles, by the database itself, whoever writes them."""

from importlib import import_module

import pytest
from django.db import connections

from conversations.models import Conversation, Message
from lib.db import SERVICE, scope
from tests import factories

filling = import_module("conversations.migrations.0020_fill_searchable")


def stored(table):
    with scope(SERVICE), connections["service"].cursor() as cursor:
        cursor.execute(f"select searchable::text from {table} order by id")
        return [row[0] for row in cursor.fetchall()]


def test_words_follow_the_text_and_go_with_it(world):
    said = [("user", "Café?"), ("system", "hidden"), ("assistant", "")]
    chat = factories.make_conversation(world.act, world.alice, "Ünder way", said=said)

    assert stored("conversations_conversation") == ["'under':1 'way':2"]
    assert stored("conversations_message") == ["'cafe':1", None, None]
    with scope(factories.member(world.act, world.alice)):
        Conversation.objects.filter(pk=chat.pk).update(title="Over")
        Message.objects.filter(role="assistant").update(content="Naïve answer")
        Message.objects.filter(role="user").update(content="")
    assert stored("conversations_conversation") == ["'over':1"]
    assert stored("conversations_message") == [None, None, "'answer':2 'naive':1"]


def test_no_text_is_refused_for_its_words(world):
    """F-02: a list of words may be too long for the index; the message is stored all the same."""
    said = [
        " ".join(chr(0x10000 + number) * 6 for number in range(28_000)),  # more than 1 MB of different words
        "w" * 200_000,  # a word that is too long for the parser
        "\ufdfa " * 100_000,  # each is eighteen letters when taken apart
        "日本語" * 60_000,
        "a-b/c.d@e " * 20_000,
    ]
    factories.make_conversation(world.act, world.alice, said=[("user", text) for text in said])

    many, long, *others = stored("conversations_message")
    assert many.startswith("'")
    assert long == ""
    assert all(others)


@pytest.mark.django_db(transaction=True)
def test_old_rows_are_filled_in_batches_and_a_second_try_changes_nothing(live_world):
    """O-05: what the release before wrote; a batch is a transaction of its own."""
    said = [("user", f"n{number}") for number in range(7)]
    factories.make_conversation(live_world.act, live_world.alice, "Old", said=said)
    with scope(SERVICE), connections["service"].cursor() as cursor:
        for table in ("conversations_message", "conversations_conversation"):
            cursor.execute(f"update {table} set searchable = null")

    with connections["owner"].schema_editor(atomic=False) as editor:
        for operation in filling.Migration.operations * 2:
            operation.most = 3
            operation.database_forwards("conversations", editor, None, None)

    assert stored("conversations_conversation") == ["'old':1"]
    assert stored("conversations_message") == [f"'n{number}':1" for number in range(7)]
