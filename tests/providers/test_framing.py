import collections

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from providers.errors import Garbled
from providers.framing import DONE, Frames, parse
from providers.shapes import clean

EVENTS = st.lists(st.dictionaries(st.text(max_size=5), st.text(max_size=20), max_size=3), max_size=6)


@given(events=EVENTS, newline=st.sampled_from(["\n", "\r\n", "\r"]), named=st.booleans(), data=st.data())
def test_events_are_the_same_however_the_bytes_were_cut(events, newline, named, data):
    name, blank = f"event: e{newline}" if named else "", newline * 2
    body = "".join(f"{name}data: {orjson.dumps(event).decode()}{blank}: ping{blank}" for event in events).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(body)), max_size=12)))
    frames = Frames()

    seen = []
    for start, end in zip([0, *cuts], [*cuts, len(body)], strict=True):
        seen += frames.feed(body[start:end])
    seen += frames.rest()

    assert [parse(found) for found in seen] == events


def test_an_event_without_its_blank_line_counts_when_the_body_ends():
    frames = Frames()

    assert frames.feed(b"data: {}\n\ndata: [DONE]\n") == [b"{}"]
    assert frames.rest() == [b"[DONE]"]


def test_several_data_lines_are_one_event():
    assert Frames().feed(b"id: 1\ndata: [1,\ndata:2]\nretry: 5\n\n") == [b"[1,\n2]"]


def test_an_event_that_never_ends_is_refused():
    frames = Frames()

    with pytest.raises(Garbled):
        collections.deque(map(frames.feed, [b"x" * 100_000] * 100))


@pytest.mark.parametrize("data", [b"{", b"5", b"[]", b'"text"', b"null", b"\xff\xfe", b"[" * 100_000, b""])
def test_what_is_no_object_is_garbled(data):
    with pytest.raises(Garbled):
        parse(data)


def test_the_end_is_not_an_empty_event():
    assert parse(b"[DONE]") is DONE
    assert parse(b"{}") is not DONE


def test_a_piece_can_be_stored_whatever_it_holds():
    for piece in ("a\0b", "\ud83d", "x\udc00y\0", "👍 ok"):
        stored = clean(piece)
        assert "\0" not in stored
        stored.encode()
    assert clean("👍 ok") == "👍 ok"
