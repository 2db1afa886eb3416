"""A member's own key in real questions: where it goes, what it costs, and that ours is never used in its place."""

import asyncio
import json

import anthropic
import openai
import pytest
from django.db import connections

from conversations.engine import reaper
from conversations.models import Turn
from events.models import Notification
from lib.db import SERVICE, db, scope
from providers import own_keys
from providers.errors import KeyRefused
from providers.models import AIProvider, Fallback
from providers.vendors import VENDORS
from tests import factories
from tests.conversations import rows
from tests.conversations.own import allow, give, member, row
from tests.conversations.rows import charged, leftovers, stored
from tests.server import Browser, eventually, said
from tests.upstream import Upstream

OURS = "sk-test-0123456789abcdef"
ASK = [{"role": "user", "content": "Hello?"}]
BREAKER = {"failures": 3, "window_s": 60, "rest_s": 30, "longest_rest_s": 60, "longest_busy_s": 60}


@pytest.fixture(scope="module")
def elsewhere():
    with Upstream() as upstream:
        yield upstream


@pytest.fixture(scope="module")
def own(_running, django_db_blocker, elsewhere):
    """A process that says everything it can say, with a breaker, and a server of the operator's beside the vendors."""
    site, _ = _running
    with django_db_blocker.unblock(), site.database():
        make = {"protocol": "openai", "max_tokens": 500, "context_window": 32_000, "position": 300}
        factories.make_provider("own-gateway", model="m;tokens=3", base_url=elsewhere.openai_url, **make)
        factories.make_provider("own-words", model="m;tokens=20;own=1", **make)
        factories.make_provider("own-second", model="m;tokens=7;own=2", **make)
        factories.make_provider("own-mends", model="m;tokens=20;fails=2;own=3", **make)
        factories.make_provider("own-cut", model="m;cut=middle;after=5;own=4", **make)
        env = {"EGRESS_ALLOW": f"{site.upstream.host_port},{elsewhere.host_port}", "BREAKER": json.dumps(BREAKER)}
        with site.serve(LOG_LEVEL="DEBUG", ACCESS_LOG="1", **env) as web:
            yield web


@pytest.fixture
def web(own, elsewhere):
    elsewhere.reset()
    return own


@pytest.fixture
async def holder(person, site):
    """A member with two questions a day, whose plan allows keys of one's own, and who has two."""
    await db(allow, person)
    await db(give, person, "sk-own-openai-1234")
    await db(give, person, "sk-own-anthropic-5678", "anthropic")
    return person


def provider(site, name):
    return AIProvider.objects.get(api_identifier=name).pk


async def asked(browser, site, model, text="Hello?"):
    found = await browser.ask(text, model=await db(provider, site, model))
    if found.turn_id is None:
        return found, None, None
    await browser.read(found.turn_id)
    return found, *await db(stored, found.turn_id)


def keys_sent(upstream):
    return [call.get("key") for call in upstream.calls() if call["path"] != "/v1/models"]


async def test_a_question_is_asked_with_the_members_key_and_counts_nowhere(site, browser, holder):
    """Q-27: more questions than the plan has; the entries say who paid."""
    for number in range(3):
        found, turn, message = await asked(browser, site, "own-words")
        assert (found.status, turn.status, message.content) == (200, "done", said(20)), number
        assert (turn.pocket, turn.is_charged) == ("own_key", True)
        assert set((await db(charged, turn.pk)).values()) == {0}

    assert keys_sent(site.upstream) == ["sk-own-openai-1234"] * 3
    await eventually(lambda: is_used(holder))


async def is_used(person):
    used = await db(row, person)
    return used.status == "valid" and used.checked_at and used.last_used_at


async def test_a_key_goes_to_its_vendors_host_and_to_no_other(site, browser, holder, elsewhere):
    """Q-27, W-21: the header is looked at on each host. Anthropic's key is not OpenAI's, and a gateway gets neither."""
    for model in ("own-words", "claude", "own-gateway"):
        _, turn, _ = await asked(browser, site, model)
        assert turn.status == "done"

    assert keys_sent(site.upstream) == ["sk-own-openai-1234", "sk-own-anthropic-5678"]
    (call,) = elsewhere.calls()
    assert "Authorization" not in call["headers"]
    pockets = [turn.pocket for turn in await db(rows.of, holder)]
    assert pockets[:2] == ["own_key", "own_key"]
    assert pockets[2] != "own_key"


async def test_a_program_asks_with_its_persons_own_key_at_every_door(site, web, holder):
    async with (
        openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=holder.key, max_retries=0) as client,
        anthropic.AsyncAnthropic(base_url=web.url, api_key=holder.key, max_retries=0) as claude,
    ):
        answer = await client.chat.completions.create(model="own-words", messages=ASK)
        assert answer.choices[0].message.content == said(20)
        response = await client.responses.create(model="own-words", input="Hello?", store=True)
        assert response.output_text == said(20)
        message = await claude.messages.create(model="claude", messages=ASK, max_tokens=100)
        assert message.content[0].text == said(20)
        vectors = await client.embeddings.create(model="vectors", input=["one", "two"])
        assert len(vectors.data) == 2

    assert keys_sent(site.upstream) == [
        "sk-own-openai-1234", "sk-own-openai-1234", "sk-own-anthropic-5678", "sk-own-openai-1234",
    ]  # fmt: skip
    for turn in await db(rows.of, holder):
        assert turn.pocket == "own_key"
        assert set((await db(charged, turn.pk)).values()) == {0}


def chain(person, *models):
    with scope(SERVICE):
        for position, model in enumerate(models):
            Fallback.objects.create(brand=person.brand, provider_id=model, position=position)


@pytest.mark.parametrize("key", ["sk-own-revoked-99", "sk-forbidden-99999"])
async def test_a_refused_key_is_marked_and_told_and_nobody_else_is_asked(site, browser, holder, key):
    """Q-08, Q-27: not our key, and no other model of the chain; then the member decides."""
    await db(chain, holder, await db(provider, site, "own-second"))
    await db(give, holder, key)
    site.upstream.revoke(key)

    _, turn, message = await asked(browser, site, "own-words")

    assert keys_sent(site.upstream) == [key]
    assert (turn.status, turn.error_code, turn.is_charged) == ("failed", "own_key_refused", False)
    assert "refused your own key ending in" in message.error_detail
    assert "switch it off" in message.error_detail
    assert key not in message.error_detail
    assert set((await db(charged, turn.pk)).values()) == {0}
    marked = await db(row, holder)
    assert marked.status == "invalid"
    assert key not in marked.vendor_message
    (notice,) = await db(notices_of, holder)
    assert (notice.type, notice.action_url) == ("key_update", "/settings/keys/")
    assert key not in notice.message

    before = await db(leftovers, holder)
    found, _, _ = await asked(browser, site, "own-words")
    assert (found.status, found.turn_id) == (403, None)
    assert "switch it off there to ask with your plan" in found.body
    assert await db(leftovers, holder) == before
    assert keys_sent(site.upstream) == [key]

    await db(switch_off, holder)
    _, turn, _ = await asked(browser, site, "own-words")
    assert (turn.status, (await db(charged, turn.pk))["queries"]) == ("done", 1)
    assert keys_sent(site.upstream) == [key, OURS]
    assert len(await db(notices_of, holder)) == 1


def notices_of(person):
    with scope(SERVICE):
        return list(Notification.objects.filter(owner_id=person.user.pk))


def switch_off(person):
    with scope(member(person)):
        own_keys.switch(member(person), VENDORS["openai"], is_used=False)


async def test_a_program_hears_which_key_was_refused_and_does_not_try_again(site, web, holder):
    """Not 401: it would take its key to us for the one that is meant."""
    site.upstream.revoke("sk-own-openai-1234")
    async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=holder.key, max_retries=3) as client:
        for _ in range(2):  # refused by the vendor, then by us
            with pytest.raises(openai.PermissionDeniedError) as refused:
                await client.chat.completions.create(model="own-words", messages=ASK)
            assert refused.value.code == "own_key_refused"
            assert "ending in 1234" in refused.value.message
        with pytest.raises(openai.PermissionDeniedError):
            await client.embeddings.create(model="vectors", input="one")

    assert keys_sent(site.upstream) == ["sk-own-openai-1234"]


async def test_a_failure_is_repeated_with_the_same_key_and_handed_to_nobody(site, browser, holder):
    await db(chain, holder, await db(provider, site, "own-second"))

    _, turn, _ = await asked(browser, site, "own-mends")
    assert (turn.status, len(turn.attempts)) == ("done", 2)
    assert keys_sent(site.upstream) == ["sk-own-openai-1234"] * 3

    site.upstream.reset()
    await db(give, holder, "sk-down-own-4444")
    _, turn, message = await asked(browser, site, "own-words")
    assert (turn.status, turn.is_charged) == ("failed", False)
    assert "your own key at OpenAI, and nothing else was tried" in message.error_detail
    assert set(keys_sent(site.upstream)) == {"sk-down-own-4444"}
    assert (await db(row, holder)).status == "valid"  # the vendor was out of order: that is no fault of the key's


async def test_no_money_left_is_said_and_is_no_fault_of_the_keys(site, browser, holder):
    await db(give, holder, "sk-unpaid-own-4444")

    _, turn, message = await asked(browser, site, "own-words")

    assert turn.status == "failed"
    assert "has no credit left" in message.error_detail
    assert (await db(row, holder)).status == "valid"
    assert set(keys_sent(site.upstream)) == {"sk-unpaid-own-4444"}


async def test_what_breaks_off_in_the_middle_keeps_its_text_and_costs_nothing(site, browser, holder):
    _, turn, message = await asked(browser, site, "own-cut")

    assert (turn.status, message.content) == ("failed", said(5))
    assert set((await db(charged, turn.pk)).values()) == {0}


async def test_a_key_that_is_off_or_not_in_the_plan_pays_nothing(site, browser, holder):
    await db(switch_off, holder)
    _, turn, _ = await asked(browser, site, "own-words")
    assert (await db(charged, turn.pk))["queries"] == 1

    await db(give, holder, "sk-own-again-1234")
    await db(allow, holder, byok=False)
    _, turn, _ = await asked(browser, site, "own-words")
    assert (await db(charged, turn.pk))["queries"] == 1
    assert keys_sent(site.upstream) == [OURS, OURS]


async def test_a_key_that_was_never_checked_pays_and_is_checked_by_that(site, browser, holder):
    await db(give, holder, "sk-own-new-7777", status="unchecked")

    _, turn, _ = await asked(browser, site, "own-words")

    assert turn.pocket == "own_key"
    await eventually(lambda: is_used(holder))


async def test_answers_at_once_are_capped_with_an_own_key_too(site, browser, holder):
    await db(allow, holder, concurrent_turns=1)
    first = await browser.ask("Hello?", model=site.models["slow"])
    second = await browser.ask("And you?", model=site.models["slow"])

    assert (first.status, second.status) == (200, 429)
    await browser.stop(first.turn_id)
    await eventually(lambda: _is_over(first.turn_id))
    assert set((await db(charged, first.turn_id)).values()) == {0}


async def _is_over(turn_id):
    turn, _ = await db(stored, turn_id)
    return turn.status == Turn.Status.STOPPED


async def test_a_process_that_is_killed_in_the_middle_charges_nothing_for_it(site, http, holder, settings):
    """Q-10: the reaper knows from the row who paid."""
    settings.TURN_LOST_AFTER_S = 3.0
    with site.serve() as doomed:
        browser = Browser(http, doomed, holder)
        found = await browser.ask("Hello?", model=site.models["long"])
        await eventually(lambda: db(rows.kept, found.turn_id), seconds=60)
        doomed.kill()

    await eventually(lambda: is_reaped(found.turn_id), seconds=60, every=0.5)
    turn, message = await db(stored, found.turn_id)
    assert (turn.status, turn.pocket, turn.is_charged) == ("interrupted", "own_key", True)
    assert message.content
    assert set((await db(charged, turn.pk)).values()) == {0}


async def is_reaped(turn_id):
    await db(reaper.reap)
    turn, _ = await db(stored, turn_id)
    return turn.status == Turn.Status.INTERRUPTED


async def test_an_envelope_that_was_moved_stops_the_question(site, browser, holder, web):
    """A-15: nothing is asked, held or charged, and the log raises the alarm."""
    await db(swap, holder)
    before = await db(leftovers, holder)

    found, _, _ = await asked(browser, site, "own-words")

    assert (found.status, found.turn_id) == (500, None)
    assert "cannot be opened here any more" in found.body
    assert await db(leftovers, holder) == before
    assert keys_sent(site.upstream) == []
    assert "alert=sealed_row_unreadable" in web.logged()


def swap(person):
    with scope(SERVICE), connections["service"].cursor() as cursor:
        cursor.execute(
            "update providers_providerkey k set secret = o.secret from providers_providerkey o "
            "where k.owner_id = %(owner)s and o.owner_id = k.owner_id and o.vendor <> k.vendor",
            {"owner": person.user.pk},
        )


async def test_one_members_bad_key_keeps_nobody_else_waiting(site, http, web, holder):
    """The breaker rests for that key alone; it is not even told which key it was."""
    broken, well = await db(site.person, holder.brand), await db(site.person, holder.brand)
    await db(allow, broken)
    await db(give, broken, "sk-down-own-6666")
    for _ in range(3):
        await asked(Browser(http, web, broken), site, "own-second")
    rests, _, _ = await asked(Browser(http, web, broken), site, "own-second")
    assert (rests.status, rests.turn_id) == (503, None)

    for person in (holder, well):
        _, turn, _ = await asked(Browser(http, web, person), site, "own-second")
        assert turn.status == "done"
    assert keys_sent(site.upstream)[-2:] == ["sk-own-openai-1234", OURS]


async def test_many_members_at_once_each_pay_with_their_own_key(site, http, web):
    brand = await db(site.brand)
    people = [await db(site.person, brand) for _ in range(6)]
    for number, person in enumerate(people):
        await db(allow, person)
        await db(give, person, f"sk-own-person-{number:04d}")

    async def ask(number, person):
        _, turn, _ = await asked(Browser(http, web, person), site, "echo", f"I am {number:04d}")
        assert turn.pocket == "own_key"

    await asyncio.gather(*(ask(number, person) for number, person in enumerate(people) for _ in range(3)))

    for call in site.upstream.calls():
        assert call["key"] == "sk-own-person-" + call["body"]["messages"][-1]["content"][-4:]


async def test_a_key_that_was_replaced_meanwhile_is_not_blamed(site, holder):
    """Two tabs: the answer of the old key fails after the new one was stored."""
    old = await db(row, holder)
    await db(give, holder, "sk-own-new-8888")

    failure = KeyRefused(vendor_status=401, vendor_detail="no")
    await db(own_keys.refused, old, failure)
    await db(own_keys.answered, old)

    new = await db(row, holder)
    assert (new.status, new.last_used_at) == ("valid", None)
