"""Who reads other people's chats: the brand's admins, on the record; every member where the brand shares; and nobody else."""

from datetime import timedelta

import pytest
from django.core.cache import cache
from django.db import DatabaseError
from django.test import Client

from accounts import brands
from accounts.models import Brand
from billing.models import Plan
from billing.plans import assign_plan
from conversations.chats import judging, stats
from conversations.models import Conversation, Message, Turn
from events.models import Activity
from lib import clock
from lib.db import SERVICE, Principal, scope
from lib.errors import NotFound
from lib.ids import uuid7
from tests.factories import make_conversation

SHARED = "/history/everybody/"


def browser(user, host="act"):
    client = Client(headers={"host": f"{host}.localhost"})
    client.force_login(user)
    return client


def share(brand, is_shared=True):
    with scope(SERVICE):
        Brand.objects.filter(pk=brand.pk).update(shared_history=is_shared)
    brands.forget()


def lines():
    with scope(SERVICE):
        return list(Activity.objects.filter(brand__slug="act", action="conversation.read").order_by("id"))


def plan(world, code):
    """bob's: free keeps no history."""
    with scope(SERVICE):
        assign_plan(world.act, Plan.objects.get(brand=world.act, code=code), user_id=world.bob.pk)


@pytest.fixture
def chats(world):
    said = [("user", "Of the board"), ("assistant", "So **it** is")]
    plan(world, "basic")
    return {
        user: make_conversation(brand, user, f"Of {user}", said=said)
        for brand, user in ((world.act, world.alice), (world.act, world.bob), (world.globex, world.charlie))
    }


def test_every_member_reads_everything_where_the_brand_shares_and_changes_nothing(world, chats):
    """MISSION: read-only, of one's own brand only, and gone the moment it is switched off."""
    bob, charlie = browser(world.bob), browser(world.charlie, "globex")
    alices = chats[world.alice]
    assert bob.get(SHARED).status_code == 404
    share(world.act)

    listed = bob.get(SHARED).content.decode()
    read = bob.get(f"{SHARED}{alices.pk}/").content.decode()

    assert "Of alice@example.com" in listed
    assert "Of bob@example.com" in listed
    assert "Of charlie" not in listed
    assert "Asked by Alice" in read
    assert "So <strong>it</strong> is" in read
    assert bob.get(f"{SHARED}{chats[world.charlie].pk}/").status_code == 404
    assert charlie.get(SHARED).status_code == 404
    assert bob.get(f"/c/{alices.pk}/").status_code == 404, "it is still hers alone to go on with"
    assert bob.post(f"/c/{alices.pk}/keep/", {"do": "delete"}).status_code == 404
    assert bob.post(f"/c/{alices.pk}/send/", {"text": "Me too"}).status_code == 404
    assert lines() == [], "what everybody may read is on nobody's record"
    with scope(SERVICE):
        Conversation.objects.filter(pk=alices.pk).update(deleted_at="2026-11-21T10:00Z")
    assert bob.get(f"{SHARED}{alices.pk}/").status_code == 404
    share(world.act, is_shared=False)
    assert bob.get(SHARED).status_code == 404


@pytest.mark.django_db(transaction=True)
def test_a_reader_writes_nothing_whatever_the_code_says(live_world):
    """I-01: on the real log-in, the database refuses; a stranger, and a brand that does not share, get nobody in."""
    world = live_world
    chat = make_conversation(world.act, world.alice, "Hers", said=[("user", "Mine")])
    reader = Principal("app_reader", world.act.pk, world.bob.pk)
    with pytest.raises(NotFound), scope(reader):
        pass
    share(world.act)
    with scope(reader) as standing:
        assert standing == "member"
        assert list(Conversation.objects.values_list("pk", flat=True)) == [chat.pk]
    for write in (
        lambda: Message.objects.create(
            brand=world.act, owner_id=world.bob.pk, conversation_id=chat.pk, role="user", content="x"
        ),
        lambda: Conversation.objects.filter(pk=chat.pk).update(title="Changed"),
        lambda: Activity.objects.bulk_create([Activity(brand=world.act, action="x", resource_type="x")]),
    ):
        with pytest.raises(DatabaseError), scope(reader):
            write()
    for stranger in (world.charlie.pk, uuid7()):
        with pytest.raises(NotFound), scope(Principal("app_reader", world.act.pk, stranger)):
            pass
    with scope(Principal("app_user", world.act.pk, world.alice.pk)):  # the same connection writes again
        assert Conversation.objects.filter(pk=chat.pk).update(title="Hers still") == 1


def test_an_answer_that_was_corrected_is_read_by_others_without_the_report(world, chats):
    """No role but its author's may see a report, and that breaks no page."""
    alices, principal = chats[world.alice], Principal("app_user", world.act.pk, world.alice.pk)
    share(world.act)
    with scope(principal):
        judging.correct(principal, Message.objects.get(conversation=alices, role="assistant").pk, "Rather that")
    bob, alice = browser(world.bob), browser(world.alice)

    for client, address in ((bob, f"{SHARED}{alices.pk}/"), (alice, f"/manage/conversations/{alices.pk}/")):
        read = client.get(address)
        assert (read.status_code, "Rather that" in read.content.decode()) == (200, False)


def test_an_admin_reads_any_chat_of_the_brand_and_that_is_on_record(world, chats):
    """MISSION: brand admins with an audit entry; what each answer took is theirs to see (S2 conversation_usage)."""
    alice, bobs = browser(world.alice), chats[world.bob]
    with scope(SERVICE):
        answer = Message.objects.get(conversation=bobs, role="assistant")
        turn = Turn.objects.create(
            brand=world.act, owner_id=world.bob.pk, conversation=bobs, message_id=answer.pk, provider_id=world.demo.pk,
            status="done", heartbeat_at="2026-11-21T10:00Z", first_piece_ms=300, attempts=[{"ms": 1200}, {"ms": 34}],
        )  # fmt: skip
        Turn.objects.filter(pk=turn.pk).update(created_at="2026-11-21T10:00:00Z", ended_at="2026-11-21T10:00:05Z")
        usage = {"prompt_tokens": 11, "completion_tokens": 22}
        Message.objects.filter(pk=answer.pk).update(tokens_used=33, cost_microusd=1500, token_usage=usage, model="demo")
        Conversation.objects.filter(pk=bobs.pk).update(message_count=2, total_tokens_used=33, total_cost_microusd=1500)

    listed = alice.get("/manage/conversations/").content.decode()
    read = alice.get(f"/manage/conversations/{bobs.pk}/").content.decode()

    assert "bob@example.com" in listed
    assert "charlie@example.com" not in listed
    assert "So <strong>it</strong> is" in read
    for told in ("1,234 ms", "1,534 ms", "5,000 ms", "11 + 22", "$0.0015"):
        assert told in read
    assert [(line.actor_id, line.resource_id) for line in lines()] == [
        (world.alice.pk, None),
        (world.alice.pk, bobs.pk),
    ]
    assert alice.get(f"/manage/conversations/{chats[world.charlie].pk}/").status_code == 404
    assert alice.get("/manage/conversations/?after=x").status_code == 400
    assert browser(world.bob).get(f"/manage/conversations/{bobs.pk}/").status_code == 404
    with scope(Principal("app_user", world.act.pk, world.alice.pk)):
        assert stats.answers(bobs.pk) == [], "as a member she sees her own only"
    counted = count(world)
    assert abs(clock.now() - counted.pop("counted_at")) < timedelta(minutes=1)
    assert counted == {
        "total_conversations": 2, "active_conversations": 2, "archived_conversations": 0,
        "total_messages": 2, "total_tokens_used": 33, "total_cost_microusd": 1500,
    }  # fmt: skip
    assert "$0.0015" in alice.get("/manage/").content.decode()


def count(world):
    principal = Principal("app_brand", world.act.pk, world.alice.pk)
    with scope(principal):
        return stats.of_brand(principal)


def test_a_large_brand_is_counted_once_for_all_who_look_and_told_from_when(
    world, chats, monkeypatch, django_assert_num_queries
):
    """Each look at the overview walked every chat of the brand; a small brand's numbers are those of this moment."""
    cache.clear()
    bobs = chats[world.bob]
    with scope(SERVICE):
        Conversation.objects.filter(pk=bobs.pk).update(archived_at=clock.now())
    assert count(world)["archived_conversations"] == 1

    monkeypatch.setattr(stats, "EXACT_UP_TO", 1)
    first = count(world)
    with scope(SERVICE):
        Conversation.objects.filter(pk=bobs.pk).update(archived_at=None)
    principal = Principal("app_brand", world.act.pk, world.alice.pk)
    with scope(principal), django_assert_num_queries(0):
        assert stats.of_brand(principal) == first
    told = browser(world.alice).get("/manage/").content.decode()
    assert f"Counted at {first['counted_at']:%H:%M}." in told, "act's zone is UTC"

    cache.clear()  # five minutes later
    assert count(world)["archived_conversations"] == 0
    cache.clear()


def test_chats_of_whom_the_plan_keeps_no_history_are_in_nobodys_list(world, chats):
    """MISSION, a history of 0 days: no list, for the brand's admins neither; what is pinned is kept, and shown."""
    plan(world, "free")
    share(world.act)
    alice, bob, bobs = browser(world.alice), browser(world.bob), chats[world.bob]

    def shown():
        lists = [
            client.get(path).content.decode() for client, path in ((alice, "/manage/conversations/"), (bob, SHARED))
        ]
        pages = [client.get(f"{path}{bobs.pk}/").status_code for client, path in (
            (alice, "/manage/conversations/"), (alice, SHARED))]  # fmt: skip
        assert all("Of alice@example.com" in page for page in lists)
        return ["Of bob@example.com" in page for page in lists], pages

    assert shown() == ([False, False], [404, 404])
    assert bob.get(f"/c/{bobs.pk}/").status_code == 200, "its person reads it for a day"
    with scope(SERVICE):
        Conversation.objects.filter(pk=bobs.pk).update(pinned_at="2026-11-21T10:00Z")
    assert shown() == ([True, True], [200, 200])
    with scope(SERVICE):
        Conversation.objects.filter(pk=bobs.pk).update(pinned_at=None)
        Brand.objects.filter(pk=world.act.pk).update(retention_days=0)
    assert alice.get("/manage/conversations/").context["rows"] == []
