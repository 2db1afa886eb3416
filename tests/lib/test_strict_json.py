import json
import time

import pytest

from lib import strict_json
from lib.errors import Invalid


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":'
        + b"[" * 1010
        + b"]" * 1010
        + b',"model":"m","messages":[]}',  # hidden behind the later, equal name
        b'{"metadata":[' + b"[]," * 60_000 + b"[]]}",
        b"[" * 100_000,
    ],
)
def test_a_body_of_brackets_is_refused_before_it_costs_anything(body):
    """F-02, M7: never a RecursionError, never seconds on the event loop."""
    with pytest.raises(Invalid):
        strict_json.read(body)


def test_a_body_of_numbers_is_refused_before_it_costs_anything():
    """F-02: what looks at each of four million values keeps everybody waiting. The largest embeddings request fits."""
    for body in (b'{"a":[' + b"1," * 400_001 + b"1]}", b"{" + b",".join(b'"%d":1' % n for n in range(400_002)) + b"}"):
        with pytest.raises(Invalid, match="400,000 values"):
            strict_json.read(body)
    tokens = {"input": [[100_000] * 300] * 1000}
    assert strict_json.read(json.dumps(tokens).encode()) == tokens
    prose = {"text": "well, " * 500_000}
    assert strict_json.read(json.dumps(prose).encode()) == prose


def test_a_body_may_have_32_levels():
    for levels in (31, 32):
        assert strict_json.read(b'{"a":' * levels + b"{}" * (levels == 31) + b"1" * (levels == 32) + b"}" * levels)
    with pytest.raises(Invalid, match="32 levels"):
        strict_json.read(b'{"a":' * 33 + b"1" + b"}" * 33)


def test_brackets_in_a_text_are_no_parts_of_the_body():
    """A coding agent sends code, and a tool sends JSON as text."""
    code = "[{}]\\" * 60_000
    assert strict_json.read(b'{"text":%b}' % json.dumps(code).encode()) == {"text": code}
    hostile = [b'{"text":"' + b"[" * 60_000, b'\\"[' * 1_000_000, b'"\\' * 60_000 + b"[" * 60_000, b'"\\"[' * 60_000]
    for unclosed in hostile:
        with pytest.raises(Invalid):
            strict_json.read(unclosed)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (rb'{"model":"m\u0000"}', "model"),
        (rb'{"tool_choice":{"type":"function","name":"f","x":"\u0000"}}', "tool_choice.x"),
        (rb'{"tools":[{},{"parameters":{"enum":["a",["b\u0000c"]]}}]}', "tools[1].parameters.enum[1][0]"),
        (rb'{"metadata":{"\u0000":null}}', "metadata"),
        (rb'{"\u0000":1}', ""),
    ],
)
def test_a_nul_is_refused_by_the_name_of_its_place_wherever_it_stands(body, param):
    """F-01: no row can hold one."""
    with pytest.raises(Invalid, match="holds a NUL character") as refused:
        strict_json.read(body)
    assert refused.value.extra == {"param": param}


def test_the_letters_of_a_nul_are_none():
    for text in ("\\u0000", "x\\\\u0000"):
        assert strict_json.read(json.dumps({"text": text}).encode()) == {"text": text}


def test_a_body_of_nuls_is_refused_before_it_costs_anything():
    started = time.perf_counter()
    with pytest.raises(Invalid, match="NUL"):
        strict_json.read(b'{"a":[' + b"[1,2,3,4,5,6,7]," * 49_000 + rb'"\u0000"]}')
    assert time.perf_counter() - started < 1
