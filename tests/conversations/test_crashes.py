"""The process dies, is asked to stop, or loses its database: every turn ends once, with its text, and is charged once."""

import asyncio
import contextlib
import os
import signal
from datetime import timedelta

import aiohttp
import psycopg
import pytest
from django.db import connections
from django.db.models import F

from accounts.models import ApiKey, IdempotencyRecord, Membership, User
from conversations.engine import reaper, runner
from lib.db import SERVICE, db, scope
from quotas.models import Hold
from tests.conversations import rows
from tests.conversations.rows import charged, stored
from tests.server import CSRF, Browser, Seen, eventually, said

LOST_AFTER_S = 3.0
FORM = "application/x-www-form-urlencoded"
KILLS = int(os.environ.get("SOAK_KILLS", "1"))  # of each fault point
STREAMS = int(os.environ.get("SOAK_STREAMS", "30"))  # open when the process is asked to end
WORDS_PER_S = 20
MOST_LOST_S = 10  # checkpoints are a second apart; a machine that is busy with other tests takes longer over one
WORD_CHARACTERS = len("w0001 ")


@pytest.fixture(autouse=True)
def _short_patience(settings):
    settings.TURN_LOST_AFTER_S = LOST_AFTER_S


async def reap_until_over(person) -> None:
    """As beat does, with several workers at once."""

    async def all_over():
        await asyncio.gather(*(db(reaper.reap) for _ in range(3)))
        return not await db(rows.running, person) and not await db(holds, person)

    await eventually(all_over, seconds=60, every=0.5)


def holds(person) -> int:
    with scope(SERVICE):
        return Hold.objects.filter(brand=person.brand).count()


async def _read_until_cut(browser: Browser, turn_id, seen: Seen) -> None:
    with contextlib.suppress(Exception):  # the process it reads from is killed
        await browser.read(turn_id, seen)


async def test_a_killed_process_with_fifty_streams_loses_no_more_than_was_said_since_the_last_checkpoint(
    site, http, person
):
    """Q-10, INV1-INV10: all final, no checkpoint lost, each charged exactly once, no hold left."""
    with site.serve(LIMITS='{"first_token_s": 60, "idle_s": 60}') as web:
        browser = Browser(http, web, person)
        asked = await asyncio.gather(*(browser.ask(f"{number}?", site.models["long"]) for number in range(50)))
        seen = [Seen() for _ in asked]
        readers = [
            asyncio.create_task(_read_until_cut(browser, one.turn_id, its))
            for one, its in zip(asked, seen, strict=True)
        ]
        for one in asked:
            await eventually(lambda turn=one.turn_id: db(rows.kept, turn), seconds=60)
        safe = {one.turn_id: await db(rows.kept, one.turn_id) for one in asked}
        web.kill()
        await asyncio.wait(readers, timeout=60)

    await reap_until_over(person)

    assert await db(reaper.reap) == 0
    for one, its in zip(asked, seen, strict=True):
        turn, answer = await db(stored, one.turn_id)
        assert (turn.status, answer.status, answer.error_code) == ("interrupted", "interrupted", "interrupted")
        assert its.text == said(600)[: len(its.text)]
        assert answer.content == said(600)[: len(answer.content)]
        assert answer.content.startswith(safe[one.turn_id])
        assert len(its.text) - len(answer.content) <= MOST_LOST_S * WORDS_PER_S * WORD_CHARACTERS
        assert await db(charged, one.turn_id) == {"queries": 1, "tokens": answer.tokens_used}
        assert answer.tokens_used > 0


# fault point -> (status of the turn or None when there is none, whether it is charged): every boundary of DESIGN 3.
# None = if a word was there at the first checkpoint, which a busy machine does not promise.
POINTS = {
    "after_claim": (None, False),
    "after_reserve": (None, False),
    "after_begin": ("interrupted", False),
    "after_first_piece": ("interrupted", False),
    "after_checkpoint": ("interrupted", None),
    "after_provider": ("interrupted", True),
    "in_finish": ("interrupted", True),
    "after_finish": ("done", True),
}
AT_A_TIME = 2  # processes that are started and die side by side


@pytest.mark.parametrize("door", ["page", "program"])
@pytest.mark.parametrize("number", range(KILLS))
async def test_a_process_that_dies_between_two_steps_leaves_a_whole_turn_or_none(site, http, web, number, door):
    """Q-10: at each boundary of a message's life, for who asks on a page and for programs."""
    few = asyncio.Semaphore(AT_A_TIME)

    async def die(point: str) -> None:
        person = await db(site.person)
        async with few, doomed(site, point) as process:
            with contextlib.suppress(aiohttp.ClientError, AssertionError):
                if door == "page":
                    await Browser(http, process, person).ask("Is anybody there?", site.models["brisk"], key="the same")
                else:
                    await call(http, process, person)
            assert await asyncio.to_thread(process.wait, 120) == -9, point
        await reap_until_over(person)
        await (_page_is_whole if door == "page" else _call_is_whole)(site, http, web, person, point)

    async with asyncio.TaskGroup() as group:
        for point in POINTS:
            group.create_task(die(point), name=point)


@contextlib.asynccontextmanager
async def doomed(site, point: str):
    with contextlib.ExitStack() as stack:
        yield await asyncio.to_thread(stack.enter_context, site.serve(FAULT=point))


async def call(http, web, person) -> None:
    body = {"model": "brisk", "messages": [{"role": "user", "content": "Is anybody there?"}], "stream": True}
    headers = {"Authorization": f"Bearer {person.key}"}
    async with http.post(f"{web.url}/v1/chat/completions", json=body, headers=headers) as response:
        await response.read()


async def _page_is_whole(site, http, web, person, point: str) -> None:
    status, is_charged = POINTS[point]
    turns = await db(rows.of, person)
    if is_charged is None:
        is_charged = turns[0].produced_tokens > 0
    assert [(turn.status, turn.is_charged) for turn in turns] == ([(status, is_charged)] if status else []), point
    for turn in turns:
        _, answer = await db(stored, turn.pk)
        assert answer.content == said(40)[: len(answer.content)], point
        assert bool(answer.content) == is_charged, point
        assert sum((await db(charged, turn.pk)).values()) == (1 + answer.tokens_used if is_charged else 0), point
    again = await Browser(http, web, person).ask("Is anybody there?", site.models["brisk"], key="the same")
    if status:
        assert again.turn_id == turns[0].pk, point
    else:  # nothing was held: the claim is taken over after a minute; a hold was given back: with its claim
        assert again.status == (409 if point == "after_claim" else 200), point


async def _call_is_whole(site, http, web, person, point: str) -> None:
    status, is_charged = POINTS[point]
    turns = await db(rows.of, person)
    if is_charged is None:
        is_charged = turns[0].produced_tokens > 0
    assert [(turn.status, turn.is_charged) for turn in turns] == ([(status, is_charged)] if status else []), point
    for turn in turns:
        bill = await db(charged, turn.pk)
        assert bill.get("queries", 0) == is_charged, point
        assert bool(bill.get("tokens", 0)) == is_charged, point
        assert bill.get("tokens", 0) <= turn.held_tokens, point


@pytest.mark.parametrize("point", ["after_claim", "after_reserve"])
async def test_a_request_that_died_may_be_done_again_under_its_key_and_is_paid_for(site, http, person, web, point):
    """Q-12: the claim of a dead process is taken over after a minute; what its hold was is not held twice, nor never."""
    with site.serve(FAULT=point) as doomed:
        with contextlib.suppress(Exception):
            await Browser(http, doomed, person).ask("Again?", site.models["words"], key="taken over")
        await asyncio.to_thread(doomed.wait, 60)
    await reap_until_over(person)

    def age():
        with scope(SERVICE):
            mine = IdempotencyRecord.objects.filter(owner_id=person.user.pk)
            mine.update(created_at=F("created_at") - timedelta(minutes=2))

    await db(age)
    browser = Browser(http, web, person)
    again = await browser.ask("Again?", site.models["words"], key="taken over")
    assert (await browser.read(again.turn_id)).text == said(20)
    assert (await db(charged, again.turn_id))["queries"] == 1


async def test_a_process_that_is_asked_to_stop_lets_answers_end_and_keeps_the_text_of_the_rest(site, http, person, web):
    """O-10: SIGTERM with open streams; no connection is taken, all are final when it has gone, without the reaper.

    What comes on open connections is answered for a while. Then nothing new is taken before anything is held, and who
    reads an answer of another process there is let go, and goes on elsewhere.
    """
    share, surviving = STREAMS // 2, web
    with site.serve(DRAIN_S="5", LAME_DUCK_S="5") as web:
        browser = Browser(http, web, person)
        short = await asyncio.gather(*(browser.ask("Short.", site.models["brisk"]) for _ in range(share)))
        long = await asyncio.gather(*(browser.ask("Long.", site.models["long"]) for _ in range(share)))
        seen = [Seen() for _ in (*short, *long)]
        readers = [
            asyncio.create_task(browser.read(one.turn_id, its)) for one, its in zip((*short, *long), seen, strict=True)
        ]
        await has_begun(*seen)
        its_writer = Browser(http, surviving, person)
        distant = await its_writer.ask("Elsewhere.", site.models["long"])
        half_seen = await browser.read(distant.turn_id, until=30)
        half = half_seen.last_id
        let_go = asyncio.create_task(browser.read(distant.turn_id, half_seen))
        sent = asyncio.Event()
        form = f"text=Now?&csrfmiddlewaretoken={CSRF}&owner={browser.owner}".encode()
        page = refused_as_restarting(
            browser, web, "/c/send/", form, sent, **{"Content-Type": FORM, "HX-Request": "true"}
        )
        call = b'{"model":"words","messages":[{"role":"user","content":"Now?"}]}'
        door = refused_as_restarting(
            browser, web, "/v1/chat/completions", call, sent, Authorization=f"Bearer {person.key}"
        )
        late = asyncio.gather(page, door)
        await eventually(lambda: goes_on(half_seen, half))
        web.terminate()
        await eventually(lambda: listens_no_more(web), seconds=5, every=0.05)
        still = await browser.ask("On an open connection.", site.models["words"])
        assert (still.status, still.headers["Connection"]) == (200, "close")
        begun = len(await db(rows.of, person))
        await let_go
        assert not half_seen.done, "this process had nothing more to do with it"
        sent.set()
        said_to_page, said_to_program = await late
        assert "restarting" in said_to_page
        assert '"code":"restarting"' in said_to_program
        assert len(await db(rows.of, person)) == begun
        with pytest.raises(aiohttp.ClientConnectionError):
            await browser.get(f"/turns/{distant.turn_id}/stream")
        until = half_seen.last_id + 30
        await its_writer.read(distant.turn_id, half_seen, until=until)
        assert half_seen.text == said(600)[: half_seen.last_id], "it goes on elsewhere"
        await its_writer.stop(distant.turn_id)
        await its_writer.read(distant.turn_id, half_seen)
        assert await asyncio.to_thread(web.wait, 60) == 0
        await asyncio.gather(*readers)

    for one, its in zip(short, seen[:share], strict=True):
        turn, answer = await db(stored, one.turn_id)
        assert (turn.status, answer.content) == ("done", said(40))
        assert its.text == said(40)
        assert its.done
    for one, its in zip(long, seen[share:], strict=True):
        turn, answer = await db(stored, one.turn_id)
        assert (turn.status, turn.is_charged) == ("interrupted", True)
        assert answer.content == its.text
        assert its.text
        assert its.done
        assert (await db(charged, one.turn_id))["queries"] == 1
    assert await db(holds, person) == 0
    assert await db(rows.running, person) == 0


async def listens_no_more(web) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", web.port)
    except ConnectionRefusedError:
        return True
    writer.close()
    return False


async def has_begun(*seen: Seen) -> None:
    async def is_told():
        return all(its.text for its in seen)

    await eventually(is_told)


async def goes_on(seen: Seen, after: int) -> bool:
    return seen.last_id > after


async def refused_as_restarting(browser: Browser, web, path: str, body: bytes, sent: asyncio.Event, **headers) -> str:
    """Whose body takes longer than the process lives on is refused in words, and told when to come back."""

    async def slowly():
        yield body[:10]
        await sent.wait()
        yield body[10:]

    async with browser.post(path, data=slowly(), headers=headers) as response:
        assert (response.status, response.headers["Retry-After"]) == (503, "1")
        assert response.headers["Connection"] == "close"
        return await response.text()


async def test_a_second_signal_hurries_and_still_keeps_every_text(site, http, person):
    with site.serve(DRAIN_S="60", LAME_DUCK_S="60") as web:
        browser = Browser(http, web, person)
        asked = await browser.ask("Long.", site.models["long"])
        seen = Seen()
        reading = asyncio.create_task(browser.read(asked.turn_id, seen))
        await has_begun(seen)
        web.terminate()
        await asyncio.sleep(0.5)
        web.process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(web.wait, 50) == 0  # and not the 120 that it was given
        await reading

    turn, answer = await db(stored, asked.turn_id)
    assert (turn.status, answer.content) == ("interrupted", seen.text)
    assert seen.done


@pytest.mark.parametrize("how", ["removed", "suspended"])
async def test_who_may_not_be_here_any_more_gets_no_further_word(site, browser, settings, how):
    """I-08, I-11: within 5 seconds; what had arrived is kept and charged."""
    assert runner.LOOK_FOR_UNWELCOME_EVERY * settings.CHECKPOINT_EVERY_S < 5
    asked = await browser.ask("Quickly.", site.models["long"])
    seen = Seen()
    reading = asyncio.create_task(_read_until_cut(browser, asked.turn_id, seen))
    await has_begun(seen)

    def leave():
        with scope(SERVICE):
            if how == "removed":
                Membership.objects.filter(user=browser.person.user).delete()
            else:
                User.objects.filter(pk=browser.person.user.pk).update(is_active=False)

    await db(leave)
    await asyncio.wait_for(reading, 60)

    turn, answer = await db(stored, asked.turn_id)
    assert (turn.status, answer.content) == ("stopped", seen.text)
    assert (await db(charged, asked.turn_id))["queries"] == 1
    refused = await browser.ask("More?", site.models["words"])
    assert refused.status in (401, 404)


async def test_the_answer_to_a_revoked_key_ends(site, web, http, person):
    """I-11: within 5 seconds, as an error and not as a quiet end."""
    body = {"model": "long", "messages": [{"role": "user", "content": "Quickly."}], "stream": True}
    headers = {"Authorization": f"Bearer {person.key}"}
    async with http.post(f"{web.url}/v1/chat/completions", json=body, headers=headers) as response:
        assert response.status == 200
        await response.content.readline()

        def revoke():
            with scope(SERVICE):
                ApiKey.objects.filter(user=person.user).update(is_active=False)

        await db(revoke)
        async with asyncio.timeout(60):
            rest = (await response.read()).decode()
    assert '"error"' in rest
    assert "[DONE]" not in rest
    (turn,) = await db(rows.of, person)
    assert (turn.status, turn.is_charged) == ("stopped", True)


def busy(alias: str, name: str) -> tuple[int, int]:
    """How many connections a log-in of the web process has open, and how many of them are in use."""
    row = connections[alias].settings_dict
    home = {"host": row["HOST"], "port": row["PORT"], "user": row["USER"], "password": row["PASSWORD"]}
    with psycopg.connect(**home, dbname=name) as own:
        found = own.execute(
            "select count(*), count(*) filter (where state <> 'idle') from pg_stat_activity"
            " where datname = %s and usename = session_user and pid <> pg_backend_pid()",
            [name],
        ).fetchone()
        assert found is not None
        return found


async def test_three_hundred_open_streams_hold_no_connection_and_no_thread(site, http):
    """O-14: sixty answers, each read in five tabs."""
    person = await db(site.person)
    with site.serve() as web:
        browser = Browser(http, web, person)
        await browser.read((await browser.ask("Warm up.", site.models["words"])).turn_id)
        threads_before = web.threads()
        async with asyncio.TaskGroup() as group:
            seen = []
            for start in (0, 30):
                asking = [browser.ask(f"{number}?", site.models["idle"]) for number in range(start, start + 30)]
                seen += [(asked.turn_id, Seen()) for asked in await asyncio.gather(*asking) for _ in range(5)]
            open_streams = [group.create_task(_read_until_cut(browser, turn_id, its)) for turn_id, its in seen]

            async def are_open():  # a few may meet the vendor's time limits on a busy machine
                return sum(bool(its.text) for _, its in seen) >= 290

            await eventually(are_open, seconds=90)
            samples = []
            for _ in range(30):
                web_login, worker_login = await db(busy, "default", site.name), await db(busy, "service", site.name)
                samples.append((web_login[1], worker_login[1]))
                await asyncio.sleep(0.05)
            threads = web.threads()
            assert await db(rows.running, person) >= 58
            for one in open_streams:
                one.cancel()
            web.kill()
    # The beat's one statement a second may be met at work; a stream's connection would be met every time.
    assert samples.count((0, 0)) >= 20, samples
    assert threads - threads_before <= 16, f"{threads_before} threads became {threads}"
    await reap_until_over(person)
