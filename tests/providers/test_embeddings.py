"""What a vendor's vectors may look like, and that nobody else waits while they are read."""

import asyncio

import pytest

from providers import calls
from providers.calls import Embedding
from providers.errors import Garbled
from tests.providers.conftest import KEY


def embed(upstream, model, *inputs):
    return calls.embed(Embedding("openai", model, inputs, upstream.openai_url), key=KEY)


@pytest.mark.parametrize(
    "vector",
    [
        '["x"]',
        "[1e300]",
        "[]",
        "[[1]]",
        "5",
        "null",
        "{}",
        '""',
        '"A"',
        '"AAA="',
        '"####"',
        '"\u00e9\u00e9\u00e9\u00e9"',
    ],
)
async def test_what_is_no_vector_is_the_vendor_s_fault_and_not_ours(upstream, vector):
    """Never a 500 of ours: the breaker hears of it. Q-04"""
    with pytest.raises(Garbled):
        await embed(upstream, f"m;vector={vector}", "a", "b")


async def test_an_answer_longer_than_its_vectors_can_be_is_given_up(upstream):
    with pytest.raises(Garbled):
        await embed(upstream, "m;pad=300000", "a", "b")
    assert len((await embed(upstream, "m;pad=150000", "a", "b")).base64) == 2


async def test_a_long_text_for_the_demo_keeps_nobody_waiting():
    """The loop goes on, with every heartbeat of the process: on it, this would be one step."""
    embedding = asyncio.create_task(calls.embed(Embedding("demo", "demo", ("many words " * 5000,)), key=None))
    steps = 0
    while not embedding.done():
        await asyncio.sleep(0)
        steps += 1
    assert len((await embedding).base64) == 1
    assert steps > 5
