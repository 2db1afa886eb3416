"""One id joins a request's lines, its turn and its turn's task; nobody's words are in any of them. O-16, A-16."""

import json
from uuid import uuid4

from lib.db import db
from tests.conversations.rows import stored
from tests.server import CSRF, Browser, eventually

CANARY = "canary-0815"
LOUD = {"LOG_JSON": "1", "ACCESS_LOG": "1", "LOG_LEVEL": "DEBUG"}


def lines_of(process) -> list[dict]:
    return [json.loads(line) for line in process.logged().splitlines()]  # each of them is one


async def test_one_id_joins_the_request_its_turn_and_what_the_answer_s_task_says(site, http, person):
    given = uuid4().hex
    with site.serve(**LOUD) as web:
        browser = Browser(http, web, person)
        await browser.ask("Nobody's.", site.models["words"])  # whoever comes first must not lend its id to the clock
        async with browser.post(
            "/v1/chat/completions",
            json={"model": "words", "messages": [{"role": "user", "content": "Hi"}]},
            headers={"Authorization": f"Bearer {person.key}", "X-Request-Id": given},
        ) as answer:
            assert answer.status == 200
            assert answer.headers["X-Request-Id"] == given
            turn_id = (await answer.json())["id"].removeprefix("chatcmpl-")

        async def told():
            return [line for line in lines_of(web) if line.get("request_id") == given]

        await eventually(told)
        told = await told()

    turn, _ = await db(stored, turn_id)
    assert turn.request_id == given
    assert ("request", "v1/chat/completions", 200) in [
        (line["event"], line.get("route"), line.get("status")) for line in told
    ]


async def test_each_call_of_a_provider_is_one_line_with_its_turn_and_its_request(site, http, person):
    """O-16: names, milliseconds, tokens and how it ended; the repeat of a call that failed is a line of its own."""
    with site.serve(**LOUD) as web:
        browser = Browser(http, web, person)
        done = await browser.ask("One.", site.models["words"])
        await browser.read(done.turn_id)
        broken = await browser.ask("Two.", site.models["broken"])
        await browser.read(broken.turn_id)
        stopped = await browser.ask("Three.", site.models["long"])
        await browser.read(stopped.turn_id, until=20)
        await browser.stop(stopped.turn_id)
        await browser.read(stopped.turn_id)
        calls = [line for line in lines_of(web) if line["event"] == "provider call"]

    told = {}
    for line in calls:
        told.setdefault(line["turn_id"], []).append(line)
    (one,) = told[str(done.turn_id)]
    turn, _ = await db(stored, done.turn_id)
    assert (one["provider"], one["model"], one["outcome"], one["tokens"]) == ("openai", "words", "done", 20)
    assert 0 <= one["first_piece_ms"] <= one["ms"]
    assert (
        one["request_id"]
        == turn.request_id
        == {name.lower(): value for name, value in done.headers.items()}["x-request-id"]
    )
    assert {line["outcome"] for line in told[str(broken.turn_id)]} == {"provider_down"}
    assert {line["vendor_status"] for line in told[str(broken.turn_id)]} == {500}
    assert [line["attempt"] for line in told[str(broken.turn_id)]] == list(range(1, len(told[str(broken.turn_id)]) + 1))
    assert [line["outcome"] for line in told[str(stopped.turn_id)]] == ["stopped"]


async def test_nothing_secret_and_nothing_said_is_in_the_log(site, http, person):
    """A-16: keys, passwords, tokens and text, on pages, at the programs' door and in errors, at the loudest level."""
    with site.serve(**LOUD) as web:
        browser = Browser(http, web, person)
        for model in ("words", "echo", "key-refused", "broken", "garbled", "error-mid", "cut-middle"):
            asked = await browser.ask(f"{CANARY} {model}", site.models[model])
            if asked.turn_id:
                await browser.read(asked.turn_id)
        door = "/v1/chat/completions"
        good = {"Authorization": f"Bearer {person.key}"}
        for model in ("words", "key-refused", "broken", CANARY):
            body = {"model": model, "messages": [{"role": "user", "content": CANARY}]}
            async with browser.post(door, json=body, headers=good) as answer:
                await answer.read()
        for headers, data in (
            ({"Authorization": f"Bearer sk_{CANARY}"}, b"{}"),
            ({"Authorization": f"Basic {CANARY}"}, b"{}"),
            (good, b'{"' + CANARY.encode()),
            (good, json.dumps({"model": "words", "messages": CANARY}).encode()),
        ):
            async with browser.post(door, data=data, headers=headers) as answer:
                assert answer.status in (400, 401)
        form = {"login": f"{CANARY}@example.com", "password": CANARY, "csrfmiddlewaretoken": CSRF}
        for address, sent in (
            ("/account/login/", form),
            ("/account/password/reset/", {"email": f"{CANARY}@example.com", "csrfmiddlewaretoken": CSRF}),
            ("/account/login/", {"password": CANARY}),  # without the token: refused by name
            (f"/account/password/reset/key/1-{CANARY}/", form),
        ):
            async with browser.post(address, data=sent, headers={"Cookie": f"csrftoken={CSRF}"}) as answer:
                await answer.read()
        async with browser.get(f"/c/?q={CANARY}", headers={"X-Canary": CANARY, "Referer": CANARY}) as answer:
            await answer.read()
        web.terminate()
        web.wait(20)
        said = web.logged()

    for secret in (CANARY, person.key, "sk-test-0123456789abcdef", person.cookies.split(";")[0].partition("=")[2]):
        assert secret not in said, [line for line in said.splitlines() if secret in line][:3]
    routes = {line["route"] for line in lines_of(web) if line["event"] == "request"}
    assert {"c/send/", "v1/chat/completions", "account/login/"} <= routes, "the lines were there"
