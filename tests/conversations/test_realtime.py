"""Realtime: who may listen hears of each change once and in order, whichever process tells; who may not, of nothing."""

import asyncio
import os
import random
import re
import shutil
import socket
import sys
import time
from collections import Counter
from contextlib import AsyncExitStack, suppress
from dataclasses import replace
from functools import partial

import pytest
from django.contrib.sessions.models import Session
from django.http import HttpResponse

from accounts import keys, visitors
from accounts.models import ApiKey, Membership, User, Visitor
from chatsite.sign_in_ways import SEEN
from chatsite.web import hang_up_on_the_stalled
from conversations.chats import keeping, withdrawing
from conversations.models import Conversation, Message
from events import notices, stream
from events.models import Activity, Event
from events.reading import Batch, Look, Place
from events.realtime.following import LOOK_EVERY_S
from events.realtime.hub import MOST_BEHIND, Hub, Subscription, TooManyStreams
from events.realtime.notifications import NOTIFICATIONS
from events.realtime.standing import Listener
from events.realtime.topics import Topic
from lib.db import SERVICE, Principal, close_all, db, scope, send
from lib.ids import uuid7
from tests import factories
from tests.conversations.ears import PATH, Ear, heads, listening, refused
from tests.conversations.test_crashes import busy
from tests.server import Person, eventually, said
from tests.upstream import PROJECT

IDLE = int(os.environ.get("SOAK_IDLE_LISTENERS", "30"))
EVENTS = int(os.environ.get("SOAK_REALTIME_EVENTS", "120"))
WRITERS = 4
READS = ("conversations:read", "notifications:read")


def principal(person: Person, role="app_user") -> Principal:
    return Principal(role, person.brand.pk, person.user.pk)


def make_key(person: Person, *scopes: str) -> str:
    with scope(SERVICE):
        return keys.create(person.brand, person.user, name="ears", scopes=scopes)[1]


def notify(person: Person, title: str):
    return notices.notify(person.brand.pk, person.user.pk, "system", title=title, message="Words")


def make_chat(person: Person) -> Conversation:
    return factories.make_conversation(
        person.brand, person.user, "Plans", said=[("user", "Well?"), ("assistant", "Well.")]
    )


def an_answer(chat: Conversation) -> None:
    """A message comes into a chat, from wherever."""
    with scope(SERVICE):
        row = Message.objects.create(
            brand_id=chat.brand_id,
            owner_id=chat.owner_id,
            conversation=chat,
            role="assistant",
            content="S",
            status="done",
        )
        told = {"conversation_id": str(chat.pk), "role": "assistant"}
        stream.publish(chat.brand_id, "message.created", subject=("message", row.pk), owner_id=chat.owner_id, data=told)


async def test_a_listener_hears_of_chats_messages_and_notices_as_its_person_may_read_them(
    site, web, http, browser, person
):
    """S3 subscribeToMessages(), subscribeToNotifications(): INSERT, UPDATE, DELETE, with the row as it is."""
    stranger = await db(site.person, person.brand)
    async with (
        listening(http, web, person, "messages,conversations,notifications") as ear,
        listening(http, web, await db(make_key, stranger, *READS), "messages,conversations,notifications") as other,
    ):
        asked = await browser.ask("Go on.", site.models["words"])
        await browser.read(asked.turn_id)
        await ear.until(lambda one: len(one.told("messages")) == 2)
        question, answer = ear.told("messages")
        assert (question["role"], question["content"]) == ("user", "Go on.")
        assert (answer["role"], answer["content"], answer["status"]) == ("assistant", said(20), "done")
        assert {question["chat_id"], answer["chat_id"], ear.told("conversations")[0]["id"]} == {
            str(asked.conversation_id)
        }

        notice = await db(notify, person, "<b>Ready</b>")
        me, chat = principal(person), asked.conversation_id
        await db(keeping.rename, me, chat, "Other words")
        await db(withdrawing.delete, me, question["id"])
        await ear.until(lambda one: len(one.changes) == 6)
        await db(keeping.move_to_bin, me, [chat])
        await db(partial(_in_own_scope, me, notices.mark_read, notice.pk))
        await ear.until(lambda one: len(one.changes) == 8)

        rang, read = ear.told("notifications")
        assert (rang["title"], rang["is_read"], read["is_read"]) == ("<b>Ready</b>", False, True)
        assert [(one["event"], one["table"]) for one in ear.changes] == [
            ("INSERT", "conversations"), ("INSERT", "messages"), ("INSERT", "messages"), ("INSERT", "notifications"),
            ("UPDATE", "conversations"), ("DELETE", "messages"), ("DELETE", "conversations"), ("UPDATE", "notifications"),
        ]  # fmt: skip
        assert ear.told("conversations")[1]["title"] == "Other words"
        gone = next(one for one in ear.changes if one["event"] == "DELETE")
        assert gone["old"] == {"id": question["id"], "conversation_id": str(chat)}
        assert gone["new"] is None
        assert other.changes == []


def _in_own_scope(who, act, *given):
    with scope(who):
        return act(who, *given)


def write(person: Person, writer: int, heard_of: list[str], wait) -> None:
    """Transactions one after the other, each open for a while, with a few notices."""
    try:
        while len(heard_of) < EVENTS // WRITERS:
            with scope(SERVICE):
                titles = [f"{writer}-{len(heard_of) + number:04}" for number in range(random.randint(1, 3))]
                for title in titles:
                    notify(person, title)
                wait(random.random() * 0.1)
            heard_of += titles
    finally:
        close_all()


async def test_what_happens_while_nobody_listens_is_heard_once_and_in_order_at_whichever_process(
    site, web, http, person
):
    """Transactions that are open at once commit in any order; the reader hops between two processes, one of which ends."""
    heard: list[str] = []
    told: list[list[str]] = [[] for _ in range(WRITERS)]
    loop = asyncio.get_running_loop()
    with site.serve() as other:
        async with listening(http, web, person, "notifications") as ear:
            place = ear.id
        writing = [loop.run_in_executor(None, write, person, n, mine, time.sleep) for n, mine in enumerate(told)]
        hop = 0
        while hop < 6 or not all(one.done() for one in writing) or len(heard) < sum(map(len, told)):
            at = other if hop % 2 and hop < 6 else web
            async with listening(http, at, person, "notifications", after=place) as ear:
                most = random.randint(1, 20)
                if hop == 5:
                    other.terminate()
                    await ear.until(lambda one: one.is_over)
                    assert ear.retry_ms[-1] != ear.retry_ms[0]
                else:
                    with suppress(TimeoutError):
                        await ear.until(lambda one, most=most: len(one.changes) >= most, seconds=1)
                heard += [row["title"] for row in ear.told("notifications")]
                place = ear.id
            hop += 1
            assert hop < 60, (len(heard), told)
        assert other.wait(20) == 0
    assert Counter(heard) == Counter(title for mine in told for title in mine)
    for writer, mine in enumerate(told):
        assert [title for title in heard if title.startswith(f"{writer}-")] == mine


async def test_nobody_listens_to_what_is_not_theirs(site, web, http, person):
    """I-grid, I-08, I-10: session, key and visitor, for each topic; a foreign id is as one that was never there."""
    colleague, stranger = await db(site.person, person.brand), await db(site.person)
    chat = await db(make_chat, person)

    def furnish():
        with scope(SERVICE):
            Membership.objects.filter(user=colleague.user).update(role="admin")
            visitor = Visitor.objects.create(brand=person.brand)
            visited = Conversation.objects.create(
                brand=person.brand, owner_id=visitor.pk, owner_kind="visitor", visitor_id=visitor.pk, title="T"
            )
            ApiKey.objects.filter(key_prefix=revoked[3:15]).update(is_active=False)
        response = HttpResponse()
        visitors.remember(response, person.brand, visitor.pk)
        return visited, {"Cookie": f"visitor={response.cookies[visitors.COOKIE].value}", "Host": person.brand.domain}

    both, chats_only, revoked, of_admin, of_stranger = [
        await db(make_key, who, *scopes)
        for who, scopes in (
            (person, READS),
            (person, READS[:1]),
            (person, READS),
            (colleague, READS),
            (stranger, READS),
        )
    ]
    visited, as_visitor = await db(furnish)
    mine, theirs, nobodys = f"messages:{chat.pk}", f"messages:{visited.pk}", f"messages:{uuid7()}"
    anonymous = {"Host": person.brand.domain}
    grid = [
        (
            heads(person),
            {"notifications": 200, "messages": 200, mine: 200, theirs: 404, nobodys: 404, "": 400, "users": 400},
        ),
        (heads(both), {"notifications": 200, mine: 200, f"{mine},{nobodys}": 200, theirs: 404, "messages:x": 400}),
        (heads(chats_only), {"notifications": 403, f"{mine},notifications": 403, mine: 200}),
        (heads(revoked), {"notifications": 401, mine: 401}),
        (heads(person.key), {mine: 403}),  # it may ask, and read nothing
        (heads(colleague), {"notifications": 200, mine: 200, theirs: 200, nobodys: 404}),  # an admin, on the record
        (heads(of_admin), {mine: 404, nobodys: 404}),  # no key of theirs does that
        (heads(stranger), {mine: 404, "messages": 200}),  # at home
        (heads(stranger, host=person.brand.domain), {"messages": 404}),
        (heads(of_stranger), {mine: 404}),
        (as_visitor, {theirs: 200, "messages": 200, mine: 404, "notifications": 401}),
        (anonymous, {mine: 401, "messages": 401}),
    ]
    for headers, wanted in grid:
        found = {topics: await refused(http, web, headers, topics) for topics in wanted}
        assert found == wanted, headers

    def read():
        with scope(SERVICE):
            return set(Activity.objects.filter(action="conversation.read").values_list("actor_id", "resource_id"))

    assert await db(read) == {(colleague.user.pk, chat.pk), (colleague.user.pk, visited.pk)}
    async with listening(http, web, both, f"{mine},{nobodys}") as ear:
        await ear.until(lambda one: "gone" in dict(one.named))
        assert dict(ear.named)["gone"]["topic"] == nobodys
    async with http.get(f"{web.url}{PATH}?topics=messages", headers=heads(both, after="1.x")) as response:
        assert response.status == 400


async def test_who_loses_the_right_hears_nothing_more_within_seconds(site, web, http):
    """I-08, I-11: each of these ways to lose it, while the stream is open."""
    brand = await db(site.brand)
    people = [await db(site.person, brand) for _ in range(8)]
    signs_out, leaves, suspended, revoked, narrowed, changes_password, deletes, demoted = people
    chats = [await db(make_chat, one) for one in people]
    ears: list[Ear] = []
    asking: list[Person | str] = [*people]
    for one in (revoked, narrowed):
        asking[people.index(one)] = await db(make_key, one, *READS)

    def promote(role):
        with scope(SERVICE):
            Membership.objects.filter(user=demoted.user).update(role=role)

    def take_away():
        with scope(SERVICE):
            Session.objects.filter(session_key=signs_out.cookies.split("=")[1].split(";")[0]).delete()
            Membership.objects.filter(user=leaves.user).delete()
            User.objects.filter(pk=suspended.user.pk).update(is_active=False)
            ApiKey.objects.filter(user=revoked.user).update(is_active=False)
            ApiKey.objects.filter(user=narrowed.user).update(scopes=["chat"])
            User.objects.filter(pk=changes_password.user.pk).update(password="another")
        keeping.move_to_bin(principal(deletes), [chats[6].pk])
        promote("member")

    await db(promote, "admin")
    async with AsyncExitStack() as stack:
        for who, chat in zip(asking, chats, strict=True):
            topic = f"messages:{(chats[0] if who is demoted else chat).pk}"
            ears.append(await stack.enter_async_context(listening(http, web, who, topic)))
        stays = await stack.enter_async_context(listening(http, web, demoted, f"messages:{chats[7].pk}"))
        await db(take_away)
        for ear in ears:
            await ear.until(lambda one: one.is_over)
            assert ear.has("gone")
        for chat in chats:
            await db(an_answer, chat)
        await stays.until(lambda one: one.told("messages"))
        assert [ear.changes for ear in ears] == [[]] * 8


async def test_idle_listeners_hold_no_connection_and_no_thread(site, http, person):
    """O-14; a brand's crowd at one process, and each hears all the same.

    Each was last seen long ago, which their request writes down before it becomes a stream.
    """
    made = [await db(site.person, person.brand) for _ in range(IDLE // 10)]
    people = [replace(one, cookies=f"{one.cookies}; {SEEN}=1") for one in made]
    with site.serve() as web:
        async with listening(http, web, person, "notifications"):
            await asyncio.sleep(1)
            threads, connections_before = (
                web.threads(),
                [await db(busy, one, site.name) for one in ("default", "service")],
            )
        async with AsyncExitStack() as stack:
            ears = [
                await stack.enter_async_context(listening(http, web, one, "notifications"))
                for one in people
                for _ in range(10)
            ]
            assert await refused(http, web, heads(people[0]), "notifications") == 429
            samples = []
            for _ in range(10):
                samples.append([(await db(busy, one, site.name))[1] for one in ("default", "service")])
                await asyncio.sleep(0.1)
            assert min(samples) == [0, 0]
            assert sum(default for default, _ in samples) == 0
            held = [await db(busy, one, site.name) for one in ("default", "service")]
            assert all(now[0] <= before[0] + 8 for now, before in zip(held, connections_before, strict=True))
            assert web.threads() <= threads + 14  # those of the pools, however many listen
            for one in people:
                await db(notify, one, f"for {one.user.pk}")
            for number, ear in enumerate(ears):
                await ear.until(lambda one: one.changes)
                assert [row["title"] for row in ear.told("notifications")] == [f"for {people[number // 10].user.pk}"]

        async def is_let_in():
            return await refused(http, web, heads(people[0]), "notifications") == 200

        await eventually(is_let_in)


async def test_who_was_away_for_too_long_or_in_another_world_is_told_to_read_anew(site, web, http, person):
    async with listening(http, web, person, "notifications"):
        await asyncio.sleep(2 * LOOK_EVERY_S)  # so that a look has seen all that made this person
        async with listening(http, web, person, "notifications") as ear:
            place = ear.id

    def tell_late():
        subject = ("notification", uuid7())
        sql, names = stream.publishing(person.brand.pk, notices.CREATED, subject=subject, owner_id=person.user.pk)
        with scope(SERVICE):
            send((sql.replace("now()", "now() - interval '11 minutes'"), names))

    await db(tell_late)
    for old in (place, "99999999999.99999999999.0"):  # as from a database that was restored since
        async with listening(http, web, person, "notifications", after=old) as ear:
            await ear.until(lambda one: one.has("reload"))
            await db(notify, person, "New")
            await ear.until(lambda one: one.changes)


async def test_one_person_with_many_keys_leaves_room_for_everybody_else(settings):
    """A hundred keys, on any number of brands, would fill a process that all brands share."""
    settings.REALTIME_STREAMS, hub, owner = {"each": 2, "process": 100}, Hub(), uuid7()

    def comes(owner, key=None):
        subscription = Subscription(Listener(Principal("app_user", uuid7(), owner, key_id=key), []))
        hub.add(subscription)
        return subscription

    of_keys = [comes(owner, uuid7()) for _ in range(10)]
    with pytest.raises(TooManyStreams):
        comes(owner, uuid7())
    comes(uuid7())
    hub.remove(of_keys[0])
    comes(owner, uuid7())


async def test_who_reads_too_slowly_keeps_no_more_than_a_bounded_number_of_events(person):
    table = NOTIFICATIONS
    listening_to = Topic(table, principal(person))
    subscription, hub = Subscription(Listener(principal(person), [listening_to])), Hub()
    hub.add(subscription)

    brand_id, owner_id = person.brand.pk, person.user.pk

    def happens(count: int) -> Batch:
        events = [
            Event(brand_id=brand_id, type=notices.CREATED, subject_id=uuid7(), owner_id=owner_id, data={}, xid=7, seq=n)
            for n in range(count)
        ]
        return Batch(events, Place(Look(8), Look(8)), Place(Look(7), Look(8)))

    hub.hand_out(happens(MOST_BEHIND), [table])
    assert len(subscription.news) == MOST_BEHIND
    hub.hand_out(happens(1), [table])

    assert (len(subscription.news), subscription.is_behind) == (0, True)


@pytest.mark.parametrize("language", ["python", "js"])
async def test_the_examples_of_the_documentation_hear_a_message(site, web, person, language, tmp_path):
    """S3 realtime.subscribeToMessages(conversationId, payload => payload.new), with the client that we ship."""
    chat = await db(make_chat, person)
    (example,) = re.findall(rf"```{language}\n(.*?)```", (PROJECT / "docs" / "realtime.md").read_text(), re.DOTALL)
    (tmp_path / "example.mjs").write_text(example)
    shutil.copy(PROJECT / "static" / "js" / "realtime.js", tmp_path / "realtime.js")
    (tmp_path / "package.json").write_text('{"type": "module"}')
    command = [sys.executable, "-c", example] if language == "python" else ["node", "example.mjs"]
    env = {"CHATSITE_URL": web.url, "CHATSITE_KEY": await db(make_key, person, *READS), "CONVERSATION": str(chat.pk)}
    program = await asyncio.create_subprocess_exec(
        *command, cwd=tmp_path, env=os.environ | env, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )

    async def keep_talking():
        while True:  # who is not there yet hears the next one
            await db(an_answer, chat)
            await asyncio.sleep(0.3)

    talking = asyncio.create_task(keep_talking())
    hearing = asyncio.create_task(program.communicate())
    async with asyncio.timeout(30):
        await asyncio.wait([hearing, talking], return_when=asyncio.FIRST_COMPLETED)
    talking.cancel()
    out, wrong = await hearing
    assert (out.decode(), program.returncode) == ("New message: S\n", 0), wrong.decode()


def test_a_connection_that_takes_nothing_is_cut_by_the_kernel():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        hang_up_on_the_stalled(listener.fileno(), 7)
        with socket.create_connection(listener.getsockname()):
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 7000
