"""Tool calls as servers really send them, put together to what was meant."""

import json

import pytest

from providers import calls
from providers.calls import ToolPiece
from providers.openai import ToolCalls

WEATHER = {"name": "weather", "parameters": {"type": "object"}}
ASK = ({"role": "user", "content": "Which?"},)


def whole(pieces) -> list[tuple[str, str]]:
    made: dict[int, list[str]] = {}
    for piece in pieces:
        call = made.setdefault(piece.index, ["", "", ""])
        call[0] += piece.id
        call[1] += piece.name
        call[2] += piece.arguments
    assert list(made) == list(range(len(made)))
    assert all(call[0] for call in made.values())
    return [(name, arguments) for _, name, arguments in made.values()]


def told(index=None, call_id=None, name=None, arguments=None):
    function = {key: value for key, value in (("name", name), ("arguments", arguments)) if value is not None}
    numbers = {key: value for key, value in (("index", index), ("id", call_id)) if value is not None}
    return {**numbers, "function": function}


SERVERS = {
    "OpenAI": [told(0, "a", "f", ""), told(0, arguments='{"x"'), told(1, "b", "g", ""), told(1, arguments="{}"),
               told(0, arguments=": 1}")],
    "no index": [told(None, "a", "f", '{"x": 1}'), told(None, "b", "g", "{}")],
    "no index, in pieces": [told(None, "a", "f", '{"x"'), told(None, arguments=": 1}"), told(None, "b", "g", "{}")],
    "the same index for every call": [told(0, "a", "f", '{"x": 1}'), told(0, "b", "g", "{}")],
    "no ids": [told(0, None, "f", '{"x": 1}'), told(1, None, "g", "{}")],
    "id and name again with each piece": [told(0, "a", "f", '{"x"'), told(0, "a", "f", ": 1}"), told(1, "b", "g", "{}")],
    "arguments as an object": [told(0, "a", "f", {"x": 1}), told(1, "b", "g", {})],
}  # fmt: skip


@pytest.mark.parametrize("server", SERVERS)
def test_two_calls_are_two_whoever_sends_them(server):
    made = ToolCalls()
    (first, x), (second, y) = whole([made.piece(call) for call in SERVERS[server]])
    assert (first, json.loads(x), second, json.loads(y or "{}")) == ("f", {"x": 1}, "g", {})


async def test_a_call_may_be_the_first_thing_that_comes(ask, upstream, path):
    """The limit for the first token ends with it, and finish_reason says tool_calls."""
    pieces, usage = await ask("openai", "m;tokens=0;calls=1", messages=ASK, tools=(WEATHER,))
    assert isinstance(pieces[0], ToolPiece)
    assert (pieces[0].id, pieces[0].name) == ("call_0001", "weather")
    assert "".join(piece.arguments for piece in pieces) == '{"city": "Paris", "n": 1}'
    assert usage.finish_reason == "tool_calls"


def test_the_estimate_counts_what_is_not_text():
    """The hold is a bound only if calls, results, definitions and pictures are in it."""
    call = {"id": "a", "type": "function", "function": {"name": "f", "arguments": '{"x": 1}' * 100}}
    plain = calls.estimate_tokens(ASK)
    assert calls.estimate_tokens([*ASK, {"role": "assistant", "content": None, "tool_calls": [call]}]) > plain + 250
    assert calls.estimate_tokens([*ASK, {"role": "tool", "content": "0" * 300, "tool_call_id": "a"}]) > plain + 100
    assert calls.estimate_tokens(ASK, [{**WEATHER, "description": "x" * 300}]) > plain + 100
    parts = [{"type": "text", "text": "x" * 40}, {"type": "image_url", "image_url": {"url": "https://example.com/"}}]
    assert calls.estimate_tokens([{"role": "user", "content": parts}], image_tokens=2500) > 2510
