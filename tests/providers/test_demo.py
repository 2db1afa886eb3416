import asyncio
import time

from lib.html import render
from providers import calls, demo
from providers.calls import Call, Usage


def ask(text, max_tokens=2000):
    return calls.stream(Call("demo", "demo", ({"role": "user", "content": text},), max_tokens), key=None)


async def read(items):
    *pieces, usage = [item async for item in items]
    assert isinstance(usage, Usage)
    return pieces, usage


async def test_the_answer_says_first_that_it_is_a_demo_and_takes_up_the_question():
    pieces, usage = await read(ask("How should we plan the database migration of our bakery?"))

    text = "".join(pieces)
    assert text.splitlines()[0].startswith("**Demo answer — no AI key is set.**")
    assert "migration" in text
    assert (usage.completion_tokens, usage.finish_reason) == (len(pieces), "stop")


async def test_the_same_question_gets_the_same_answer_and_another_another():
    first, again, other = [
        "".join((await read(ask(text)))[0]) for text in ("Explain black holes", "Explain black holes", "Explain tea")
    ]

    assert first == again
    assert first != other


async def test_the_answer_is_markdown_with_a_heading_a_list_a_table_and_code():
    html = render("".join((await read(ask("Compare buses and trains for a small town")))[0]))

    for tag in ("<h", "<li", "<table", "<pre", "<strong"):
        assert tag in html


async def test_max_tokens_ends_it_with_length():
    pieces, usage = await read(ask("Explain black holes", max_tokens=5))

    assert (len(pieces), usage.completion_tokens, usage.finish_reason) == (5, 5, "length")


async def test_it_keeps_its_pace_and_can_be_cancelled(settings):
    settings.DEMO_TOKENS_PER_SECOND = 50
    began = time.monotonic()
    await read(ask("hello", max_tokens=10))
    assert time.monotonic() - began > 0.15

    task = asyncio.create_task(read(ask("Explain black holes")))
    await asyncio.sleep(0.1)
    task.cancel()
    await asyncio.wait([task], timeout=30)
    assert task.cancelled()


async def test_odd_questions_get_an_answer_too():
    for text in ("", "???", "你好世界", "{word} {topic}", "a" * 5000, "`|` <b>"):
        pieces, _ = await read(ask(text))
        assert "".join(pieces) == demo.answer(text)
