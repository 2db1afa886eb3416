"""/v1/embeddings with the official client: vectors in order, one bill, and nothing left behind."""

import asyncio

import openai
import pytest

from conversations.engine import reaper
from lib.db import SERVICE, db, scope
from quotas import ledger
from tests.conversations import rows
from tests.conversations.rows import charged
from tests.server import Browser, eventually


@pytest.fixture
async def client(web, person):
    async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=person.key, max_retries=0) as client:
        yield client


@pytest.mark.parametrize("model", ["vectors", "vectors-floats"])
@pytest.mark.parametrize("form", [None, "float", "base64"])
async def test_texts_become_vectors_in_their_order_and_are_billed_as_the_vendor_counts(
    site, client, person, model, form
):
    given = {} if form is None else {"encoding_format": form}
    answer = await client.embeddings.create(model=model, input=["one two", "three"], dimensions=4, **given)

    vectors = [row.embedding for row in answer.data]
    if form != "base64":
        assert vectors == [[7.0, 2.0, 0.5, 0.5], [5.0, 1.0, 0.5, 0.5]]
    else:
        assert all(isinstance(vector, str) for vector in vectors)
    assert [row.index for row in answer.data] == [0, 1]
    assert (answer.model, answer.usage.prompt_tokens, answer.usage.total_tokens) == (model, 3, 3)
    (turn,) = await db(rows.of, person)
    assert (turn.status, turn.is_charged, turn.conversation_id, turn.sent) == ("done", True, None, {})
    assert await db(charged, turn.pk) == {"queries": 1, "tokens": 3}


async def test_token_numbers_go_to_a_model_that_knows_them(site, client):
    """LangChain sends these."""
    for given, sent in (([1, 2, 3], [[1, 2, 3]]), ([[1, 2], [3]], [[1, 2], [3]])):
        answer = await client.embeddings.create(model="vectors", input=given)
        assert len(answer.data) == len(sent)
        assert site.upstream.calls()[-1]["body"]["input"] == sent
    with pytest.raises(openai.BadRequestError) as refused:
        await client.embeddings.create(model="demo-embedding", input=[1, 2, 3])
    assert refused.value.param == "input"


async def test_the_demo_needs_no_network_and_knows_what_is_alike(site, client):
    texts = ["How do I bake bread?", "baking a bread at home", "quarterly tax report"]
    answer = await client.embeddings.create(model="demo-embedding", input=texts)
    bread, baking, tax = (row.embedding for row in answer.data)

    def near(a, b):
        return sum(x * y for x, y in zip(a, b, strict=True))

    assert len(bread) == 256
    assert near(bread, baking) > near(bread, tax) + 0.1
    assert near(bread, bread) == pytest.approx(1, abs=1e-5)
    again = await client.embeddings.create(model="demo-embedding", input=texts[0], dimensions=64)
    assert len(again.data[0].embedding) == 64
    assert site.upstream.calls() == []


async def test_embedding_models_are_listed_for_programs_and_never_offered_for_a_chat(site, http, web, client, person):
    listed = {model.id: model.kind async for model in client.models.list()}
    assert (listed["vectors"], listed["words"]) == ("embedding", "chat")
    async with Browser(http, web, person).get("/c/") as page:
        assert "Vectors" not in await page.text()
    for work in (
        client.chat.completions.create(model="vectors", messages=[{"role": "user", "content": "x"}]),
        client.responses.create(model="vectors", input="x"),
        client.embeddings.create(model="words", input="x"),
    ):
        with pytest.raises(openai.NotFoundError) as refused:
            await work
        assert refused.value.code == "model_not_found"
    assert site.upstream.calls() == []


@pytest.mark.parametrize("model", ["vectors-broken", "vectors-short", "vectors-hang"])
async def test_what_the_vendor_does_not_do_costs_nothing(site, client, person, model):
    """Q-04, Q-08"""
    with pytest.raises(openai.InternalServerError):
        await client.embeddings.create(model=model, input=["x", "y"])
    (turn,) = await db(rows.of, person)
    assert (turn.status, turn.is_charged) == ("failed", False)
    assert set((await db(charged, turn.pk)).values()) == {0}


async def test_a_program_that_hangs_up_pays_once_for_what_was_done(site, client, person):
    """Q-06"""
    asking = asyncio.create_task(client.embeddings.create(model="vectors-slow", input="one two"))
    await eventually(lambda: db(rows.of, person))
    asking.cancel()

    async def over():
        found = await db(rows.of, person)
        return found and not await db(rows.running, person)

    await eventually(over)
    (turn,) = await db(rows.of, person)
    assert (turn.status, await db(charged, turn.pk)) == ("done", {"queries": 1, "tokens": 2})


async def test_a_killed_process_leaves_an_embedding_to_the_reaper_which_gives_it_back(site, person):
    with site.serve() as doomed:
        async with openai.AsyncOpenAI(base_url=f"{doomed.url}/v1", api_key=person.key, max_retries=0) as client:
            asking = asyncio.create_task(client.embeddings.create(model="vectors-slow", input="x"))

            async def begun():
                return await db(rows.running, person)

            await eventually(begun)
            doomed.kill()
            with pytest.raises(openai.APIConnectionError):
                await asking
    (turn,) = await db(rows.of, person)
    await db(grow_old, turn)
    await db(reaper.reap)
    (turn,) = await db(rows.of, person)
    assert (turn.status, turn.is_charged) == ("interrupted", False)
    assert set((await db(charged, turn.pk)).values()) == {0}


def grow_old(turn):
    with scope(SERVICE):
        type(turn).objects.filter(pk=turn.pk).update(heartbeat_at="2026-01-01T00:00:00Z")


async def test_twenty_at_once_at_one_below_the_limit_are_one(site, web):
    """Q-02, Q-30: by questions, and by the brand's tokens."""
    by_questions, by_tokens = await db(site.person, None, limit=1), await db(site.person)
    await db(
        ledger.entitle, by_tokens.brand, kind="brand", owner_id=by_tokens.brand.pk,
        grants=[ledger.Grant("tokens", "month", 12)],
    )  # fmt: skip
    for person in (by_questions, by_tokens):
        site.upstream.reset()
        async with openai.AsyncOpenAI(base_url=f"{web.url}/v1", api_key=person.key, max_retries=0) as client:
            asks = [client.embeddings.create(model="vectors", input="word " * 4) for _ in range(20)]
            outcomes = await asyncio.gather(*asks, return_exceptions=True)
        refused = [one for one in outcomes if isinstance(one, Exception)]
        assert {one.status_code for one in refused} == {402}
        assert len(refused) == 20 - len(site.upstream.calls())
        assert 1 <= len(site.upstream.calls()) <= 3  # of 12 tokens each takes 4, and holds 12 before it is settled
        if person is by_questions:
            assert len(refused) == 19


BAD = {
    "input": [{"input": []}, {"input": 5}, {"input": None}, {"input": ["x"] * 2049}, {"input": "a\0"}],
    "input[0]": [
        {"input": ""},
        {"input": [[]]},
        {"input": [["x"]]},
        {"input": [1.5]},
        {"input": [-1]},
    ],
    "dimensions": [{"dimensions": 0}, {"dimensions": "4"}, {"dimensions": 10**9}],
    "encoding_format": [{"encoding_format": "hex"}],
    "model": [{"model": None}],
    "odd": [{"odd": 1}],
}


@pytest.mark.parametrize("param", BAD)
async def test_a_field_that_cannot_be_honoured_is_a_bad_request_that_names_it(site, client, person, param):
    """F-02"""
    for fields in BAD[param]:
        with pytest.raises(openai.BadRequestError) as refused:
            await client.post("/embeddings", body={"model": "vectors", "input": "x", **fields}, cast_to=object)
        assert refused.value.param == param, fields
    assert site.upstream.calls() == []
    assert await db(rows.of, person) == []
