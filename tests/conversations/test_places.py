"""A long chat is shown in parts: a message that was found is on the page, however old it is."""

import re

import pytest

from conversations.chats import places
from conversations.models import Message
from lib.db import scope
from lib.ids import uuid7
from tests import factories


@pytest.fixture
def long(world):
    """450 messages on the path, and after each hundredth another version of it."""
    chat = factories.make_conversation(world.act, world.alice, "Long")
    with scope(factories.member(world.act, world.alice)):
        owned = {"brand": world.act, "owner_id": world.alice.pk, "conversation": chat, "role": "user"}
        ids = [uuid7() for _ in range(450)]
        rows = [Message(pk=pk, content=f"n{number}", **owned) for number, pk in enumerate(ids)]
        rows += [Message(pk=uuid7(), content="other", is_current=False, **owned) for _ in range(4)]
        Message.objects.bulk_create(rows)
        other = rows[-1].pk
    return chat, ids, other


def test_each_message_is_on_its_page_and_pages_lead_on(world, client, long):
    chat, ids, other = long
    client.force_login(world.alice, backend="django.contrib.auth.backends.ModelBackend")

    def shown(query):
        page = client.get(f"/c/{chat.pk}/{query}", headers={"host": "act.localhost"}).content.decode()
        links = {rel: link for link, rel in re.findall(r'href="\?message=([0-9a-f-]{36})#[^"]*" rel="(\w+)"', page)}
        return re.findall(r'<li class="msg[^"]*" id="message-([0-9a-f-]{36})"', page), links, page

    for number in (449, 251, 250, 249, 130, 99, 5, 0):
        on_page, links, page = shown(f"?message={ids[number]}")
        assert str(ids[number]) in on_page
        assert len(on_page) <= places.MOST
        assert ("next" in links) == ('id="composer"' not in page) == (on_page[-1] != str(ids[-1]))
        assert ("prev" in links) == (on_page[0] != str(ids[0]))
    seen, query = [], f"?message={ids[0]}"
    for _ in range(9):
        on_page, links, page = shown(query)
        seen += [one for one in on_page if one not in seen]
        if "next" not in links:
            break
        query = f"?message={links['next']}"
    assert [one for one in seen if one != str(other)] == [str(one) for one in ids]
    end = shown("")[0]
    for nothing in ("?message=", "?message=x", f"?message={chat.pk}", f"?message={other}", "?message=%00"):
        assert shown(nothing)[0] == end
