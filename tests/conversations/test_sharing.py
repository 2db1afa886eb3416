"""A chat for whoever has its link: what is seen, what never is, and when the link is over."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.test import Client

from accounts.models import Brand, Membership, User
from conversations.chats import sharing
from conversations.models import Conversation, Message, Share
from lib import clock
from lib.db import SERVICE, scope
from lib.errors import Forbidden
from tests import factories
from tests.conversations.test_export import client


@pytest.fixture
def bob(world):
    cache.clear()
    return factories.member(world.act, world.bob)


@pytest.fixture
def talk(world, bob):
    said = [
        ("system", "SECRET-INSTRUCTIONS"),
        ("user", "How <b>many</b>?"),
        ("assistant", "**42** <img src=x onerror=alert(1)>"),
    ]
    made = factories.make_conversation(world.act, world.bob, "A <i>title</i>", said=said)
    with scope(bob):
        Conversation.objects.filter(pk=made.pk).update(system_prompt="SECRET-PROMPT", total_cost_microusd=123_456_789)
        Message.objects.create(
            brand=world.act, owner_id=world.bob.pk, conversation=made, role="assistant", content="OTHER-VERSION",
            is_current=False,
        )  # fmt: skip
    return made


def link(world, talk, days="30"):
    answer = client(world.bob).post(f"/c/{talk.pk}/share/link/", {"days": days})
    assert answer.status_code == 303, answer.content
    with scope(SERVICE):
        share = Share.objects.latest("pk")
    return share, f"/s/{sharing.token(share.pk)}/"


def read(address, host="act.localhost", **headers):
    return Client(headers={"host": host, **headers}).get(address)


def test_a_link_shows_the_copy_and_nothing_else(world, bob, talk):
    """F-05, V-05: sanitised, without instructions, other versions, people, costs or what was said later; and no session."""
    share, address = link(world, talk)
    with scope(bob):
        Message.objects.create(
            brand=world.act, owner_id=world.bob.pk, conversation=talk, role="user", content="SAID-LATER"
        )
        Conversation.objects.filter(pk=talk.pk).update(title="Renamed")

    answer = read(address)
    page = answer.content.decode()

    assert answer.status_code == 200
    assert "A &lt;i&gt;title&lt;/i&gt;" in page
    assert "How &lt;b&gt;many&lt;/b&gt;?" in page
    assert "<strong>42</strong>" in page
    assert "<img" not in page
    for secret in (
        "SECRET",
        "OTHER-VERSION",
        "SAID-LATER",
        "Renamed",
        "bob",
        "Bob",
        "123",
        str(talk.pk),
        str(share.pk),
    ):
        assert secret not in page, secret
    assert "noindex" in answer.headers["X-Robots-Tag"]
    assert answer.headers["Referrer-Policy"] == "no-referrer"
    assert answer.headers["Cache-Control"] == "no-store"
    assert "<script" not in page
    assert not answer.cookies
    signed_in = client(world.bob).get(address)
    assert signed_in.wsgi_request.session.accessed is False
    assert "Cookie" not in signed_in.headers.get("Vary", "")


def test_a_page_is_kept_for_each_language_by_itself(world, bob, talk):
    """Around code and tables stand words of ours: the first reader's language is not everybody's."""
    with scope(bob):
        Message.objects.filter(conversation=talk, role="assistant").update(content="```\nx\n```\n\n|a|\n|-|\n|b|")
    _, address = link(world, talk)

    english, german = (read(address, **{"accept-language": name}).content.decode() for name in ("en", "de"))

    assert ("Table" in english, "Tabelle" in english) == (True, False)
    assert ("Tabelle" in german, 'lang="de"' in german) == (True, True)


def test_every_link_that_does_not_work_looks_the_same(world, bob, talk):
    """I-11: wrong, revoked, over, of another brand, of a deleted chat, of a removed member, with sharing turned off."""
    _, address = link(world, talk)
    wrong = read("/s/" + "0" * 40 + "/")
    assert wrong.status_code == 404

    def same(answer):
        nonces = [each.wsgi_request.csp_nonce for each in (answer, wrong)]
        pages = [
            each.content.decode().replace(str(nonce), "") for each, nonce in zip((answer, wrong), nonces, strict=True)
        ]
        return answer.status_code == 404 and pages[0] == pages[1]

    over = clock.now() - timedelta(days=1)
    assert read(address).status_code == 200
    assert read(address, host="globex.localhost").status_code == 404
    assert same(read("/s/%00/"))
    assert same(read("/s/" + "é" * 300 + "/"))
    for set_up, back in (
        (lambda: Share.objects.update(expires_at=over), lambda: Share.objects.update(expires_at=None)),
        (lambda: Share.objects.update(revoked_at=clock.now()), lambda: Share.objects.update(revoked_at=None)),
        (lambda: Brand.objects.update(sharing_on=False), lambda: Brand.objects.update(sharing_on=True)),
        (
            lambda: Conversation.objects.update(deleted_at=clock.now()),
            lambda: Conversation.objects.update(deleted_at=None),
        ),
        (
            lambda: User.objects.filter(pk=world.bob.pk).update(is_active=False),
            lambda: User.objects.update(is_active=True),
        ),
        (
            lambda: Membership.objects.filter(user=world.bob).delete(),
            lambda: factories.make_member(world.act, world.bob),
        ),
        (lambda: Conversation.objects.all().delete(), None),
    ):
        with scope(SERVICE):
            set_up()
        assert same(read(address))
        if back:
            with scope(SERVICE):
                back()
            assert read(address).status_code == 200


def test_its_person_sees_the_link_again_and_takes_it_back(world, bob, talk):
    """The list has every open link; nobody else's, and nobody else closes it (I-02)."""
    share, address = link(world, talk, "7")
    with scope(bob):
        assert abs(share.expires_at - clock.now() - timedelta(days=7)) < timedelta(minutes=1)
    page = f"/c/{talk.pk}/share/"
    for where in (page, "/settings/data/"):
        assert address in client(world.bob).get(where).content.decode()
    assert client(world.alice).get(page).status_code == 404
    assert client(world.alice).post(f"{page}link/", {"days": "7"}).status_code == 404
    assert address not in client(world.alice).get("/settings/data/").content.decode()
    assert client(world.alice).post(f"/shares/{share.pk}/revoke/").status_code == 404
    assert client(world.bob).post(f"{page}link/", {"days": "8"}).status_code == 400
    assert read(address).status_code == 200

    assert client(world.bob).post(f"/shares/{share.pk}/revoke/").status_code == 303

    assert read(address).status_code == 404
    assert address not in client(world.bob).get("/settings/data/").content.decode()


def test_another_secret_key_closes_no_link_and_shows_none_again(world, bob, talk, settings):
    _, address = link(world, talk, "never")
    settings.SECRET_KEY = "another" * 10

    assert read(address).status_code == 200
    with scope(bob):
        (listed,) = sharing.listed(bob)
    assert listed["token"] == ""


def test_nothing_is_shared_where_the_brand_says_no_or_there_is_nothing(world, bob, talk):
    empty = factories.make_conversation(world.act, world.bob, "Empty")
    long = factories.make_conversation(world.act, world.bob, "Long", said=[("user", "x" * 200_001)])
    assert client(world.bob).post(f"/c/{empty.pk}/share/link/", {"days": "7"}).status_code == 400
    assert client(world.bob).post(f"/c/{long.pk}/share/link/", {"days": "7"}).status_code == 400
    world.act.sharing_on = False
    with scope(bob), pytest.raises(Forbidden):
        sharing.share(bob, world.act, talk.pk, days=7)


def test_readers_are_counted_once_an_hour_and_written_twice_a_minute(world, bob, talk, django_assert_num_queries):
    """No hot row: most readers change nothing but a number in Redis, and none of them is lost."""
    share, address = link(world, talk)
    for last in range(5):
        for _ in range(3):
            Client(headers={"host": "act.localhost"}, REMOTE_ADDR=f"192.0.2.{last}").get(address)
    with scope(bob):
        share.refresh_from_db()
        (listed,) = sharing.listed(bob)

    assert share.views == 1
    assert listed["views"] == 5
    cache.delete(f"share-flush:{share.pk}")
    Client(headers={"host": "act.localhost"}, REMOTE_ADDR="192.0.2.77").get(address)
    with scope(bob):
        share.refresh_from_db()
        (listed,) = sharing.listed(bob)
    assert (share.views, listed["views"]) == (6, 6)
