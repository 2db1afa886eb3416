"""What people do with their chats, one and many: it changes their own, once, and is told; and it can be taken back."""

from uuid import uuid4

import pytest

from conversations.chats import keeping
from conversations.models import Conversation, Message, Turn
from events.models import Event
from lib.db import SERVICE, db, scope
from lib.errors import Invalid, NotFound
from quotas.models import Account
from tests.conversations.rows import charged
from tests.conversations.rows import stored as turn_of
from tests.factories import make_conversation, member
from tests.server import CSRF, eventually


def stored(*chats):
    with scope(SERVICE):
        return [Conversation.objects.get(pk=chat.pk) for chat in chats]


def told(name):
    with scope(SERVICE):
        return set(
            Event.objects.filter(brand__slug="act", type=f"conversation.{name}").values_list("subject_id", flat=True)
        )


def keep_days(user, days):
    with scope(SERVICE):
        account = Account.objects.get(kind="user", owner_id=user.pk)
        account.features["retention_days"] = days
        account.save(update_fields=["features"])


def test_each_deed_is_done_once_told_once_and_taken_back(world):
    """C3: a repeat changes nothing and publishes nothing; others' chats among the ids are passed over in silence."""
    alice = member(world.act, world.alice)
    mine = [make_conversation(world.act, world.alice, f"{number}") for number in range(3)]
    bobs = make_conversation(world.act, world.bob)
    ids = [chat.pk for chat in (*mine, bobs)] + [uuid4()]
    for name, do, undo, undone, field in [
        ("archived", keeping.archive, keeping.unarchive, "unarchived", "archived_at"),
        ("pinned", lambda who, which: keeping.pin(who, world.act, which), keeping.unpin, "unpinned", "pinned_at"),
        ("deleted", keeping.move_to_bin, keeping.restore, "restored", "deleted_at"),
    ]:
        done = do(alice, ids)
        again = do(alice, ids)

        assert set(done.ids) == {chat.pk for chat in mine} == told(name)
        assert again.ids == []
        assert {getattr(chat, field) for chat in stored(*mine)} == {done.at}
        assert getattr(*stored(bobs), field) is None
        assert set(undo(alice, ids).ids) == set(done.ids) == told(undone)
        assert undo(alice, ids).ids == []
        assert {getattr(chat, field) for chat in stored(*mine)} == {None}


def test_a_whole_deed_is_taken_back_by_its_moment_and_nothing_else_is(world):
    alice = member(world.act, world.alice)
    before, first, second = (make_conversation(world.act, world.alice) for _ in range(3))
    with scope(SERVICE):  # in another transaction, so at another moment
        Conversation.objects.filter(pk=before.pk).update(deleted_at="2026-11-01T00:00Z")
    done = keeping.move_to_bin(alice, [first.pk, second.pk])
    assert keeping.take_back(member(world.act, world.bob), "deleted", done.at) == []

    assert set(keeping.take_back(alice, "deleted", done.at)) == {first.pk, second.pk} == told("restored")

    assert keeping.take_back(alice, "deleted", done.at) == []
    assert [bool(chat.deleted_at) for chat in stored(before, first, second)] == [True, False, False]
    with pytest.raises(Invalid):
        keeping.take_back(alice, "renamed", done.at)


def test_what_is_not_ones_own_is_not_there_and_too_many_are_refused(world):
    bobs, charlies = make_conversation(world.act, world.bob), make_conversation(world.globex, world.charlie)
    alice = member(world.act, world.alice)
    for chat_id in (bobs.pk, charlies.pk, uuid4()):
        for do in (keeping.archive, keeping.unarchive, keeping.unpin, keeping.move_to_bin, keeping.restore):
            with pytest.raises(NotFound):
                do(alice, [chat_id])
        with pytest.raises(NotFound):
            keeping.rename(alice, chat_id, "Mine now")
        with pytest.raises(NotFound):
            keeping.pin(alice, world.act, [chat_id])
    with pytest.raises(Invalid, match="At most"):
        keeping.archive(alice, [uuid4() for _ in range(keeping.MOST + 1)])
    with pytest.raises(Invalid):
        keeping.archive(alice, [])

    many = [make_conversation(world.act, world.alice) for _ in range(3)]
    assert len(keeping.archive(alice, [chat.pk for chat in many] + [uuid4() for _ in range(keeping.MOST - 3)]).ids) == 3


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("  Spring\n plan\t ", "Spring plan"),
        ("*not* _Markdown_", "*not* _Markdown_"),
        ("a\u202eb\x00c", "a b c"),
        ("👩‍👩‍👧 می‌خواهم", "👩‍👩‍👧 می‌خواهم"),
        ("x" * 300, "x" * 200),
        ("\ud800 \x00 \u2066", None),
        ("", None),
    ],
)
def test_a_title_is_one_line_that_reads_in_order(world, given, kept):
    """F-04: what breaks or reorders a line is left out; joiners, which scripts and emoji need, stay."""
    chat = make_conversation(world.act, world.alice, "Before")
    alice = member(world.act, world.alice)
    if kept is None:
        with pytest.raises(Invalid):
            keeping.rename(alice, chat.pk, given)
    else:
        assert keeping.rename(alice, chat.pk, given).ids == [chat.pk]
        assert keeping.rename(alice, chat.pk, given).ids == [], "the same title again is no change"
    assert stored(chat)[0].title == (kept or "Before")


@pytest.mark.parametrize(("days", "may"), [(0, False), (7, False), (29, False), (30, True), (90, True), (None, True)])
def test_pinning_needs_a_plan_that_keeps_chats_for_thirty_days(world, days, may):
    """MISSION: said in words, and what is pinned stays when the plan gets smaller."""
    chat = make_conversation(world.act, world.alice)
    keep_days(world.alice, days)
    alice = member(world.act, world.alice)
    if may:
        keeping.pin(alice, world.act, [chat.pk])
        keep_days(world.alice, 0)
    else:
        with pytest.raises(keeping.PinningNotIncluded, match="Yours keeps them"):
            keeping.pin(alice, world.act, [chat.pk])
    assert bool(stored(chat)[0].pinned_at) is may


def test_deleting_a_chat_stops_its_answer_and_nobody_elses(world, django_capture_on_commit_callbacks):
    """O-17 for delete: the turn ends by the way that every stop goes, so what arrived is charged as ever."""
    chats = [make_conversation(world.act, world.alice) for _ in range(2)]
    with scope(SERVICE):
        turns = [
            Turn.objects.create(
                brand=world.act,
                owner_id=world.alice.pk,
                conversation=chat,
                provider_id=world.demo.pk,
                status="streaming",
                heartbeat_at="2026-11-21T10:00Z",
            )
            for chat in chats
        ]
    with django_capture_on_commit_callbacks(using="default", execute=True):
        keeping.move_to_bin(member(world.act, world.alice), [chats[0].pk])

    with scope(SERVICE):
        asked = [turn.stop_asked_at for turn in Turn.objects.filter(pk__in=[turn.pk for turn in turns]).order_by("pk")]
    assert asked[0]
    assert asked[1] is None


def test_an_emptied_bin_leaves_nothing_of_its_chats_and_all_of_the_others(world):
    alice = member(world.act, world.alice)
    gone, kept = (make_conversation(world.act, world.alice, said=[("user", "Secret")]) for _ in range(2))
    bobs = make_conversation(world.act, world.bob)
    keeping.move_to_bin(alice, [gone.pk])
    keeping.move_to_bin(member(world.act, world.bob), [bobs.pk])

    assert keeping.empty_bin(alice) == 1

    assert keeping.empty_bin(alice) == 0
    with scope(SERVICE):
        assert set(Conversation.objects.filter(brand=world.act).values_list("pk", flat=True)) == {kept.pk, bobs.pk}
        assert not Message.objects.filter(conversation_id=gone.pk).exists()
    assert told("erased") == {gone.pk}


async def test_the_answer_of_a_deleted_chat_ends_and_what_arrived_is_charged(site, browser):
    """O-17 for delete, MISSION "a stopped answer": whatever process writes it, and once."""
    asked = await browser.ask("Slowly.", site.models["slow"])

    async def has_begun():
        return (await db(turn_of, asked.turn_id))[0].produced_tokens > 0

    async def has_ended():
        turn, answer = await db(turn_of, asked.turn_id)
        return turn.status == "stopped" and answer

    await eventually(has_begun)
    form = {"do": "delete", "csrfmiddlewaretoken": CSRF}
    async with browser.post(f"/c/{asked.conversation_id}/keep/", data=form) as response:
        assert response.status == 303

    answer = await eventually(has_ended)

    assert answer.content
    assert (await db(charged, asked.turn_id))["queries"] == 1
    async with browser.get(f"/c/{asked.conversation_id}/") as response:
        assert response.status == 404
    again = {"text": "More?", "provider": str(site.models["words"]), "csrfmiddlewaretoken": CSRF}
    async with browser.post(f"/c/{asked.conversation_id}/send/", data=again) as response:
        assert response.status == 404
