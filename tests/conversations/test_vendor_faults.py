"""Whatever the vendor does, the turn ends in the right state, the bill is right, and the member is told in words."""

import asyncio

import pytest

from events.models import Event
from lib.db import SERVICE, db, scope
from quotas.models import Bucket
from tests.conversations import rows
from tests.conversations.rows import charged, stored
from tests.server import Browser, eventually, said

# model -> (error code, words that must be in what the member reads)
BEFORE_THE_FIRST_WORD = {
    "key-refused": ("provider_key_refused", "does not accept the key"),
    "busy": ("provider_busy", "Try again in 7 seconds"),
    "broken": ("provider_down", "Try again later"),
    "hang-headers": ("provider_timeout", "took too long"),
    "hang-first": ("provider_timeout", "took too long"),
    "cut-first": ("provider_cut_off", "cut off"),
    "garbled-html": ("provider_garbled", "not an answer"),
}
IN_THE_MIDDLE = {
    "hang-middle": ("provider_timeout", "took too long"),
    "cut-middle": ("provider_cut_off", "What had arrived is kept"),
    "cut-quiet": ("provider_cut_off", "What had arrived is kept"),
    "garbled": ("provider_garbled", "not an answer"),
    "error-mid": ("provider_busy", "Try again shortly"),
}


@pytest.mark.parametrize("model", BEFORE_THE_FIRST_WORD)
async def test_what_fails_before_the_first_word_costs_nothing_and_keeps_the_question(site, browser, model):
    """Q-08"""
    code, words = BEFORE_THE_FIRST_WORD[model]
    asked = await browser.ask("Please keep this.", site.models[model])
    seen = await browser.read(asked.turn_id)

    assert seen.text == ""
    assert words in seen.done
    turn, answer = await db(stored, asked.turn_id)
    assert (turn.status, answer.status, answer.error_code) == ("failed", "failed", code)
    assert (turn.is_charged, answer.tokens_used, answer.cost_microusd) == (False, 0, 0)
    assert set((await db(charged, asked.turn_id)).values()) <= {0}
    async with browser.get(f"/c/{asked.conversation_id}/") as response:
        page = await response.text()
    assert "Please keep this." in page
    assert words in page
    assert "sk-test" not in page


@pytest.mark.parametrize("model", IN_THE_MIDDLE)
async def test_what_fails_in_the_middle_keeps_what_came_and_charges_it_with_the_question(site, browser, model):
    """Q-09; retrying is a new turn with a hold of its own."""
    code, words = IN_THE_MIDDLE[model]
    asked = await browser.ask("Half of it?", site.models[model])
    seen = await browser.read(asked.turn_id)

    assert seen.text == said(5)
    assert words in seen.done
    turn, answer = await db(stored, asked.turn_id)
    assert (turn.status, answer.content, answer.error_code) == ("failed", said(5), code)
    assert answer.token_usage["source"] == "own"
    assert answer.token_usage["prompt_tokens"] > 0
    bill = await db(charged, asked.turn_id)
    assert bill == {"queries": 1, "tokens": answer.tokens_used}
    again = await browser.ask("Half of it?", site.models["words"], asked.conversation_id)
    assert (await browser.read(again.turn_id)).text == said(20)


ODD = ["negative", "string", "nan", "huge", "231", "263", "wrong", "list", "null", "zero", "missing"]


@pytest.mark.parametrize("usage", ODD)
async def test_usage_numbers_that_cannot_be_are_replaced_by_our_own_count(site, browser, usage):
    """Q-23, INV6: within the hold, with an anomaly in the news, and never a 5xx."""
    asked = await browser.ask("Count wrongly.", site.models[f"usage-{usage}"])
    seen = await browser.read(asked.turn_id)

    assert seen.text == said(20)
    turn, answer = await db(stored, asked.turn_id)
    assert (turn.status, answer.token_usage["source"]) == ("done", "own")
    bill = await db(charged, asked.turn_id)
    assert bill == {"queries": 1, "tokens": answer.tokens_used}
    assert 20 <= answer.tokens_used <= turn.held_tokens

    def news():
        with scope(SERVICE):
            return Event.objects.get(brand=browser.person.brand, subject_id=turn.message_id).data

    assert "usage_anomaly" in await db(news)


async def test_the_clients_own_numbers_are_ignored(site, browser):
    """Q-26: tokens, cost and price come from nobody but the vendor and us."""
    form = {"text": "Cheap?", "csrfmiddlewaretoken": "c" * 32, "provider": str(site.models["words"])}
    liar = {"tokens_used": "1", "cost_microusd": "0", "input_price": "0", "role": "assistant", "owner_id": "x"}
    async with browser.post("/c/send/", data={**form, **liar}, headers={"HX-Request": "true"}) as response:
        assert response.status == 200
    turns = await db(rows.of, browser.person)
    await browser.read(turns[0].pk)
    _, answer = await db(stored, turns[0].pk)
    assert answer.tokens_used == 20 + answer.token_usage["prompt_tokens"]
    assert answer.cost_microusd > 0


async def test_a_model_without_a_price_or_not_offered_is_refused_before_any_call(site, browser):
    """Q-04"""
    unpriced = await browser.ask("How much?", site.models["no-price"])
    retired = await browser.ask("Still there?", site.models["retired"])

    assert (unpriced.status, retired.status) == (503, 404)
    assert "no price yet" in unpriced.body
    assert "not offered here" in retired.body
    assert site.upstream.calls() == []
    assert await db(rows.of, browser.person) == []


@pytest.mark.parametrize("people", [1, 5])
async def test_of_fifty_sends_at_one_below_the_limit_exactly_one_is_accepted(site, web, http, people):
    """Q-02 over HTTP: the others are told why and until when, and the vendor is called once per person."""
    crowd = []
    for _ in range(people):
        browser = Browser(http, web, await db(site.person, None, limit=3))
        for _ in range(2):
            asked = await browser.ask("Before.", site.models["words"])
            await browser.read(asked.turn_id)
        crowd.append(browser)
    site.upstream.reset()

    each = 50 // people
    sent = await asyncio.gather(
        *(browser.ask(f"Number {number}.", site.models["words"]) for browser in crowd for number in range(each))
    )

    accepted = [asked for asked in sent if asked.turn_id]
    refused = [asked for asked in sent if not asked.turn_id]
    assert len(accepted) == people
    assert {asked.status for asked in refused} == {402}
    assert all("All 3 questions of your plan are used. New ones come on" in asked.body for asked in refused)

    async def all_over():
        return not sum([await db(rows.running, browser.person) for browser in crowd])

    await eventually(all_over)
    assert len(site.upstream.calls()) == people

    def used():
        with scope(SERVICE):
            return {
                (row.used, row.held)
                for browser in crowd
                for row in Bucket.objects.filter(owner_id=browser.person.user.pk, meter="queries")
            }

    assert await db(used) == {(3, 0)}


async def test_the_same_form_sent_many_times_is_one_question(site, browser):
    """Q-13: a double click, a network retry, a second tab."""
    form = {"model": site.models["slow"], "key": "one-and-the-same"}
    sent = await asyncio.gather(*(browser.ask("Once.", **form) for _ in range(10)))
    late = await browser.ask("Once.", **form)
    other = await browser.ask("Something else.", **form)

    turns = {asked.turn_id for asked in [*sent, late] if asked.turn_id}
    assert len(turns) == 1
    assert {asked.status for asked in sent} <= {200, 409}
    assert late.turn_id in turns
    assert other.status == 422
    assert len(site.upstream.calls()) == 1
    assert (await browser.read(late.turn_id)).text == said(100)
    after = await browser.ask("Once.", **form)
    assert after.turn_id in turns
