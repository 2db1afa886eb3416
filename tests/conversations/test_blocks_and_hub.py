"""However an answer is cut into pieces and wherever a reader comes back: it ends with the same blocks and the same text."""

import asyncio
from itertools import pairwise

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conversations.engine.live import Blockwise, Growing, follow
from lib.html import render

PIECES = [
    *("# Title", "\n", "\n\n", "word ", "- item\n", "```python\n", "print(1)\n", "```\n", "~~~\n", "| a | b |\n"),
    *("|---|---|\n", "> quote\n", "**bold**", "👍", "é", "<script>", "  \n", "\t", "1. one\n", "&amp;", "\r\n", "ﷺ"),
]
MARKDOWN = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


class Reader:
    """What the page does with the events: blocks replace the open text they finish, deltas add to it."""

    def __init__(self) -> None:
        self.blocks: list[str] = []
        self.open = ""
        self.offset = 0

    def take(self, frames: list[bytes]) -> None:
        for frame in b"".join(frames).split(b"\n\n"):
            if not frame:
                continue
            told = dict(line.split(b": ", 1) for line in frame.split(b"\n"))
            data, offset = orjson.loads(told[b"data"]), int(told[b"id"])
            assert offset > self.offset, "an event says nothing new"
            if told[b"event"] == b"block":
                self.blocks.append(data)
                self.open = ""
            else:
                self.open += data
            self.offset = offset


@st.composite
def cut(draw):
    """A text, the pieces it comes in, and after how many of them a reader drops off."""
    text = draw(MARKDOWN | st.text(alphabet="ab \n`~", max_size=120))
    ends = sorted({*draw(st.lists(st.integers(0, len(text)), max_size=12)), 0, len(text)})
    pieces = [text[a:b] for a, b in pairwise(ends)]
    return text, pieces, draw(st.integers(0, len(pieces)))


@settings(max_examples=300, deadline=None)
@given(cut())
def test_a_reader_who_comes_back_ends_with_what_a_reader_from_the_start_has(case):
    text, pieces, left_after = case
    body, steady, returned = Blockwise(), Reader(), Reader()
    for number, piece in enumerate(pieces):
        if number == left_after:
            returned.take(body.since(0))
        body.push(piece)
        steady.take(body.since(steady.offset))
    returned.take(body.since(returned.offset))
    fresh = Reader()
    fresh.take(body.since(0))

    ends = body.blocks.ends
    assert steady.blocks == fresh.blocks == returned.blocks
    assert fresh.blocks == [render(text[a:b]) for a, b in zip([0, *ends], ends, strict=False)]
    assert fresh.open == text[ends[-1] if ends else 0 :]
    assert steady.open == returned.open == fresh.open
    assert body.text == text


@settings(max_examples=100, deadline=None)
@given(MARKDOWN)
def test_an_events_id_is_the_number_of_characters_whoever_serves_it(text):
    """The hub got the text in pieces, the row has it whole: the same events from every offset."""
    hub, row = Blockwise(), Blockwise()
    for character in text:
        hub.push(character)
    row.push(text)
    for offset in {0, len(text) // 3, len(text) // 2, len(text)}:
        assert hub.since(offset) == row.since(offset)
        assert hub.tail(offset) == text[offset:]


@pytest.mark.parametrize("offset", [0, 3, 5, 6, 10**9])
async def test_following_an_ended_answer_ends_wherever_the_reader_says_it_stands(offset):
    ended = Growing()
    ended.push("Hello")
    ended.end()
    async with asyncio.timeout(1):
        frames = [frame async for frame in follow(ended, offset)]
    assert len(frames) == (1 if offset < 5 else 0)


async def test_a_reader_ahead_of_what_is_here_hears_nothing_twice_and_goes_on_where_it_stood():
    """It comes from the process that writes the answer to one that has a copy, a moment behind."""
    copy = Growing()

    async def read():
        return [frames async for frames in follow(copy, len("Hello, wor"))]

    reading = asyncio.create_task(read())
    for piece in ("Hel", "lo, ", "wo", "rld", "!"):
        copy.push(piece)
        await asyncio.sleep(0.06)
    copy.end()
    assert b"".join(await reading).decode() == 'id: 12\nevent: delta\ndata: "ld"\n\nid: 13\nevent: delta\ndata: "!"\n\n'
