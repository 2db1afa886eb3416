"""F-02, A-08: hostile JSON, headers and methods on every route of /v1: never a 5xx, never a hang, always the door's shape.

Each body is a good one with a few places made hostile, so that what is deep inside is reached too. SOAK_FUZZ sets how
many (150). Afterwards nothing is held, and every invariant of the meter holds (INV10).
"""

import http.client
import json
import os
from urllib.parse import urlsplit

import pytest
from django.urls import reverse
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conversations.doors.urls import urlpatterns
from lib.db import SERVICE, scope
from quotas.models import Hold
from tests.conversations import rows

EXAMPLES = int(os.environ.get("SOAK_FUZZ", "150"))
SCHEMA = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
PNG = "iVBORw0KGgo="
# What can be asked of each route, with something in every field; the vendor is the demo model, which never fails.
GOOD = {
    "chat-completions": {
        "model": "demo",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "What is this?"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [{"id": "c", "type": "function", "function": {"name": "get", "arguments": "{}"}}],
            },
            {"role": "tool", "tool_call_id": "c", "content": "12"},
            {"role": "user", "content": "And now?"},
        ],
        "tools": [{"type": "function", "function": {"name": "get", "description": "d", "parameters": SCHEMA}}],
        "tool_choice": "auto",
        "stop": ["x"],
        "temperature": 0.5,
        "top_p": 1,
        "max_tokens": 20,
        "stream": False,
        "user": "u",
        "metadata": {"a": "b"},
    },
    "messages": {
        "model": "demo",
        "max_tokens": 20,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": {"type": "ephemeral"}}],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is this?"}]},
            {"role": "assistant", "content": [{"type": "tool_use", "id": "c", "name": "get", "input": {"city": "x"}}]},
            {
                "role": "user",
                "content": [{"type": "tool_result", "tool_use_id": "c", "content": [{"type": "text", "text": "12"}]}],
            },
        ],
        "tools": [{"name": "get", "description": "d", "input_schema": SCHEMA}],
        "tool_choice": {"type": "auto", "disable_parallel_tool_use": True},
        "stop_sequences": ["x"],
        "temperature": 0.5,
        "stream": False,
        "metadata": {"user_id": "u"},
        "thinking": {"type": "disabled"},
    },
    "count-tokens": {
        "model": "seer",
        "messages": [
            {
                "role": "user",
                "content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": PNG}}],
            },
        ],
        "tools": [{"name": "get", "input_schema": SCHEMA, "strict": True}],
    },
    "responses": {
        "model": "demo",
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "What is this?"}]},
            {"type": "reasoning", "summary": []},
            {"type": "function_call", "call_id": "c", "name": "get", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "c", "output": [{"type": "input_text", "text": "12"}]},
            {"type": "message", "role": "user", "content": "And now?"},
        ],
        "tools": [{"type": "function", "name": "get", "description": "d", "parameters": SCHEMA, "strict": True}],
        "tool_choice": "auto",
        "text": {"format": {"type": "text"}},
        "max_output_tokens": 20,
        "temperature": 0.5,
        "include": ["reasoning.encrypted_content"],
        "truncation": "auto",
        "store": True,
        "stream": False,
        "metadata": {"a": "b"},
    },
    "response": {},
    "response-input-items": {},
    "embeddings": {"model": "demo-embedding", "input": ["one", "two"], "dimensions": 8, "encoding_format": "float"},
    "models": {},
    "model": {},
}
IN_PATH = {
    "model": ("identifier", ["demo", "no/such", "%00", "x" * 3000]),
    "response": ("response_id", ["resp_" + "0" * 32, "resp_", "%00", "x" * 3000, "resp_" + "\u0661" * 32]),
    "response-input-items": ("response_id", ["resp_" + "0" * 32, "resp_%00"]),
}
# As they stand in the body: no library would write most of them.
HOSTILE = [
    b"null", b"true", b"0", b"-1", b"1.5", b"-0.0", b"1e400", b"NaN", b"-Infinity", b"9" * 5000, b"9007199254740993",
    b'""', b'"x"', b'"\\u0000"', b'"\\ud800"', b'"\\udc00\\ud800"', b'"\xff\xfe"', b'"\xc0\xaf"',
    b'"' + b"x" * 120_000 + b'"',
    "\"\u202eümläut 👍\"".encode(), b"\"'; drop table quotas_hold; --\"", b'"../../etc/passwd"', b'"data:image/png;base64,!"',
    b"[]", b"{}", b"[[]]", b"[null]", b"[{}]", b'{"type":"text"}', b'{"type":null}', b'{"type":["text"]}', b'{"a":1,"a":2}',
    b"[" * 60 + b"]" * 60, b"[" * 5000 + b"]" * 5000, b'{"a":' * 3000 + b"1" + b"}" * 3000, b"[" + b"0," * 3000 + b"0]",
]  # fmt: skip
NAMES = [
    "",
    "model",
    "messages",
    "__proto__",
    "brand_id",
    "owner_id",
    "stream",
    "type",
    "content",
    "\u0000",
    "k" * 9000,
]
KEYS = [
    "Bearer", "Bearer ", "Bearer nonsense", "Basic eDp4", "Bearer ' or 1=1 --", "Bearer " + "x" * 8000, "Bearer sk_%00",
    "Bearer sk_000000000000_" + "x" * 43, "\u00e9\u00ff", "Bearer a, Bearer b", "Bearer {key}, Bearer {key}",
]  # fmt: skip
HEADERS = {
    "Content-Type": ["", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "a/b; charset=utf-16"],
    "Content-Encoding": ["gzip", "nonsense"],
    "Accept": ["text/html", "\u00ff", "application/xml;q=nan"],
    "Idempotency-Key": ["", "k" * 300, "' or 1=1", "\u00e9"],
    "X-Request-Id": ["\u00ff" * 20, "x" * 5000, "a b"],
    "X-Api-Key": ["nonsense", "' or 1=1", "x" * 8000, "{key}"],
    "Anthropic-Version": ["1", "\u00ff"],
    "Anthropic-Beta": ["nonsense," * 500],
    "Host": ["", "evil.example.com", "a" * 300, "[::1"],
    "Cookie": ["sessionid=' or 1=1; csrftoken=\u00ff"],
}  # fmt: skip
METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "PURGE"]


def paths_in(value, path=()):
    """Every place in a body, the body itself first."""
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, one in inner:
        yield from paths_in(one, (*path, name))


def changed(value, path, change):
    """`value` with `change(it)` at a path, or without it where that gives None."""
    if not path:
        return change(value)
    copy = value.copy()
    name, *rest = path
    if (isinstance(copy, dict) and name in copy) or (isinstance(copy, list) and name < len(copy)):
        new = changed(copy[name], rest, change)
        if new is None:
            del copy[name]
        else:
            copy[name] = new
    return copy


class Raw(str):
    """Stands for a piece of text that goes into the body as it is."""


def as_bytes(value) -> bytes:
    if isinstance(value, Raw):
        return HOSTILE[int(value)]
    if isinstance(value, dict):
        return b"{" + b",".join(json.dumps(name).encode() + b":" + as_bytes(one) for name, one in value.items()) + b"}"
    if isinstance(value, list):
        return b"[" + b",".join(map(as_bytes, value)) + b"]"
    return json.dumps(value).encode()


@st.composite
def bodies(draw, good):
    value = good
    for _ in range(draw(st.integers(0, 3))):
        path = draw(st.sampled_from([*paths_in(value)]))
        how = draw(st.sampled_from(["hostile", "hostile", "gone", "twice", "more"]))
        if how == "hostile" or not path:
            hostile = Raw(draw(st.integers(0, len(HOSTILE) - 1)))
            value = changed(value, path, lambda _, hostile=hostile: hostile)
        elif how == "gone":
            value = changed(value, path, lambda _: None)
        elif how == "twice":
            value = changed(value, path, lambda it: it * 3 if isinstance(it, list) else it)
        else:
            name, hostile = draw(st.sampled_from(NAMES)), Raw(draw(st.integers(0, len(HOSTILE) - 1)))
            value = changed(
                value, path, lambda it, name=name, new=hostile: {**it, name: new} if isinstance(it, dict) else it
            )
        if isinstance(value, Raw):
            break
    body = as_bytes(value)
    how = draw(st.sampled_from(["whole"] * 8 + ["cut", "marked", "twice"]))
    if how == "cut":
        return body[: draw(st.integers(0, len(body)))]
    return b"\xef\xbb\xbf" + body if how == "marked" else body * 2 if how == "twice" else body


@st.composite
def requests(draw):
    name = draw(st.sampled_from(sorted(GOOD)))
    argument, values = IN_PATH.get(name, ("", []))
    path = reverse(name, kwargs={argument: draw(st.sampled_from(values))} if argument else {})
    usual = "POST" if GOOD[name] else "GET"
    method = draw(st.sampled_from([usual] * 12 + METHODS))
    body = draw(
        bodies({**GOOD[name], **({"stream": True} if draw(st.integers(0, 4)) == 0 and usual == "POST" else {})})
    )
    headers = {"Authorization": "Bearer {key}", "Content-Type": "application/json"}
    if draw(st.integers(0, 5)) == 0:
        headers["Authorization"] = draw(st.sampled_from(KEYS))
    if draw(st.integers(0, 3)) == 0:
        header = draw(st.sampled_from(sorted(HEADERS)))
        headers[header] = draw(st.sampled_from(HEADERS[header]))
    return (
        method,
        path
        + draw(
            st.sampled_from([""] * 9 + ["?beta=true", "?limit=x&order=%00&after=1", "?%00=%ff", "?" + "a=b&" * 500])
        ),
        body,
        headers,
    )


def ask(url, key, method, path, body, headers):
    given = {name: value.replace("{key}", key).encode("latin-1") for name, value in headers.items()}
    connection = http.client.HTTPConnection(urlsplit(url).netloc, timeout=30)  # longer is a hang
    try:
        connection.request(method, path, body, given)
        response = connection.getresponse()
        return response.status, response.headers.get("Content-Type", ""), response.read()
    finally:
        connection.close()


def assert_shape(method, path, status, kind, text):
    assert status < 500, (status, text[:500])
    if method == "HEAD" or (status == 400 and kind.startswith("text/plain")):  # the server refused what is no HTTP
        return
    if kind == "text/event-stream":
        last = text.rstrip(b"\n").rpartition(b"\n\n")[2]
        ends = (b"data: [DONE]", b'data: {"type":"message_stop"}')
        assert last.endswith(ends) or last.startswith(
            (b"event: response.completed\n", b"event: response.incomplete\n")
        ), last
        return
    told = json.loads(text)
    if status >= 400:
        assert told["error"]["message"]
        assert told["error"]["type"]
        assert ("type" in told) == path.startswith("/v1/messages")


def test_every_route_of_v1_has_a_body_to_be_made_hostile():
    assert {pattern.name for pattern in urlpatterns} == set(GOOD)


@pytest.mark.timeout(0 if EXAMPLES > 150 else 120)
def test_whatever_is_sent_is_answered_in_words_and_holds_nothing(site, web):
    person = site.person()
    for name, good in GOOD.items():  # else the fuzz would only ever see the first check
        if good:
            status, _, text = ask(
                web.url, person.key, "POST", reverse(name), as_bytes(good), {"Authorization": "Bearer {key}"}
            )
            assert status == 200, text

    @settings(max_examples=EXAMPLES, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(requests())
    def send(asked):
        assert_shape(*asked[:2], *ask(web.url, person.key, *asked))

    send()

    assert rows.running(person) == 0
    with scope(SERVICE):
        assert not Hold.objects.filter(brand=person.brand).exists()
    assert web.process.poll() is None
    assert "Traceback" not in web.logged()
