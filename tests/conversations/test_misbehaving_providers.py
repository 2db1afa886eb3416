"""Providers that hang, fail, come back or say when: what is repeated, who takes over, who is left alone, at which price."""

import asyncio
import json
from collections import Counter
from datetime import timedelta

import openai
import pytest

from conversations.engine import reaper
from conversations.models import Conversation
from lib.db import SERVICE, db, scope
from providers.models import AIProvider, Fallback
from quotas.ledger import HOLD_FOR
from quotas.models import Hold
from tests import factories
from tests.conversations import rows
from tests.conversations.rows import charged, leftovers, stored
from tests.server import Browser, eventually, said
from tests.upstream import blackhole

REST_S = 5
BREAKER = {"failures": 3, "window_s": 60, "rest_s": REST_S, "longest_rest_s": 60, "longest_busy_s": 10}
LIMITS = {"connect_s": 0.5, "first_token_s": 3, "idle_s": 1, "total_s": 6, "thinking_s": 1}
# For who counts calls: repeats begin within the first token's.
LONG_LIMITS = {"connect_s": 30, "first_token_s": 60, "idle_s": 60}
# Each test asks models of its own, so that what one breaks is well for the next.
MODELS = {
    "fine": "m;tokens=20;x=1",
    "fine-too": "m;tokens=7;x=2",
    "endless": "m;tokens=400;delay_ms=50",
    "mends": "m;tokens=20;fails=2",
    "mends-soon": "m;tokens=20;fails=1;status=429;retry_after=1",
    "rejects": "m;status=400",
    "no-key": "m;status=401",
    "down": "m;status=500;x=1",
    "down-too": "m;status=500;x=2",
    "down-at-the-door": "m;status=500;x=3",
    "down-for-good": "m;status=503;x=4",
    "down-while-killed": "m;status=500;x=5",
    "recovers": "m;tokens=20;fails=3;status=500",
    "rests": "m;status=500;x=6",
    "rests-alone": "m;status=500;x=7",
    "busy": "m;status=429;retry_after=30;x=1",
    "cuts": "m;cut=middle;after=5;x=1",
    "hangs": "m;hang=first;x=1",
    "hangs-for-all": "m;hang=headers;x=2",
    "stops-calling": "m;tokens=0;calls=1;hang=call",
    "stops": "m;hang=middle;after=5;x=3",
    "muses": "m;thinks=2;hang=first;x=4",
    "broods": "m;hang=first;x=5",
    "broods-too": "m;hang=first;x=15",
    "down-once": "m;status=500;x=8",
    "thinks": "m;tokens=5;thinks=3;cached=2;x=3",
}


@pytest.fixture(scope="module")
def nowhere():
    with blackhole() as url:
        yield url


@pytest.fixture(scope="module")
def models(_running, django_db_blocker, nowhere):
    site, _ = _running
    made = {}
    with django_db_blocker.unblock(), site.database():
        for name, model in MODELS.items():
            made[name] = make(name, model=model)
        made["unreachable"] = make("unreachable", model="m;x=8", base_url=nowhere)
        made["unreachable-too"] = make("unreachable-too", model="m;x=9", base_url=nowhere)
        made["small"] = make("small", model="m;x=10", context_window=60, max_tokens=50)
        made["strict"] = make("strict", protocol="anthropic", model="m;x=11", base_url=site.upstream.anthropic_url)
        made["free"] = make("free", model="m;x=12", priced=False)
        made["gone"] = make("gone", model="m;x=13", is_active=False)
        made["brief"] = make("brief", model="m;tokens=400;x=14", max_tokens=300)
    return made


def make(name, **fields):
    fields = {"protocol": "openai", "max_tokens": 500, "context_window": 32_000, "position": 200, **fields}
    return factories.make_provider(f"f-{name}", **fields).pk


@pytest.fixture(scope="module")
def patient(_running, models):
    """A process with a breaker that opens soon and rests briefly."""
    with _running[0].serve(BREAKER=json.dumps(BREAKER), LIMITS=json.dumps(LONG_LIMITS)) as web:
        yield web


@pytest.fixture(scope="module")
def hasty(_running, models, nowhere):
    """The same, with short limits."""
    site, _ = _running
    allow = ",".join([site.upstream.host_port, nowhere.removeprefix("http://")])
    with site.serve(BREAKER=json.dumps(BREAKER), LIMITS=json.dumps(LIMITS), EGRESS_ALLOW=allow) as web:
        yield web


@pytest.fixture
def browser(http, patient, person):
    return Browser(http, patient, person)


@pytest.fixture
def at_hasty(http, hasty, person):
    return Browser(http, hasty, person)


def give_chain(brand, *provider_ids):
    with scope(SERVICE):
        Fallback.objects.bulk_create(
            Fallback(brand=brand, provider_id=provider_id, position=position)
            for position, provider_id in enumerate(provider_ids)
        )


def called(site) -> Counter:
    names = {model: name for name, model in MODELS.items()}
    return Counter(names.get(call["model"], call["model"]) for call in site.upstream.calls() if "model" in call)


def failed(turn) -> list[tuple[str, str]]:
    return [(attempt["model"], attempt["error_code"]) for attempt in turn.attempts]


@pytest.mark.parametrize(
    ("model", "code", "words", "text"),
    [
        ("unreachable", "provider_down", "F-Unreachable cannot be reached", ""),
        ("hangs", "provider_timeout", "F-Hangs took too long", ""),
        ("stops", "provider_timeout", "F-Stops took too long", said(5)),
        ("endless", "provider_timeout", "F-Endless took too long", "w0001 "),
    ],
)
async def test_each_stage_has_its_limit(site, at_hasty, models, nowhere, model, code, words, text):
    """O-03, W-11: connect, first token, idle and total; the member reads which model it was, and no address."""
    asked = await at_hasty.ask("Well?", models[model])
    seen = await at_hasty.read(asked.turn_id)

    assert seen.text.startswith(text)
    assert words in seen.done
    assert nowhere.removeprefix("http://") not in seen.done
    turn, answer = await db(stored, asked.turn_id)
    assert (turn.status, turn.error_code, turn.is_charged) == ("failed", code, bool(text))
    bill = await db(charged, asked.turn_id)
    assert bill == ({"queries": 1, "tokens": answer.tokens_used} if text else {}) or set(bill.values()) == {0}


async def test_what_a_repeat_can_mend_is_repeated_and_charged_once(site, browser, models):
    """O-03: two calls fail, the third one answers; nobody but the turn's row knows."""
    asked = await browser.ask("Again?", models["mends"])
    seen = await browser.read(asked.turn_id)

    assert seen.text == said(20)
    assert called(site) == {"mends": 3}
    turn, answer = await db(stored, asked.turn_id)
    assert failed(turn) == [("f-mends", "provider_down")] * 2
    assert (turn.status, turn.error_code) == ("done", "")
    assert turn.first_piece_ms is not None
    assert await db(charged, asked.turn_id) == {"queries": 1, "tokens": answer.tokens_used}
    assert "Answered by" not in seen.done


async def test_a_short_retry_after_is_waited_for(site, browser, models):
    asked = await browser.ask("Soon?", models["mends-soon"])

    assert (await browser.read(asked.turn_id)).text == said(20)
    assert called(site) == {"mends-soon": 2}


@pytest.mark.parametrize("model", ["rejects", "no-key", "cuts"])
async def test_what_no_repeat_can_mend_is_asked_once(site, browser, models, model):
    """Q-08, Q-09: a refused question, a refused key, and an answer of which a part is there."""
    asked = await browser.ask("Once.", models[model])
    await browser.read(asked.turn_id)

    assert called(site) == {model: 1}
    turn, _ = await db(stored, asked.turn_id)
    assert (turn.status, turn.attempts) == ("failed", [])


async def test_the_next_model_of_the_chain_answers_under_the_same_hold(site, browser, models):
    """Q-28: both attempts are recorded, the member is charged once, and told who answered."""
    await db(give_chain, browser.person.brand, models["down-too"], models["fine"], models["fine-too"])
    asked = await browser.ask("Anybody?", models["down"])
    seen = await browser.read(asked.turn_id)

    assert seen.text == said(20)
    assert "Answered by F-Fine, because F-Down could not." in seen.done
    assert called(site) == {"down": 3, "down-too": 3, "fine": 1}
    turn, answer = await db(stored, asked.turn_id)
    assert failed(turn) == [("f-down", "provider_down")] * 3 + [("f-down-too", "provider_down")] * 3
    assert (turn.provider_id, answer.provider_id) == (models["fine"], models["fine"])
    assert (answer.model, answer.model_name) == ("f-fine", "F-Fine")
    bill = await db(charged, asked.turn_id)
    assert bill == {"queries": 1, "tokens": answer.tokens_used}
    assert answer.tokens_used <= turn.held_tokens
    async with browser.get(f"/c/{asked.conversation_id}/") as response:
        assert "Answered by F-Fine, because F-Down could not." in await response.text()

    def conversation():
        with scope(SERVICE):
            return Conversation.objects.get(pk=asked.conversation_id)

    assert (await db(conversation)).provider_id == models["down"]  # the member's own choice stays


async def test_a_program_is_told_which_model_answered(site, browser, models, http):
    """Q-28 at /v1: `model` is the one that answered, and a header names the one that was asked."""
    await db(give_chain, browser.person.brand, models["fine"])
    client = openai.AsyncOpenAI(api_key=browser.person.key, base_url=f"{browser.web.url}/v1", max_retries=0)
    ask = {"model": "f-down-at-the-door", "messages": [{"role": "user", "content": "Hello"}]}
    whole = await client.chat.completions.with_raw_response.create(**ask)
    stream = await client.chat.completions.with_raw_response.create(**ask, stream=True)
    chunks = [chunk async for chunk in stream.parse()]
    await client.close()
    native = {"model": "f-down-at-the-door", "max_tokens": 100, "messages": [{"role": "user", "content": "Hello"}]}
    headers = {"x-api-key": browser.person.key, "anthropic-version": "2023-06-01"}
    async with http.post(f"{browser.web.url}/v1/messages", json=native, headers=headers) as response:
        assert (await response.json())["model"] == "f-fine"
        assert response.headers["X-Fallback-From"] == "f-down-at-the-door"

    assert whole.parse().model == "f-fine"
    assert {chunk.model for chunk in chunks} == {"f-fine"}
    assert {answer.headers["X-Fallback-From"] for answer in (whole, stream)} == {"f-down-at-the-door"}
    for turn in await db(rows.of, browser.person):
        assert (turn.provider_id, turn.status) == (models["fine"], "done")
        assert (await db(charged, turn.pk))["queries"] == 1


async def test_a_call_repeated_with_its_key_is_told_again_as_it_was_though_its_models_are_gone(
    site, browser, models, http
):
    """Q-12, Q-28: the model that answered, the one that was asked, and every number of the bill."""
    await db(give_chain, browser.person.brand, models["thinks"])
    url, headers = f"{browser.web.url}/v1", {"Authorization": f"Bearer {browser.person.key}"}
    ask = {"model": "f-down-once", "messages": [{"role": "user", "content": "Once"}], "store": True}

    async def tell():
        given = {**headers, "Idempotency-Key": "once"}
        async with http.post(f"{url}/chat/completions", json=ask, headers=given) as response:
            return response.status, response.headers.get("X-Fallback-From"), await response.json()

    first = await tell()
    assert first[:2] == (200, "f-down-once")
    assert first[2]["model"] == "f-thinks"
    assert first[2]["usage"]["prompt_tokens_details"] == {"cached_tokens": 2}
    assert first[2]["usage"]["completion_tokens_details"] == {"reasoning_tokens": 3}

    def switch_off():
        AIProvider.objects.using("owner").filter(pk__in=[models["down-once"], models["thinks"]]).update(is_active=False)

    await db(switch_off)

    async def are_gone():
        async with http.get(f"{url}/models", headers=headers) as response:
            return not {"f-down-once", "f-thinks"} & {model["id"] for model in (await response.json())["data"]}

    await eventually(are_gone)
    assert await tell() == first


@pytest.mark.parametrize(("model", "asked"), [("muses", {}), ("broods", {"reasoning_effort": "high"})])
async def test_a_model_that_thinks_too_long_for_one_member_rests_for_nobody(site, at_hasty, models, http, model, asked):
    """O-03: with three failures in a row a model rests."""
    ask = {"model": f"f-{model}", "messages": [{"role": "user", "content": "Think."}], **asked}
    headers = {"Authorization": f"Bearer {at_hasty.person.key}"}

    async def status():
        async with http.post(f"{at_hasty.web.url}/v1/chat/completions", json=ask, headers=headers) as response:
            return response.status

    assert await asyncio.gather(*(status() for _ in range(BREAKER["failures"]))) == [504] * BREAKER["failures"]
    assert await status() == 504
    assert called(site) == {model: BREAKER["failures"] + 1}
    for turn in await db(rows.of, at_hasty.person):
        assert (turn.error_code, turn.is_charged) == ("provider_timeout", False)


async def test_a_turn_has_one_time_for_all_its_models(site, http, person, models):
    """O-03: its hold is made once. Else two models that think to no end would outlive it, and the third answers for free."""
    await db(give_chain, person.brand, models["broods-too"], models["fine"])
    ask = {"model": "f-broods", "messages": [{"role": "user", "content": "Think."}], "reasoning_effort": "high"}
    headers = {"Authorization": f"Bearer {person.key}"}
    with site.serve(LIMITS=json.dumps({**LIMITS, "thinking_s": 3, "total_s": 4})) as web:
        async with http.post(f"{web.url}/v1/chat/completions", json=ask, headers=headers) as response:
            told = await response.json()

    assert response.status == 504
    assert "F-Broods-Too took too long" in told["error"]["message"]
    assert called(site) == {"broods": 1, "broods-too": 1}
    (turn,) = await db(rows.of, person)
    assert 4 <= (turn.ended_at - turn.created_at).total_seconds() < 6
    assert (turn.error_code, turn.is_charged) == ("provider_timeout", False)


def test_a_hold_outlives_every_turn(settings):
    """INV10: by some minutes, in which an answer is stored though the database was away."""
    longest = timedelta(seconds=settings.PROVIDER_LIMITS["total_s"])

    assert longest + timedelta(minutes=3) <= HOLD_FOR


async def test_an_answer_that_breaks_off_in_the_middle_is_nobody_elses(site, browser, models):
    """Q-09, Q-28: no fallback once a piece is there; the part is kept and charged."""
    await db(give_chain, browser.person.brand, models["fine"])
    asked = await browser.ask("Half?", models["cuts"])
    seen = await browser.read(asked.turn_id)

    assert seen.text == said(5)
    assert called(site) == {"cuts": 1}
    assert (await db(charged, asked.turn_id))["queries"] == 1


async def test_a_tool_call_that_has_begun_is_a_first_piece_too(site, at_hasty, models):
    """O-03: it is neither repeated nor handed over."""
    await db(give_chain, at_hasty.person.brand, models["fine"])
    tool = {"type": "function", "function": {"name": "look_up", "parameters": {"type": "object", "properties": {}}}}
    ask = {"model": "f-stops-calling", "messages": [{"role": "user", "content": "Call."}], "tools": [tool]}
    headers = {"Authorization": f"Bearer {at_hasty.person.key}"}
    async with at_hasty.session.post(f"{at_hasty.web.url}/v1/chat/completions", json=ask, headers=headers) as response:
        assert (response.status, response.headers["X-Should-Retry"]) == (502, "false")
        assert "F-Stops-Calling took too long" in await response.text()

    assert called(site) == {"stops-calling": 1}
    (turn,) = await db(rows.of, at_hasty.person)
    assert (turn.status, turn.error_code, turn.attempts) == ("failed", "provider_timeout", [])
    assert (await db(charged, turn.pk))["queries"] == 1


async def test_models_that_cannot_take_over_are_passed_over(site, browser, models):
    """Not priced, not offered, too small, or without a parameter that was asked for. A smaller answer keeps to the hold."""
    passed = [models[name] for name in ("free", "gone", "small", "strict")]
    await db(give_chain, browser.person.brand, *passed, models["brief"])
    ask = {"model": "f-down-for-good", "messages": [{"role": "user", "content": "Hello " * 20}], "seed": 7}
    headers = {"Authorization": f"Bearer {browser.person.key}"}
    async with browser.session.post(f"{browser.web.url}/v1/chat/completions", json=ask, headers=headers) as response:
        answer = await response.json()

    assert (response.status, answer["model"]) == (200, "f-brief"), answer
    assert answer["usage"]["completion_tokens"] == 300
    last = site.upstream.calls()[-1]["body"]
    assert (last["max_tokens"], last["seed"]) == (300, 7)


async def test_without_a_model_that_can_the_member_reads_of_both(site, at_hasty, models):
    await db(give_chain, at_hasty.person.brand, models["no-key"])
    asked = await at_hasty.ask("Nobody?", models["unreachable-too"])
    seen = await at_hasty.read(asked.turn_id)

    assert "F-No-Key" in seen.done
    assert "F-Unreachable-Too was asked first and could not answer either." in seen.done
    assert "Nothing had arrived, so it is not counted." in seen.done
    assert set((await db(charged, asked.turn_id)).values()) <= {0}


async def test_what_fails_again_and_again_is_left_alone_and_holds_nothing(site, browser, models):
    """O-03: refused at once with words and Retry-After, no turn and no hold; the same address's other models answer."""
    asked = await browser.ask("One.", models["rests"])
    await browser.read(asked.turn_id)
    assert called(site) == {"rests": 3}  # with its repeats
    before = await db(leftovers, browser.person)

    refused = await browser.ask("Two.", models["rests"])

    assert refused.status == 503
    assert 1 <= int(refused.headers["Retry-After"]) <= REST_S + 1
    assert "F-Rests failed several times in a row and is left alone for now" in refused.body
    assert await db(leftovers, browser.person) == before
    assert called(site) == {"rests": 3}
    other = await browser.ask("Three.", models["fine"])
    assert (await browser.read(other.turn_id)).text == said(20)


async def test_while_a_model_rests_the_next_one_answers_without_asking_it(site, browser, models):
    asked = await browser.ask("One.", models["rests-alone"])
    await browser.read(asked.turn_id)
    await db(give_chain, browser.person.brand, models["fine"])

    again = await browser.ask("Two.", models["rests-alone"])
    seen = await browser.read(again.turn_id)

    assert seen.text == said(20)
    turn, _ = await db(stored, again.turn_id)
    assert failed(turn) == [("f-rests-alone", "provider_resting")]
    assert called(site) == {"rests-alone": 3, "fine": 1}


async def test_after_its_rest_one_probe_goes_out_and_a_model_that_is_well_is_asked_again(site, browser, models):
    asked = await browser.ask("One.", models["recovers"])
    await browser.read(asked.turn_id)
    assert (await browser.ask("Two.", models["recovers"])).status == 503

    async def is_taken():
        again = await browser.ask("Three.", models["recovers"])
        return again if again.status == 200 else None

    again = await eventually(is_taken)
    assert (await browser.read(again.turn_id)).text == said(20)
    many = await asyncio.gather(*(browser.ask("Four.", models["recovers"]) for _ in range(5)))
    assert [(await browser.read(one.turn_id)).text for one in many] == [said(20)] * 5


async def test_an_address_that_nobody_answers_at_rests_with_all_its_models(site, at_hasty, models):
    """What fails together rests together."""

    async def is_left_alone():
        asked = await at_hasty.ask("Hello?", models["unreachable"])
        if asked.turn_id:
            await at_hasty.read(asked.turn_id)
        return asked.status == 503

    await eventually(is_left_alone)

    refused = await at_hasty.ask("And you?", models["unreachable-too"])
    fine = await at_hasty.ask("And you?", models["fine"])

    assert (refused.status, fine.status) == (503, 200)
    assert (await at_hasty.read(fine.turn_id)).text == said(20)


async def test_a_busy_provider_is_not_asked_before_it_said(site, browser, models):
    """Retry-After is honoured: until then nobody is sent there."""
    asked = await browser.ask("One.", models["busy"])
    seen = await browser.read(asked.turn_id)
    refused = await browser.ask("Two.", models["busy"])

    assert "F-Busy is busy" in seen.done
    assert (refused.status, called(site)) == (503, {"busy": 1})
    assert 1 <= int(refused.headers["Retry-After"]) <= BREAKER["longest_busy_s"]
    assert "F-Busy is busy and is left alone for now" in refused.body
    key = {"Authorization": f"Bearer {browser.person.key}"}
    body = {"model": "f-busy", "messages": [{"role": "user", "content": "Three"}]}
    async with browser.session.post(f"{browser.web.url}/v1/chat/completions", json=body, headers=key) as response:
        assert response.status == 429
        assert int(response.headers["Retry-After"]) >= 1


async def test_one_provider_that_hangs_for_everybody_harms_no_other(site, hasty, http, models):
    """O-03: with a hundred turns waiting for it, the others answer, and what was refused is told so."""
    brand = await db(site.brand)
    crowd = [Browser(http, hasty, await db(site.person, brand)) for _ in range(20)]
    stuck = await asyncio.gather(*(one.ask("Stuck.", models["hangs-for-all"]) for one in crowd for _ in range(5)))
    browser = Browser(http, hasty, await db(site.person))
    fine = await asyncio.gather(*(browser.ask("Well?", models["fine"]) for _ in range(20)))

    assert [(await browser.read(one.turn_id)).text for one in fine] == [said(20)] * 20
    assert {one.status for one in stuck if one.turn_id is None} <= {503}  # sent when the first had failed already
    ends = [await crowd[number // 5].read(one.turn_id) for number, one in enumerate(stuck) if one.turn_id]
    assert len(ends) >= BREAKER["failures"]
    assert all("took too long" in seen.done or "left alone" in seen.done for seen in ends)

    def holds():
        with scope(SERVICE):
            return Hold.objects.filter(brand=brand).count()

    assert await db(holds) == 0


async def test_killed_between_the_switch_and_the_first_piece_the_turn_says_who_was_asked(
    site, http, person, models, settings
):
    """Q-28, Q-10: the switch is stored before the next model is asked; the reaper ends the turn and charges nothing."""
    settings.TURN_LOST_AFTER_S = 2.0
    await db(give_chain, person.brand, models["fine"])
    with site.serve(FAULT="after_hand_over", LIMITS=json.dumps(LONG_LIMITS)) as doomed:
        asked = await Browser(http, doomed, person).ask("Hello?", models["down-while-killed"])
        await asyncio.to_thread(doomed.wait, 60)

    async def is_over():
        await db(reaper.reap)
        return not await db(rows.running, person)

    await eventually(is_over, every=0.5)
    turn, answer = await db(stored, asked.turn_id)
    assert (turn.status, turn.provider_id, answer.model) == ("interrupted", models["fine"], "f-fine")
    assert failed(turn) == [("f-down-while-killed", "provider_down")] * 3
    assert called(site) == {"down-while-killed": 3}
    assert set((await db(charged, asked.turn_id)).values()) <= {0}
