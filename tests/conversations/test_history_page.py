"""The history and the list beside the chat: complete, in order, page by page while others come in, and one's own only."""

import re
from datetime import timedelta
from urllib.parse import parse_qs, urlsplit
from uuid import uuid4

import pytest
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from conversations.chats import listing
from conversations.chats.listing import Wanted
from conversations.models import Conversation
from lib import clock
from lib.db import SERVICE, scope
from lib.errors import Invalid
from tests.factories import make_conversation, member

JSON = {"accept": "application/json"}


@pytest.fixture
def alice(world):
    client = Client(headers={"host": "act.localhost"})
    client.force_login(world.alice)
    return client


def make_chats(world, count, owner=None):
    """Every third with the same moment, title and numbers as the one before: an order must not lose one of them."""
    owner = owner or world.alice
    chats = [make_conversation(world.act, owner, f"Chat {number - number % 3:03d}") for number in range(count)]
    with scope(SERVICE):
        for number, chat in enumerate(chats):
            same = number - number % 3
            Conversation.objects.filter(pk=chat.pk).update(
                last_message_at=clock.now().replace(microsecond=0) - timedelta(hours=same),
                message_count=same,
                total_tokens_used=(same * 7) % 10,
            )
    return chats


def shown(response):
    return re.findall(r'name="id" value="([0-9a-f-]{36})"', response.content.decode())


@pytest.mark.parametrize("descends", [None, True, False])
@pytest.mark.parametrize("sort", listing.SORTS)
def test_pages_hold_every_chat_once_in_order_while_others_come_in(world, sort, descends):
    """Keyset: a page begins at a row, so a chat that is added or deleted meanwhile shifts nothing."""
    chats = make_chats(world, 20)
    alice = member(world.act, world.alice)
    found, after = [], ""
    with scope(alice):
        while True:
            page = listing.page(listing.owned(alice), Wanted(sort=sort, descends=descends, after=after, most=3))
            found += page.rows
            if not (after := page.more):
                break
            make_conversation(world.act, world.alice, "Zz, or aa: wherever it sorts")
            if len(found) == 6:
                Conversation.objects.filter(pk=found[0].pk).update(archived_at=clock.now())

    ids = [row.pk for row in found]
    before = [row for row in found if row.pk in {chat.pk for chat in chats}]
    assert len(ids) == len(set(ids))
    assert {row.pk for row in before} == {chat.pk for chat in chats}
    falls = listing.SORTS[sort].descends if descends is None else descends
    keys = [(getattr(row, listing.SORTS[sort].column), row.pk) for row in before]
    assert keys == sorted(keys, reverse=falls)


def test_the_page_filters_counts_and_goes_on(world, alice):
    chats = make_chats(world, 60)
    make_chats(world, 2, owner=world.bob)
    with scope(SERVICE):
        ids = [chat.pk for chat in chats]
        Conversation.objects.filter(pk__in=ids[:4]).update(archived_at=clock.now())
        Conversation.objects.filter(pk__in=ids[4:6]).update(deleted_at=clock.now())
        Conversation.objects.filter(pk__in=ids[6:9]).update(model="demo")

    first = alice.get("/history/?sort=created&order=asc")
    more = re.search(r'href="\?([^"]+)" rel="next"', first.content.decode())[1].replace("&amp;", "&")
    second = alice.get(f"/history/?{more}")

    assert shown(first) + shown(second) == [str(pk) for pk in ids[6:]]
    assert "Chats 54" in first.content.decode()
    assert "58 chats with" in first.content.decode()
    assert shown(alice.get("/history/?show=archived&sort=created&order=asc")) == [str(pk) for pk in ids[:4]]
    assert set(shown(alice.get("/history/?show=bin"))) == {str(pk) for pk in ids[4:6]}
    assert set(shown(alice.get("/history/?model=demo"))) == {str(pk) for pk in ids[6:9]}
    day = (clock.now() - timedelta(hours=30)).date()
    fits = {str(chat.pk) for chat in rows_of(ids[6:]) if chat.last_message_at.date() == day}
    assert set(shown(alice.get(f"/history/?since={day}&until={day}"))) == fits
    assert fits
    for query in (
        "sort=owner_id",
        "order=up",
        "show=all",
        "since=tomorrow",
        "agent=1",
        "after=!",
        "after=WzEsMl0",
        "model=" + "x" * 90,
    ):
        assert alice.get(f"/history/?{query}").status_code == 400, query
    assert "No chat fits these filters" in alice.get(f"/history/?agent={uuid4()}").content.decode()


def rows_of(ids):
    with scope(SERVICE):
        return list(Conversation.objects.filter(pk__in=ids))


def test_the_history_asks_the_database_little(world, alice):
    """DESIGN 8: at most eight queries, however many chats."""
    make_chats(world, 60)
    alice.get("/history/")
    with CaptureQueriesContext(connections["default"]) as asked:
        assert len(shown(alice.get("/history/"))) == listing.ON_PAGE
    sent = [
        one["sql"]
        for one in asked.captured_queries
        if "SAVEPOINT" not in one["sql"].upper() and "set_config('role', 'none'" not in one["sql"]
    ]
    assert len(sent) <= 8, "\n".join(sent)


def test_several_are_archived_and_deleted_by_a_plain_form_and_taken_back(world, alice):
    """C3: the page that follows offers to take it back, once."""
    chats = make_chats(world, 3)
    bobs = make_chats(world, 1, owner=world.bob)
    for do, state in (("archive", "archived_at"), ("delete", "deleted_at")):
        form = {"do": do, "id": [chat.pk for chat in (*chats, *bobs)], "back": "sort=title&next=//evil.example/"}
        answer = alice.post("/history/keep/", form)
        assert answer.status_code == 303
        where = urlsplit(answer.headers["Location"])
        assert (where.netloc, where.path) == ("", "/history/")
        assert parse_qs(where.query).keys() == {"sort", "did", "at"}
        page = alice.get(answer.headers["Location"]).content.decode()
        assert all(getattr(row, state) for row in rows_of([chat.pk for chat in chats]))
        assert "3 chats" in page
        taken = dict(re.findall(r'name="(deed|at)" value="([^"]+)"', page))
        assert alice.post("/history/undo/", taken).status_code == 303
        assert not any(getattr(row, state) for row in rows_of([chat.pk for chat in (*chats, *bobs)]))
        assert "data-toast" not in alice.get(answer.headers["Location"]).content.decode()
    for form in (
        {"do": "delete"},
        {"do": "delete", "id": "x"},
        {"do": "destroy", "id": chats[0].pk},
        {"id": chats[0].pk},
    ):
        assert alice.post("/history/keep/", form).status_code == 400
    assert alice.post("/history/keep/", {"do": "delete", "id": bobs[0].pk}).status_code == 404


def test_the_bin_is_looked_into_and_emptied(world, alice):
    (chat,) = make_chats(world, 1)
    alice.post(f"/c/{chat.pk}/keep/", {"do": "delete"})
    assert "In the bin until" in alice.get(f"/c/{chat.pk}/facts/").content.decode()
    assert alice.get(f"/c/{chat.pk}/").status_code == 404
    assert alice.post(f"/c/{chat.pk}/keep/", {"do": "restore"}).status_code == 303
    assert alice.get(f"/c/{chat.pk}/").status_code == 200
    alice.post(f"/c/{chat.pk}/keep/", {"do": "delete"})

    assert alice.post("/history/empty-bin/").headers["Location"] == "/history/?show=bin"

    assert rows_of([chat.pk]) == []
    assert "The bin is empty" in alice.get("/history/?show=bin").content.decode()


def test_the_sidebar_groups_by_day_goes_on_and_keeps_what_is_pinned_on_top(world, alice):
    chats = make_chats(world, 130)
    with scope(SERVICE):
        Conversation.objects.filter(pk=chats[-1].pk).update(pinned_at=clock.now())
        Conversation.objects.filter(pk=chats[0].pk).update(archived_at=clock.now())
    who = member(world.act, world.alice)
    with scope(who), CaptureQueriesContext(connections["default"]) as asked:
        first = listing.sidebar(who, "UTC")
    assert len(asked) == 1
    with scope(who):
        second = listing.sidebar(who, "UTC", after=first["more"])
        third = listing.sidebar(who, "UTC", after=second["more"])
        longer = listing.sidebar(who, "UTC", rows=128)
    assert first["groups"][0][0] == "Pinned"
    assert [row["id"] for row in first["groups"][0][1]] == [chats[-1].pk]
    found = [row["id"] for part in (first, second, third) for _, rows in part["groups"] for row in rows]
    assert len(found) == 129 == len(set(found))
    assert chats[0].pk not in found
    assert third["more"] == "" == longer["more"]
    assert sum(len(rows) for _, rows in longer["groups"]) == 129
    page = alice.get("/c/more/", {"after": first["more"]}).content.decode()
    assert page.count("data-chat") == listing.IN_SIDEBAR
    with scope(who), pytest.raises(Invalid):
        listing.sidebar(who, "UTC", after="nonsense")


def test_a_row_of_the_sidebar_is_changed_in_place(world, alice):
    """By JavaScript: the answer is the list as it is now, and what can be taken back."""
    chats = make_chats(world, 3)
    renamed = alice.post(f"/c/{chats[1].pk}/keep/", {"do": "rename", "title": "<b>Called so</b>"}, headers=JSON).json()
    assert "&lt;b&gt;Called so&lt;/b&gt;" in renamed["chats"]
    assert renamed["toast"] == ""
    deleted = alice.post(f"/c/{chats[1].pk}/keep/", {"do": "delete"}, headers=JSON).json()
    assert "Called so" not in deleted["chats"]
    taken = dict(re.findall(r'name="(deed|at)" value="([^"]+)"', deleted["toast"]))
    assert "Called so" in alice.post("/history/undo/", taken, headers=JSON).json()["chats"]
    gone = alice.post(f"/c/{chats[1].pk}/keep/", {"do": "delete", "open": "1"}, headers=JSON).json()
    assert gone["go"].startswith("/c/?did=deleted&at=")
    assert "data-toast" in alice.get(gone["go"]).content.decode()
    refused = alice.post(f"/c/{chats[0].pk}/keep/", {"do": "rename", "title": " "}, headers=JSON)
    assert (refused.status_code, refused.json()["code"]) == (400, "invalid")


def test_a_plan_without_history_says_so_where_the_list_would_be(world):
    """MISSION: 0 days."""
    bob = Client(headers={"host": "act.localhost"})
    bob.force_login(world.bob)
    (chat,) = make_chats(world, 1, owner=world.bob)
    page = bob.get(f"/c/{chat.pk}/").content.decode()
    assert "Your plan keeps no list of chats" in page
    assert "Can be read until" in page
    history = bob.get("/history/").content.decode()
    assert "Your plan keeps no history" in history
    assert str(chat.pk) not in history
    refused = bob.post(f"/c/{chat.pk}/keep/", {"do": "pin"}, headers=JSON)
    assert (refused.status_code, refused.json()["code"]) == (403, "pinning_not_included")
