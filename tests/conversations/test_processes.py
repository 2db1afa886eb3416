"""Several web processes: an answer is read and stopped at any of them, whatever becomes of Redis or of the process."""

import asyncio
import contextlib
import itertools
import os
import signal

import pytest
import redis

from accounts.models import Membership
from chatsite.embedded.valkey import Valkey
from conversations.engine import relay
from conversations.models import Conversation, Message, Turn
from lib import clock
from lib.db import SERVICE, db, scope
from quotas.models import Entry
from tests.conversations import rows
from tests.conversations.rows import charged, stored
from tests.conversations.test_crashes import busy, has_begun, holds, reap_until_over
from tests.proxy import Proxy, needs_nginx
from tests.server import Browser, Seen, eventually, free_port, said

TURNS_PER_S = int(os.environ.get("SOAK_ROLLING_TURNS_PER_S", "4"))
STREAMS = int(os.environ.get("SOAK_ROLLING_STREAMS", "10"))
FOLLOWED = int(os.environ.get("SOAK_FOLLOWED", "25"))
NEVER = "600"  # seconds between checkpoints: what a reader elsewhere then sees comes from the copy, not from the row


@pytest.fixture(scope="module")
def second(_running):
    with _running[0].serve() as web:
        yield web


@pytest.fixture
def there(http, second, person):
    """The same member at the second process; `browser` is at the first."""
    return Browser(http, second, person)


async def read_here_and_there(turn_id, *browsers: Browser, seen: Seen | None = None) -> Seen:
    """Refresh again and again, each time at the next process, until the answer has ended."""
    seen = seen or Seen()
    for browser in itertools.cycle(browsers):
        await browser.read(turn_id, seen, until=seen.last_id + 40)
        if seen.done or seen.gone:
            return seen
    raise AssertionError


async def test_a_refresh_that_lands_on_another_process_sees_no_gap_and_no_repeat(site, http, there, person):
    """The row says nothing until the end here, so what the other process tells can only come from the copy."""
    with site.serve(CHECKPOINT_EVERY_S=NEVER) as web:
        here = Browser(http, web, person)
        plain, rich = [await here.ask("Go on.", site.models[name]) for name in ("slow", "slow-markdown")]
        one = asyncio.create_task(read_here_and_there(plain.turn_id, there, here))
        steady = asyncio.create_task(here.read(rich.turn_id))
        hopping = asyncio.create_task(read_here_and_there(rich.turn_id, there, here, there))
        only_there = asyncio.create_task(there.read(rich.turn_id))

        assert (await one).text == said(100)
        blocks = (await steady).blocks
        assert len(blocks) > 5
        assert (await hopping).blocks == (await only_there).blocks == blocks
        assert len({its.result().done for its in (steady, hopping, only_there)}) == 1
    for asked in (plain, rich):
        turn, _ = await db(stored, asked.turn_id)
        assert turn.status == "done"
        assert (await db(charged, asked.turn_id))["queries"] == 1


async def test_a_stop_at_another_process_is_heard_through_redis(site, http, there, person):
    """No checkpoint comes, so it can only be Redis. A second stop and one that is late change nothing."""
    with site.serve(CHECKPOINT_EVERY_S=NEVER) as web:
        asked = await Browser(http, web, person).ask("Go on.", site.models["long"])
        seen = await there.read(asked.turn_id, until=30)
        assert [await there.stop(asked.turn_id) for _ in range(2)] == [204, 204]
        async with asyncio.timeout(60):
            await there.read(asked.turn_id, seen)
        assert await there.stop(asked.turn_id) == 204

    turn, answer = await db(stored, asked.turn_id)
    assert (turn.status, answer.content) == ("stopped", seen.text)
    assert (await db(charged, asked.turn_id))["queries"] == 1


def process_of(valkey: Valkey) -> int:
    with redis.Redis.from_url(valkey.url()) as client:
        return client.info("server")["process_id"]


def copied(valkey: Valkey, turn_id) -> int:
    with redis.Redis.from_url(valkey.url()) as client:
        return client.xlen(relay._key(turn_id))


async def test_redis_may_hang_die_and_come_back_while_answers_go_on(site, http, person, tmp_path):
    """O-02: nobody waits for it, nothing is lost or told twice, charges are exact, and nothing needs a restart.

    While it is away readers follow the row, and the checkpoint hears of a stop.
    """
    valkey = Valkey(tmp_path / "valkey")
    await asyncio.to_thread(valkey.start)
    try:
        with site.serve(REDIS_URL=valkey.url()) as first, site.serve(REDIS_URL=valkey.url()) as second:
            here, there = Browser(http, first, person), Browser(http, second, person)
            asked = [await here.ask("Go on.", site.models["steady"]) for _ in range(3)]
            readers = [
                asyncio.create_task(here.read(asked[0].turn_id)),
                asyncio.create_task(there.read(asked[1].turn_id)),
                asyncio.create_task(read_here_and_there(asked[2].turn_id, there, here)),
            ]
            pid = process_of(valkey)
            await asyncio.sleep(1)
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(1.5)
            os.kill(pid, signal.SIGCONT)
            await asyncio.sleep(1)
            os.kill(pid, signal.SIGKILL)
            unheard = await here.ask("Stop this.", site.models["long"])
            said_until = await there.read(unheard.turn_id, until=60)
            assert await there.stop(unheard.turn_id) == 204
            async with asyncio.timeout(60):
                await there.read(unheard.turn_id, said_until)
            seen = await asyncio.gather(*readers)

            await asyncio.to_thread(valkey.start)
            again = await here.ask("Again.", site.models["steady"])

            async def is_copied():
                return await asyncio.to_thread(copied, valkey, again.turn_id) > 3

            await eventually(is_copied)
            assert (await read_here_and_there(again.turn_id, there, here)).text == said(160)
            assert 1 <= first.logged().count("Redis is away") <= 2, "it hung, and it died"
    finally:
        await asyncio.to_thread(valkey.stop)

    for its in seen:
        assert its.text == said(160)
        assert its.done
    for one in (*asked, again):
        turn, answer = await db(stored, one.turn_id)
        assert (turn.status, answer.content) == ("done", said(160))
        assert (await db(charged, one.turn_id))["queries"] == 1
    turn, answer = await db(stored, unheard.turn_id)
    assert (turn.status, answer.content) == ("stopped", said_until.text)
    assert (await db(charged, unheard.turn_id))["queries"] == 1


async def test_a_copy_that_redis_forgot_is_written_again(site, http, there, person):
    with site.serve(CHECKPOINT_EVERY_S=NEVER) as web:
        asked = await Browser(http, web, person).ask("Go on.", site.models["steady"])
        seen = await there.read(asked.turn_id, until=30)
        with redis.Redis.from_url(os.environ["REDIS_URL"]) as client:
            assert client.delete(relay._key(asked.turn_id)) == 1
        await there.read(asked.turn_id, seen, until=90)
        assert (await there.read(asked.turn_id, until=90)).last_id >= 90
        await there.read(asked.turn_id, seen)
    assert seen.text == said(160)


async def test_a_stranger_neither_reads_nor_stops_an_answer_of_another_process(site, http, second, browser, there):
    """I-08"""
    asked = await browser.ask("Mine.", site.models["slow"])
    colleague = await db(site.person, browser.person.brand)
    for stranger in (await db(site.person), colleague):
        elsewhere = Browser(http, second, stranger)
        async with elsewhere.get(f"/turns/{asked.turn_id}/stream") as response:
            assert response.status == 404
        assert await elsewhere.stop(asked.turn_id) == 404
    assert (await there.read(asked.turn_id)).text == said(100)


async def test_who_is_removed_while_reading_at_another_process_gets_no_further_word(site, browser, there):
    """I-08: and is told."""
    asked = await browser.ask("Quickly.", site.models["long"])
    seen = Seen()
    reading = asyncio.create_task(there.read(asked.turn_id, seen))
    await has_begun(seen)

    def leave():
        with scope(SERVICE):
            Membership.objects.filter(user=browser.person.user).delete()

    await db(leave)
    await asyncio.wait_for(reading, 60)

    turn, answer = await db(stored, asked.turn_id)
    assert (turn.status, answer.content) == ("stopped", seen.text)
    assert seen.gone


async def test_an_answer_that_was_deleted_says_that_it_is_gone(site, browser, there):
    asked = await browser.ask("Forget it.", site.models["idle"])
    seen = Seen()
    reading = asyncio.create_task(there.read(asked.turn_id, seen))
    await has_begun(seen)

    def forget():
        turn, message = stored(asked.turn_id)
        with scope(SERVICE):
            Turn.objects.filter(pk=turn.pk).update(message_id=None, conversation=None, stop_asked_at=clock.now())
            Message.objects.filter(conversation_id=message.conversation_id).delete()
            Conversation.objects.filter(pk=message.conversation_id).delete()

    await db(forget)
    await asyncio.wait_for(reading, 60)
    assert seen.gone
    async with there.get(f"/turns/{asked.turn_id}/stream", headers={"Accept": "application/json"}) as response:
        assert response.status == 404
        assert (await response.json())["detail"] == seen.gone


async def test_a_reader_at_another_process_hears_how_the_answer_of_a_killed_one_ended(site, http, there, person):
    """Q-10: the reaper's truth, and one charge."""
    with site.serve() as web:
        asked = await Browser(http, web, person).ask("Go on.", site.models["long"])
        seen = Seen()
        reading = asyncio.create_task(there.read(asked.turn_id, seen))
        await eventually(lambda: db(rows.kept, asked.turn_id), seconds=60)
        web.kill()
    await reap_until_over(person)
    await asyncio.wait_for(reading, 60)

    turn, answer = await db(stored, asked.turn_id)
    assert (turn.status, answer.content) == ("interrupted", said(600)[: len(answer.content)])
    assert answer.content
    assert seen.text == said(600)[: len(seen.text)]
    assert str(answer.pk) in seen.done
    assert 'data-status="interrupted"' in seen.done
    assert (await db(charged, asked.turn_id))["queries"] == 1


async def test_readers_of_other_processes_answers_share_one_connection_to_redis_and_hold_none_to_the_database(
    site, http, person, there
):
    """O-14: also for those whose answer is written elsewhere."""
    with site.serve() as web:
        browser = Browser(http, web, person)
        await there.read((await there.ask("Warm up.", site.models["words"])).turn_id)
        threads_before = there.web.threads()
        asked = [await browser.ask(f"{number}?", site.models["idle"]) for number in range(FOLLOWED)]
        seen = [Seen() for _ in asked]
        reading = [asyncio.create_task(there.read(one.turn_id, its)) for one, its in zip(asked, seen, strict=True)]

        async def all_follow():
            return all(its.text for its in seen)

        await eventually(all_follow)
        samples = []
        for _ in range(30):
            logins = await db(busy, "default", site.name), await db(busy, "service", site.name)
            samples.append(sum(in_use for _, in_use in logins))
            await asyncio.sleep(0.05)
        threads, to_redis = there.web.threads(), connections_to_redis(there.web.process.pid)
        for one in reading:
            one.cancel()
        await asyncio.wait(reading)
    assert samples.count(0) >= 20, samples
    assert threads - threads_before <= 16
    assert to_redis <= 2
    await reap_until_over(person)


def connections_to_redis(pid: int) -> int:
    """Open sockets of a process that lead to Redis."""
    port = redis.connection.parse_url(os.environ["REDIS_URL"])["port"]
    inodes = set()
    for name in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(f"/proc/{pid}/fd/{name}"))
    with open(f"/proc/{pid}/net/tcp") as lines:
        found = [line.split() for line in lines]
    return sum(fields[2].endswith(f":{port:04X}") and f"socket:[{fields[9]}]" in inodes for fields in found[1:])


@needs_nginx
@pytest.mark.timeout(600)  # four starts of a process, and other tests run beside
async def test_a_rolling_restart_under_load_fails_no_request_and_loses_no_word(site, http, person, tmp_path):
    """O-09: both processes are replaced while questions come in and answers are read; readers are led to the other one."""
    ports = free_port(), free_port()
    kept = {"LAME_DUCK_S": "4", "DRAIN_S": "30"}  # as in production
    begun, readers = [], []
    with contextlib.ExitStack() as stack:
        nginx = stack.enter_context(contextlib.closing(Proxy(tmp_path, ports)))
        webs = [await asyncio.to_thread(stack.enter_context, site.serve(port, **kept)) for port in ports]
        browser = Browser(http, nginx, person)

        async def ask_and_read(model: str) -> Seen:
            asked = await browser.ask("Go on.", site.models[model])
            assert asked.status == 200, (asked, [web.logged()[-8000:] for web in webs])
            begun.append((asked.turn_id, model))
            return await read_to_the_end(browser, asked.turn_id)

        async def keep_asking() -> None:
            while True:
                readers.append(asyncio.create_task(ask_and_read("brisk")))
                await asyncio.sleep(1 / TURNS_PER_S)

        readers += [asyncio.create_task(ask_and_read("steady")) for _ in range(STREAMS)]
        asking = asyncio.create_task(keep_asking())
        await asyncio.sleep(1)
        for old, port in zip(webs, ports, strict=True):
            old.terminate()
            assert await asyncio.to_thread(old.wait, 60) == 0
            await asyncio.to_thread(stack.enter_context, site.serve(port, **kept))
        await asyncio.sleep(1)
        asking.cancel()
        seen = await asyncio.gather(*readers)
        requests = nginx.requests()

    failed = [(status, what) for status, _, what in requests if status not in (200, 204)]
    assert failed == []
    assert {server for _, servers, _ in requests for server in servers} == {f"127.0.0.1:{port}" for port in ports}
    length = {"brisk": 40, "steady": 160}
    texts = {turn_id: said(length[model]) for turn_id, model in begun}
    assert sorted(its.text for its in seen) == sorted(texts.values())
    assert await db(answers_of, person) == texts
    assert await db(questions_charged, list(texts)) == [1] * len(texts)
    assert {turn.status for turn in await db(rows.of, person)} == {"done"}
    assert len(await db(rows.of, person)) == len(texts)
    assert await db(holds, person) == 0
    moved = len([what for _, _, what in requests if "/stream" in what]) - len(texts)
    print(f"{len(texts)} answers, {len(requests)} requests, {moved} times a reader was led to the other process")


def answers_of(person) -> dict:
    with scope(SERVICE):
        answers = Message.objects.filter(owner_id=person.user.pk, role="assistant")
        return dict(answers.values_list("turn_id", "content"))


def questions_charged(turn_ids) -> list[int]:
    with scope(SERVICE):
        lines = Entry.objects.filter(reservation__in=turn_ids, bucket__meter="queries")
        return list(lines.values_list("used_delta", flat=True))


async def read_to_the_end(browser: Browser, turn_id) -> Seen:
    """As EventSource does: whoever is let go comes back with the id it stands at."""
    seen = Seen()
    while not seen.done:
        await browser.read(turn_id, seen)
        assert not seen.gone
        await asyncio.sleep(0.1)
    return seen
