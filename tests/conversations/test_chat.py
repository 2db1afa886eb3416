"""A whole chat over HTTP: sent by form, streamed, resumed, stopped; what is seen is what is stored and charged."""

import asyncio
import re

import pytest

from lib.db import db
from tests import factories
from tests.conversations import rows
from tests.conversations.rows import charged, stored
from tests.server import CSRF, Browser, Seen, eventually, said


async def test_a_member_logs_in_by_form_asks_and_gets_what_the_vendor_said(site, web, http, person):
    """T1: sent, streamed to the end, stored, charged once, with a receipt."""
    home = {"Host": person.brand.domain, "Cookie": f"csrftoken={CSRF}"}
    form = {"login": person.user.email, "password": factories.PASSWORD, "csrfmiddlewaretoken": CSRF}
    async with http.post(f"{web.url}/account/login/", data=form, headers=home, allow_redirects=False) as response:
        assert (response.status, response.headers["Location"]) == (302, "/c/")
        person.cookies = f"csrftoken={CSRF}; sessionid={response.cookies['sessionid'].value}"
    async with http.get(f"{web.url}/c/", headers={**home, "Cookie": person.cookies}) as response:
        assert 'id="composer-form"' in await response.text()
    browser = Browser(http, web, person)

    asked = await browser.ask("What is it?", site.models["words"])
    seen = await browser.read(asked.turn_id)

    assert seen.text == said(20)
    assert seen.names[-1] == "done"
    assert "w0020" in seen.done
    assert re.search(r"2[0-9] tokens", seen.done), "the receipt names the tokens"
    turn, answer = await db(stored, asked.turn_id)
    assert (turn.status, turn.is_charged, turn.partial) == ("done", True, "")
    assert (answer.content, answer.status, answer.model) == (said(20), "done", "words")
    (call,) = site.upstream.calls()
    assert call["body"]["messages"] == [{"role": "user", "content": "What is it?"}]
    told = answer.token_usage
    assert (told["source"], told["completion_tokens"]) == ("provider", 20)
    assert await db(charged, asked.turn_id) == {"queries": 1, "tokens": told["prompt_tokens"] + 20}
    async with browser.get(f"/c/{asked.conversation_id}/") as response:
        page = await response.text()
    assert "What is it?" in page
    assert "w0020" in page


async def test_the_second_question_takes_the_first_turn_along(site, browser):
    first = await browser.ask("One?", site.models["words"])
    await browser.read(first.turn_id)
    second = await browser.ask("Two?", site.models["words"], first.conversation_id)
    await browser.read(second.turn_id)

    said_before = [(row["role"], row["content"]) for row in site.upstream.calls()[1]["body"]["messages"]]
    assert said_before == [("user", "One?"), ("assistant", said(20)), ("user", "Two?")]


async def test_a_form_without_javascript_leads_to_the_chat_and_the_answer_arrives_on_reload(site, browser):
    form = {"text": "Plain?", "csrfmiddlewaretoken": CSRF, "provider": str(site.models["words"])}
    async with browser.post("/c/send/", data=form) as response:
        assert response.status == 303
        page = response.headers["Location"]

    async def answered():
        async with browser.get(page) as response:
            return "w0020" in await response.text()

    await eventually(answered)


async def test_a_reader_who_comes_back_goes_on_where_it_was_without_gap_or_repeat(site, browser):
    """O-09: Last-Event-ID is a number of characters."""
    asked = await browser.ask("Slowly.", site.models["slow"])
    seen = Seen()
    for until in (60, 61, 200, 480):
        await browser.read(asked.turn_id, seen, until=until)
    await browser.read(asked.turn_id, seen)

    assert seen.text == said(100)
    assert seen.names.count("done") == 1


async def test_two_readers_a_lazy_one_and_a_late_one_all_get_the_whole_answer(site, browser, http):
    asked = await browser.ask("All of you.", site.models["slow"])
    lazy = await browser.get(f"/turns/{asked.turn_id}/stream")  # never read
    first, second = await asyncio.gather(browser.read(asked.turn_id), browser.read(asked.turn_id))
    late = await browser.read(asked.turn_id)
    lazy.close()

    assert first.text == second.text == late.text == said(100)
    assert first.done == second.done == late.done


async def test_finished_blocks_come_as_html_and_a_resume_gives_the_same_blocks(site, browser):
    asked = await browser.ask("In Markdown.", site.models["markdown"])
    live = [event async for event in browser.events(asked.turn_id)]
    middle = live[len(live) // 2]
    resumed = [event async for event in browser.events(asked.turn_id, middle.id)]

    later = [(event.id, event.data) for event in live if event.name == "block" and event.id > middle.id]
    assert later
    assert [(event.id, event.data) for event in resumed if event.name == "block"] == later


async def test_once_the_process_has_forgotten_an_answer_its_row_serves_late_readers(site, http, person):
    """The same path serves a reader whose turn runs in another process, or in none any more."""
    with site.serve() as first, site.serve() as second:
        asked = await Browser(http, first, person).ask("Here.", site.models["slow"])
        elsewhere = Browser(http, second, person)
        seen = await elsewhere.read(asked.turn_id, until=50)
        await elsewhere.read(asked.turn_id, seen)

    assert seen.text == said(100)
    assert "w0100" in seen.done


@pytest.mark.parametrize("last_id", [10**6, 10**10])
async def test_a_reader_who_claims_to_have_seen_more_than_there_is_gets_the_end_and_blocks_nobody(
    site, browser, last_id
):
    """A process that died had sent up to a second more than its row has; a liar may say any number."""
    asked = await browser.ask("Short.", site.models["words"])
    await browser.read(asked.turn_id)

    events = [event async for event in browser.events(asked.turn_id, last_id)]

    assert [event.name for event in events] == ["done"]


@pytest.mark.parametrize("last_id", ["-1", "x", "1e3", "٣", "9" * 30, "1 2"])
async def test_a_last_event_id_that_is_none_is_refused(site, browser, last_id):
    asked = await browser.ask("Short.", site.models["words"])
    await browser.read(asked.turn_id)
    async with browser.get(f"/turns/{asked.turn_id}/stream", headers={"Last-Event-ID": last_id}) as response:
        assert response.status == 400


async def test_no_reader_and_no_browser_is_needed_for_an_answer_to_be_finished(site, browser):
    """Q-06: a disconnect never stops."""
    asked = await browser.ask("Go on without me.", site.models["slow"])
    await browser.read(asked.turn_id, until=30)  # and hang up

    async def finished():
        turn, answer = await db(stored, asked.turn_id)
        return turn.status == "done" and answer

    answer = await eventually(finished)
    assert answer.content == said(100)
    assert (await db(charged, asked.turn_id))["queries"] == 1


async def test_a_browser_that_hangs_up_while_it_sends_has_asked_all_the_same(site, browser, http):
    """What is stored and held is run, whether or not anybody waits for the page."""
    for wait_ms in (0, 2, 5, 10, 20, 40):
        sending = asyncio.create_task(browser.ask("Gone.", site.models["words"]))
        await asyncio.sleep(wait_ms / 1000)
        sending.cancel()
        await asyncio.wait([sending])

    async def settled():
        await asyncio.sleep(0.5)
        return not await db(rows.running, browser.person)

    await eventually(settled)
    assert {turn.status for turn in await db(rows.of, browser.person)} <= {"done"}


async def test_stop_hangs_up_on_the_vendor_keeps_the_text_and_charges_once(site, browser):
    """Q-06: what had arrived is charged by our own count, the question included."""
    asked = await browser.ask("Too long.", site.models["long"])
    await browser.read(asked.turn_id, until=60)

    assert await browser.stop(asked.turn_id) == 204
    stopped = await asyncio.gather(*(browser.stop(asked.turn_id) for _ in range(5)))
    seen = await browser.read(asked.turn_id)

    assert stopped == [204] * 5
    assert await browser.stop(asked.turn_id) == 204

    async def hung_up():
        return site.upstream.calls()[0]["disconnected"]

    await eventually(hung_up)
    turn, answer = await db(stored, asked.turn_id)
    assert (turn.status, answer.status, answer.is_charged) == ("stopped", "stopped", True)
    assert seen.text == answer.content == said(600)[: len(answer.content)]
    assert len(answer.content) >= 60
    bill = await db(charged, asked.turn_id)
    assert bill["queries"] == 1
    assert bill["tokens"] == answer.tokens_used >= len(answer.content) // 4
    assert answer.token_usage["source"] == "own"
    assert answer.token_usage["prompt_tokens"] > 0


async def test_nobody_else_stops_or_watches_an_answer(site, web, http, browser):
    """I-08: another brand's member, and another member of the same brand."""
    asked = await browser.ask("Mine.", site.models["slow"])
    for brand in (browser.person.brand, None):
        stranger = Browser(http, web, await db(site.person, brand))
        assert await stranger.stop(asked.turn_id) == 404
        async with stranger.get(f"/turns/{asked.turn_id}/stream") as response:
            assert response.status == 404
            assert "w0" not in await response.text()

    assert (await browser.read(asked.turn_id)).text == said(100)


async def test_while_an_answer_is_written_the_chat_takes_no_second_question(site, browser):
    first = await browser.ask("First.", site.models["slow"])
    second = await browser.ask("Second.", site.models["slow"], first.conversation_id)

    assert second.status == 409
    assert "still being written" in second.body
    await browser.stop(first.turn_id)
    await browser.read(first.turn_id)
    third = await browser.ask("Third.", site.models["words"], first.conversation_id)
    assert third.turn_id
    await browser.read(third.turn_id)
