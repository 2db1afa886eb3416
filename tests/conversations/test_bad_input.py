"""F-01, F-02 on every endpoint that takes a body: always a 4xx in the shape the path speaks, nothing stored, nobody hurt."""

import asyncio
import json
import re

import pytest

from lib.db import db
from tests import factories
from tests.conversations import rows
from tests.server import CSRF, Browser

GOOD = '{"model":"words","messages":[{"role":"user","content":"hi"}]}'
CONTENT = b'{"model":"words","messages":[{"role":"user","content":%b}]}'
BODIES = {
    "empty": b"",
    "no JSON": b"hello",
    "cut off": GOOD[:-3].encode(),
    "a list": b"[]",
    "a number": b"1",
    "NUL in text": CONTENT % rb'"a\u0000b"',
    "raw NUL": CONTENT % b'"a\x00b"',
    "lone surrogate": CONTENT % rb'"\ud800"',
    "surrogates the wrong way round": CONTENT % rb'"\udc00\ud800"',
    "invalid UTF-8": CONTENT % b'"\xff\xfe"',
    "overlong UTF-8": CONTENT % b'"\xc0\xaf"',
    "UTF-16": GOOD.encode("utf-16"),
    "NaN": b'{"model":"words","messages":[{"role":"user","content":"x"}],"temperature":NaN}',
    "infinity": b'{"model":"words","messages":[{"role":"user","content":"x"}],"temperature":1e400}',
    "5,000 digits": b'{"model":"words","messages":[{"role":"user","content":"x"}],"max_tokens":%b}' % (b"9" * 5000),
    "lists 100,000 deep": CONTENT % (b"[" * 100_000 + b"]" * 100_000),
    "objects 100,000 deep": CONTENT % (b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "lists 60 deep": b'{"model":"words","messages":[{"role":"user","content":"x"}],"metadata":'
    + b"[" * 60
    + b"]" * 60
    + b"}",
    "a key twice": b'{"model":"words","model":"slow","messages":[{"role":"user","content":"x"}]}',
    "an inner key twice": b'{"model":"words","messages":[{"role":"user","role":"system","content":"x"}]}',
    "a prototype": b'{"model":"words","messages":[{"role":"user","content":"x"}],"__proto__":{"is_staff":true}}',
    "a brand of one's own": b'{"model":"words","messages":[{"role":"user","content":"x"}],"brand_id":"1"}',
    "NUL in the model": rb'{"model":"words\u0000","messages":[{"role":"user","content":"x"}]}',
    "10 MB": CONTENT % (b'"' + b"x" * 10_000_000 + b'"'),
}


def assert_openai_shape(status: int, text: str, what: str) -> None:
    assert 400 <= status < 500, (what, status, text[:200])
    error = json.loads(text)["error"]
    assert error["message"], what
    assert error["type"], what
    assert {"param", "code"} <= set(error), what


@pytest.mark.parametrize("what", BODIES)
async def test_a_bad_body_at_the_openai_door_is_a_4xx_in_its_own_shape(site, web, http, person, what):
    headers = {"Authorization": f"Bearer {person.key}", "Content-Type": "application/json"}
    url = f"{web.url}/v1/chat/completions"
    async with http.post(url, data=BODIES[what], headers=headers) as response:
        assert_openai_shape(response.status, await response.text(), what)

    async def in_pieces():
        for start in range(0, len(BODIES[what]), 65_536):
            yield BODIES[what][start : start + 65_536]

    async with http.post(url, data=in_pieces(), headers=headers) as response:
        assert_openai_shape(response.status, await response.text(), what)
    assert await db(rows.leftovers, person) == {"messages": 0, "turns": 0, "holds": 0}
    assert site.upstream.calls() == []


SAID = {"model": "words", "messages": [{"role": "user", "content": "hi"}]}
FUNCTION = {"name": "f", "parameters": {}}
DOORS = {
    "/v1/chat/completions": SAID | {"store": True, "tools": [{"type": "function", "function": FUNCTION}]},
    "/v1/messages": SAID | {"max_tokens": 9, "tools": [{"name": "f", "input_schema": {}}]},
    "/v1/responses": {"model": "words", "input": "hi", "tools": [{"type": "function", **FUNCTION}]},
}
NUL = "a\0b"
WITH_NUL = [
    ("/v1/responses", {"tool_choice": {"type": "function", "name": "f", "x": NUL}}, "tool_choice.x"),
    ("/v1/responses", {"tool_choice": {"type": "function", "name": "f", NUL: None}}, "tool_choice"),
    ("/v1/responses", {"text": {"format": {"type": "text", NUL: None}}}, "text.format"),
    ("/v1/responses", {"metadata": {NUL: "x"}}, "metadata"),
    ("/v1/responses", {"tools": [{"type": "function", "name": "f", "parameters": {"a": [NUL]}}]}, "tools[0].parameters.a[0]"),
    ("/v1/chat/completions", {"tool_choice": {"type": "function", "function": {"name": "f", "x": NUL}}},
     "tool_choice.function.x"),
    ("/v1/chat/completions", {"metadata": {"x": NUL}}, "metadata.x"),
    ("/v1/chat/completions", {"response_format": {"type": "json_object", "x": NUL}}, "response_format.x"),
    ("/v1/messages", {"metadata": {"user_id": NUL}}, "metadata.user_id"),
    ("/v1/messages", {"tool_choice": {"type": "tool", "name": "f", NUL: None}}, "tool_choice"),
    ("/v1/messages", {"output_config": {"format": {"type": "json_schema", "schema": {"enum": [NUL]}}}},
     "output_config.format.schema.enum[0]"),
]  # fmt: skip


@pytest.mark.parametrize(("path", "given", "param"), WITH_NUL, ids=lambda value: repr(value)[:50].replace("\0", "NUL"))
async def test_a_nul_anywhere_is_refused_by_the_name_of_its_place_at_every_door(
    site, web, http, person, path, given, param
):
    headers = {"Authorization": f"Bearer {person.key}"}
    async with http.post(web.url + path, json=DOORS[path] | given, headers=headers) as response:
        error = (await response.json())["error"]

    assert response.status == 400
    assert "holds a NUL character" in error["message"]
    assert error.get("details", error)["param"] == param
    assert await db(rows.leftovers, person) == {"messages": 0, "turns": 0, "holds": 0}


async def test_what_a_tool_choice_says_beside_its_name_is_refused(site, web, http, person):
    choice = {"type": "function", "name": "f", "x": "y"}
    headers = {"Authorization": f"Bearer {person.key}"}
    body = DOORS["/v1/responses"] | {"tool_choice": choice}
    async with http.post(f"{web.url}/v1/responses", json=body, headers=headers) as response:
        assert (response.status, (await response.json())["error"]["param"]) == (400, "tool_choice.x")


FORMS = {
    "nothing": {},
    "no text": {"text": ""},
    "only spaces": {"text": "  \n\t "},
    "NUL": {"text": "a\x00b"},
    "too long": {"text": "x" * 100_001},
    "a model that is no id": {"text": "x", "provider": "1 or 1=1"},
    "NUL in the model": {"text": "x", "provider": "\x00"},
    "a prompt that is no id": {"text": "x", "prompt": "../../etc"},
    "a prompt that is not there": {"text": "x", "prompt": "01a1fc2d-347e-7c18-bdeb-01d5be58c835"},
    "a model that is not there": {"text": "x", "provider": "01a1fc2d-347e-7c18-bdeb-01d5be58c835"},
    "a key with NUL": {"text": "x", "idempotency_key": "\x00"},
    "a key too long": {"text": "x", "idempotency_key": "k" * 256},
}
RAW = {
    "invalid UTF-8": b"csrfmiddlewaretoken=%b&text=%%00%%ff%%fe" % CSRF.encode(),
    "lone surrogate": b"csrfmiddlewaretoken=%b&text=%%ed%%a0%%80%%00" % CSRF.encode(),
    "broken escapes": b"csrfmiddlewaretoken=%b&text=%%0&provider=%%zz%%" % CSRF.encode(),
    "1,000 fields": b"csrfmiddlewaretoken=%b&text=x" % CSRF.encode() + b"&a=b" * 1000,
    "10 MB": b"csrfmiddlewaretoken=%b&text=" % CSRF.encode() + b"x" * 10_000_000,
}


async def refused(browser, path, data, how):
    headers = {"Content-Type": "application/x-www-form-urlencoded"} if isinstance(data, bytes) else {}
    if isinstance(data, dict):
        data = {"csrfmiddlewaretoken": CSRF, **data}
    async with browser.post(path, data=data, headers={**headers, **how}) as response:
        return response.status, await response.text()


@pytest.mark.parametrize("what", [*FORMS, *RAW])
async def test_a_bad_form_is_refused_in_words_and_stores_nothing(site, browser, what):
    data = FORMS[what] if what in FORMS else RAW[what]
    paths = ["/c/send/", "/c/01a1fc2d-347e-7c18-bdeb-01d5be58c835/send/"]
    for path in paths:
        for how in ({"HX-Request": "true"}, {}, {"Accept": "application/json"}):
            status, text = await refused(browser, path, data, how)
            assert 400 <= status < 500, (what, path, how, status, text[:300])
            assert text.strip(), "a refusal says why"
            assert "Traceback" not in text
    assert await db(rows.leftovers, browser.person) == {"messages": 0, "turns": 0, "holds": 0}


async def test_ids_of_another_brand_are_as_unknown_as_ids_of_nobody(site, http, web, browser):
    """I-03, I-05: conversation, prompt and turn; the vendor is not called."""
    other = Browser(http, web, await db(site.person))
    theirs = await other.ask("Mine.", site.models["words"])
    await other.read(theirs.turn_id)
    prompt = await db(factories.make_prompt, other.person.brand)
    site.upstream.reset()
    nobody = "01a1fc2d-347e-7c18-bdeb-01d5be58c835"

    for chat_id in (theirs.conversation_id, nobody):
        status, text = await refused(browser, f"/c/{chat_id}/send/", {"text": "x"}, {"HX-Request": "true"})
        assert status == 404
        assert "This chat is not here" in text
    for prompt_id in (str(prompt.pk), nobody):
        status, text = await refused(browser, "/c/send/", {"text": "x", "prompt": prompt_id}, {"HX-Request": "true"})
        assert status == 404
        assert "This prompt is not offered here" in text
    for path in (f"/c/{theirs.conversation_id}/", f"/turns/{theirs.turn_id}/stream"):
        async with browser.get(path) as response:
            assert response.status == 404
    assert site.upstream.calls() == []
    assert await db(rows.leftovers, browser.person) == {"messages": 0, "turns": 0, "holds": 0}


async def test_without_a_csrf_token_nothing_is_taken(site, browser):
    for path in ("/c/send/", "/turns/01a1fc2d-347e-7c18-bdeb-01d5be58c835/stop"):
        async with browser.post(path, data={"text": "x"}) as response:
            assert response.status == 403
    assert await db(rows.leftovers, browser.person) == {"messages": 0, "turns": 0, "holds": 0}


async def test_ten_megabytes_leave_the_process_as_large_as_it_was(site, web, http, person, browser):
    """F-01: refused, also chunked, and the memory is not kept."""

    def memory_mb() -> float:
        with open(f"/proc/{web.process.pid}/smaps_rollup") as lines:
            return next(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024

    headers = {"Authorization": f"Bearer {person.key}", "Content-Type": "application/json"}
    body = BODIES["10 MB"]
    async with http.post(f"{web.url}/v1/chat/completions", data=body, headers=headers) as response:
        assert response.status == 413
    before = memory_mb()
    for _ in range(5):
        async with http.post(f"{web.url}/v1/chat/completions", data=body, headers=headers) as response:
            assert response.status == 413
        status, _ = await refused(browser, "/c/send/", RAW["10 MB"], {})
        assert status == 413
    assert memory_mb() - before < 20


@pytest.mark.parametrize(
    ("path", "megabytes", "with_key", "shape"),
    [
        ("/c/send/", 2, False, None),
        ("/c/send/", 2, True, None),
        ("/v1/chat/completions", 2, False, "openai"),
        ("/v1/messages", 2, False, "anthropic"),
        ("/v1/chat/completions", 9, True, "openai"),
        ("/v1/messages", 9, True, "anthropic"),
    ],
)
@pytest.mark.parametrize("told", [True, False])
async def test_a_large_body_is_for_who_shows_a_key_and_none_is_taken_that_nobody_reads(
    web, person, path, megabytes, with_key, shape, told
):
    """F-01: by its length before a byte of it came, else as soon as it is too much. The refusal speaks as the path does."""
    reader, writer = await asyncio.open_connection("127.0.0.1", web.port)
    size = megabytes * 1024**2
    head = [f"POST {path} HTTP/1.1", f"Host: {person.brand.domain}"]
    head += [f"X-Api-Key: {person.key}"] * with_key
    head += [f"Content-Length: {size}" if told else "Transfer-Encoding: chunked"]
    writer.write("\r\n".join([*head, "", ""]).encode())
    if not told:
        writer.write(f"{size:x}\r\n".encode() + b" " * size)  # and never the end of it
    try:
        async with asyncio.timeout(30):
            answered = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            body = (await reader.readuntil(b"\r\n0\r\n\r\n")).decode().partition("\r\n")[2]
    finally:
        writer.close()

    assert answered.startswith("http/1.1 413 ")
    (request_id,) = re.findall(r"x-request-id: (\w+)", answered)
    if shape is None:
        assert "larger than one request may be (1 MB)" in body
        return
    error = json.loads(body.partition("\r\n")[0])
    assert error["error"]["message"].startswith("This is larger than one request")
    if shape == "openai":
        assert error["error"]["code"] == "too_large"
    else:
        assert (error["error"]["type"], error["request_id"]) == ("request_too_large", request_id)


async def test_what_has_the_shape_of_a_key_is_read_before_it_is_looked_up(http, web):
    key = "sk_0123456789ab_" + "x" * 43
    for headers in ({"Authorization": f"Bearer {key}"}, {"X-Api-Key": key}):
        async with http.post(f"{web.url}/v1/messages", data=b" " * 2 * 1024**2, headers=headers) as response:
            assert response.status == 401


ACCOUNT_FORMS = {
    "/account/login/": ("login", "password"),
    "/account/signup/": ("email", "password1"),
    "/account/password/reset/": ("email",),
}
VALUES = {
    "nothing": "",
    "NUL": "a\x00b@example.com",
    "100,000 characters": "x" * 100_000 + "@example.com",
    "no address": "'; drop table accounts_user; --",
    "right to left": "\u202eevil@example.com",
}


@pytest.mark.parametrize("path", ACCOUNT_FORMS)
async def test_a_bad_account_form_signs_nobody_in_and_breaks_nothing(site, web, http, person, path):
    """allauth shows its form again (200), or refuses (4xx); it never fails."""
    headers = {"Host": person.brand.domain, "Cookie": f"csrftoken={CSRF}"}
    form_headers = {**headers, "Content-Type": "application/x-www-form-urlencoded"}
    bodies = [{"csrfmiddlewaretoken": CSRF, **dict.fromkeys(ACCOUNT_FORMS[path], value)} for value in VALUES.values()]
    for data in [*bodies, *RAW.values()]:
        how = form_headers if isinstance(data, bytes) else headers
        async with http.post(web.url + path, data=data, headers=how, allow_redirects=False) as response:
            assert response.status == 200 or 400 <= response.status < 500, (path, str(data)[:80], response.status)
            assert "sessionid" not in response.cookies
