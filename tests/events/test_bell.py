"""The bell: what a member was told, counted until it is read, and nobody else's."""

import re
from uuid import uuid4

import pytest

from events import notices
from events.models import Notification
from lib.db import SERVICE, scope
from tests.billing.test_pages import browser, text_of

LIST = "/notifications/"


def tell(world, user, title="Nearly used up", **more):
    return notices.notify(world.act.pk, user.pk, "usage_limit", title=title, message="12 of 15 are used.", **more)


def bell(client, path="/settings/plan/"):
    """How many notices the bell says are not read; None when there is no bell."""
    found = re.search(r'aria-label="Notifications, (\d+) not read"', client.get(path).content.decode())
    return found and int(found[1])


def is_read(notice):
    with scope(SERVICE):
        return Notification.objects.get(pk=notice.pk).read_at is not None


def test_it_counts_what_is_not_read_on_every_page_of_a_member(world):
    tell(world, world.bob)
    tell(world, world.bob)
    tell(world, world.alice)
    bob = browser(world.bob)

    assert bell(bob) == bell(bob, "/pricing/") == bell(bob, LIST) == 2
    chat = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", bob.get("/c/").content.decode()))
    assert "Notifications 2 not read" in chat
    assert bell(browser(), "/pricing/") is None
    assert bell(browser(world.charlie), "/pricing/") is None  # a stranger here


def test_the_list_shows_ones_own_newest_first_and_says_so_when_there_is_none(world):
    bob = browser(world.bob)
    assert "Nothing to tell" in text_of(bob.get(LIST))

    tell(world, world.bob, "First")
    tell(world, world.bob, "<b>Second</b>", priority="urgent")
    tell(world, world.alice, "Another's")
    body = bob.get(LIST).content.decode()

    assert body.index("&lt;b&gt;Second&lt;/b&gt;") < body.index("First")
    assert "Urgent" in body
    assert "Another" not in body


def test_reading_one_counts_down_and_its_button_leads_to_what_it_is_about(world):
    first, second = tell(world, world.bob), tell(world, world.bob, action_url="/pricing/", action_label="See plans")
    bob = browser(world.bob)

    back = bob.post(f"{LIST}{first.pk}/read/")
    on = bob.post(f"{LIST}{second.pk}/read/", {"follow": "1"})

    assert (back.status_code, back["Location"], on["Location"]) == (303, LIST, "/pricing/")
    assert is_read(first)
    assert is_read(second)
    assert bell(bob) == 0
    assert bob.post(f"{LIST}{first.pk}/read/").status_code == 303  # a second time changes nothing


def test_all_are_read_at_once_and_only_ones_own(world):
    own, other = tell(world, world.bob), tell(world, world.alice)

    browser(world.bob).post(f"{LIST}read/")

    assert is_read(own)
    assert not is_read(other)


@pytest.mark.parametrize("who", ["alice", "charlie"])
def test_nobody_reads_anothers(world, who):
    notice = tell(world, world.bob)

    assert browser(getattr(world, who)).post(f"{LIST}{notice.pk}/read/").status_code == 404
    assert browser(world.bob).post(f"{LIST}{uuid4()}/read/").status_code == 404
    assert not is_read(notice)


def test_more_than_a_hundred_are_not_counted_on(world):
    one = {"brand": world.act, "owner_id": world.bob.pk, "type": "system", "title": "T", "message": "M"}
    with scope(SERVICE):
        Notification.objects.bulk_create(Notification(**one) for _ in range(130))

    assert bell(browser(world.bob)) == notices.MOST_COUNTED
    assert "99+" in browser(world.bob).get("/settings/plan/").content.decode()
