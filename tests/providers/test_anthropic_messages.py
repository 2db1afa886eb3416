"""What Anthropic's messages are made of, and their tool calls as they stream: on both paths to the SDK."""

import json
from itertools import groupby

import pytest

from providers.anthropic import body_of
from providers.calls import Call, ToolPiece

WEATHER = {
    "name": "get_weather",
    "description": "The weather of a city.",
    "parameters": {"properties": {"city": {"type": "string"}}, "required": ["city"]},
}
CLOCK = {"name": "get_time", "parameters": {}, "strict": True}
ASK = ({"role": "user", "content": "How is the weather in Paris?"},)
PNG = "data:image/png;base64,iVBORw0KGgo="


def calls(*named):
    """An assistant's tool calls from (id, name, arguments)."""
    return [
        {"id": call_id, "type": "function", "function": {"name": name, "arguments": arguments}}
        for call_id, name, arguments in named
    ]


def sent(*messages, **fields):
    return body_of(Call("anthropic", "m", messages, 100, **fields))


def whole(pieces):
    """(index, id, name, arguments) of each tool call."""
    tools = [piece for piece in pieces if isinstance(piece, ToolPiece)]
    return [
        (
            index,
            "".join(one.id for one in group),
            "".join(one.name for one in group),
            "".join(g.arguments for g in group),
        )
        for index, group in ((index, list(group)) for index, group in groupby(tools, key=lambda piece: piece.index))
    ]


async def test_text_and_parallel_calls_arrive_in_pieces_with_their_ids(ask, upstream, path):
    pieces, usage = await ask("anthropic", "m;tokens=2;calls=2", messages=ASK, tools=(WEATHER, CLOCK))

    assert pieces[:2] == ["w0001 ", "w0002 "]
    assert whole(pieces) == [
        (0, "call_0001", "get_weather", '{"city": "Paris", "n": 1}'),
        (1, "call_0002", "get_time", '{"city": "Paris", "n": 2}'),
    ]
    assert usage.finish_reason == "tool_calls"
    assert usage.completion_tokens == 10
    (call,) = upstream.calls()
    assert call["body"]["tools"] == [
        {
            "name": "get_weather",
            "description": "The weather of a city.",
            "input_schema": {
                "type": "object",
                "properties": {"city": {"type": "string"}},
                "required": ["city"],
            },
        },
        {"name": "get_time", "input_schema": {"type": "object"}, "strict": True},
    ]


async def test_a_call_without_arguments_is_an_empty_object_and_needs_no_text(ask, path):
    pieces, _ = await ask("anthropic", "m;tokens=0;calls=1;args=empty", messages=ASK, tools=(CLOCK,))
    assert whole(pieces) == [(0, "call_0001", "get_time", "{}")]


async def test_the_stop_sequence_that_ended_an_answer_is_told(ask, path):
    pieces, usage = await ask("anthropic", "m", params={"stop": ["w0004", "w0003"]})

    assert pieces == ["w0001 ", "w0002 "]
    assert (usage.finish_reason, usage.stop_sequence) == ("stop", "w0003")


async def test_parameters_that_the_sdk_has_no_name_for_are_sent_on_both_paths(ask, upstream, path):
    await ask("anthropic", "m", params={"temperature": 1.5, "top_p": 0.9, "top_k": 4, "stop": "x"})

    body = upstream.calls()[0]["body"]
    assert (body["temperature"], body["top_p"], body["top_k"], body["stop_sequences"]) == (1.0, 0.9, 4, ["x"])


async def test_results_of_tools_come_back_to_the_model(ask, path):
    messages = (
        *ASK,
        {"role": "assistant", "content": None, "tool_calls": calls(("call_1", "get_weather", '{"city":"Paris"}'))},
        {"role": "tool", "tool_call_id": "call_1", "content": "12 °C"},
    )
    pieces, usage = await ask("anthropic", "m;calls=1", messages=messages, tools=(WEATHER,))

    assert "".join(pieces) == "told: 12 °C "
    assert usage.finish_reason == "stop"


@pytest.mark.parametrize(
    ("choice", "parallel", "theirs"),
    [
        ("", None, None),
        ("auto", None, {"type": "auto"}),
        ("none", False, {"type": "none"}),
        ("required", None, {"type": "any"}),
        ("=get_weather", None, {"type": "tool", "name": "get_weather"}),
        ("", False, {"type": "auto", "disable_parallel_tool_use": True}),
        ("required", False, {"type": "any", "disable_parallel_tool_use": True}),
    ],
)
def test_every_choice_of_tools_has_its_counterpart(choice, parallel, theirs):
    params = {} if parallel is None else {"parallel_tool_calls": parallel}
    assert sent(*ASK, tools=(WEATHER,), tool_choice=choice, params=params).get("tool_choice") == theirs


def test_results_of_parallel_calls_and_what_the_user_says_next_are_one_message():
    body = sent(
        {"role": "system", "content": "Be brief."},
        *ASK,
        {
            "role": "assistant",
            "content": "Looking.",
            "tool_calls": calls(("a.b:1", "get_weather", '{"city":"Paris"}'), ("call_2", "get_time", "")),
        },
        {"role": "tool", "tool_call_id": "a.b:1", "content": "12 °C"},
        {"role": "tool", "tool_call_id": "call_2", "content": "", "is_error": True},
        {"role": "user", "content": "And tomorrow?"},
    )

    assert body["system"] == "Be brief."
    assert body["messages"] == [
        {"role": "user", "content": "How is the weather in Paris?"},
        {
            "role": "assistant",
            "content": [
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "a_b_1", "name": "get_weather", "input": {"city": "Paris"}},
                {"type": "tool_use", "id": "call_2", "name": "get_time", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "a_b_1", "content": "12 °C"},
                {"type": "tool_result", "tool_use_id": "call_2", "is_error": True},
                {"type": "text", "text": "And tomorrow?"},
            ],
        },
    ]


@pytest.mark.parametrize("arguments", ['{"city": "Par', "[1]", "null", "1"])
def test_arguments_that_are_no_object_go_along_as_they_stand(arguments):
    body = sent(*ASK, {"role": "assistant", "content": None, "tool_calls": calls(("c", "get_weather", arguments))})
    assert body["messages"][1]["content"][0]["input"] == {"arguments": arguments}


def test_what_says_nothing_is_left_out_and_neighbours_of_one_role_are_joined():
    body = sent(
        {"role": "user", "content": ""},
        {"role": "user", "content": "One."},
        {"role": "assistant", "content": ""},
        {"role": "user", "content": [{"type": "text", "text": ""}, {"type": "text", "text": "Two."}]},
        {"role": "system", "content": ""},
    )

    assert "system" not in body
    assert body["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": "One."}, {"type": "text", "text": "Two."}]}
    ]


def test_pictures_are_sent_as_data_or_as_an_address():
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": PNG}},
        {"type": "image_url", "image_url": {"url": "https://example.com/a.png", "detail": "low"}},
    ]
    assert sent({"role": "user", "content": parts})["messages"][0]["content"][1:] == [
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
    ]


async def test_a_json_schema_becomes_the_output_format(ask, upstream, path):
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "place", "schema": schema, "strict": True}}
    pieces, _ = await ask("anthropic", "m", params={"response_format": wanted})

    assert json.loads("".join(pieces)) == {"city": "Paris", "n": 1}
    body = upstream.calls()[0]["body"]
    assert body["output_config"] == {"format": {"type": "json_schema", "schema": schema}}
    assert "response_format" not in body
