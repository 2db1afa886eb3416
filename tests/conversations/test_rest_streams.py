"""`chat` as it is written, by real processes: nothing twice and nothing missing, whoever comes back where. And programs to
copy, from the page and from docs, run as they stand.
"""

import asyncio
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from accounts import keys
from accounts.models import Membership
from chatsite.api_docs import examples
from chatsite.api_docs.description import description
from events.models import WebhookEndpoint
from events.webhooks import signing
from lib.db import SERVICE, db, scope
from tests.conversations import rows
from tests.server import CSRF, said

DOCS = Path(__file__).resolve().parents[2] / "docs"
STREAM = {"Accept": "text/event-stream"}


def key_of(person, *scopes):
    with scope(SERVICE):
        return keys.create(person.brand, person.user, name="rest", scopes=scopes or list(keys.SCOPES))[1]


async def events(response, most=None):
    """(name, id, data) of the events that come, at most so many."""
    found, event = [], {}
    async for line in response.content:
        name, _, value = line.decode().rstrip("\n").partition(": ")
        if name in ("id", "event", "data"):
            event[name] = value
        elif event and not name:
            found.append((event["event"], int(event["id"]), json.loads(event["data"])))
            event = {}
            if most and len(found) >= most:
                break
    return found


def text_of(found):
    return "".join(data["text"] for name, _, data in found if name == "delta")


async def test_an_answer_is_taken_up_where_it_was_left_here_there_and_by_the_same_request(site, web, http, person):
    """I1, W-01: Last-Event-ID at this process, at another one, and with the request's own Idempotency-Key."""
    headers = {"Authorization": f"Bearer {await db(key_of, person)}", "Idempotency-Key": "one", **STREAM}
    asked = {"message": "Hello?", "providerId": str(site.models["slow"])}
    with site.serve() as other:
        async with http.post(f"{web.url}/api/v1/chat", json=asked, headers=headers) as response:
            assert response.status == 200
            first = await events(response, most=4)
        started = first[0][2]
        seen = first[-1][1]

        async def resumed(url, method="GET", **sent):
            given = {**headers, "Last-Event-ID": str(seen)}
            async with http.request(method, url, headers=given, **sent) as answer:
                assert answer.status == 200, await answer.text()
                return await events(answer)

        again = f"/api/v1/chat/{started['turnId']}"
        here, there, repeated = await asyncio.gather(
            resumed(web.url + again), resumed(other.url + again), resumed(f"{web.url}/api/v1/chat", "POST", json=asked)
        )
        async with http.get(f"{other.url}{again}", headers={"Authorization": headers["Authorization"]}) as whole:
            ended = await whole.json()

    assert [name for name, _, _ in first] == ["started", "delta", "delta", "delta"]
    for rest in (here, there, repeated):
        assert text_of(first) + text_of(rest) == said(100)
        assert rest[-1][0] == "done"
        assert rest[-1][2]["message"] == ended["message"]
    assert ended["message"]["content"] == said(100)
    assert ended["message"]["status"] == "done"
    assert ended["chatId"] == started["chatId"]
    assert await db(rows.running, person) == 0


async def test_an_answer_is_stopped_and_is_nobody_elses(site, web, http, person):
    """A key that only asks comes back to what it asked itself; a session needs its CSRF token to ask."""
    asker, second = await db(key_of, person, "chat"), await db(key_of, person, "chat")
    stranger = await db(key_of, await db(site.person, person.brand))
    asked = {"message": "Hello?", "providerId": str(site.models["long"])}

    def by(key):
        return {"Authorization": f"Bearer {key}"}

    async with http.post(f"{web.url}/api/v1/chat", json=asked, headers={**by(asker), **STREAM}) as response:
        (_, _, started), *_ = await events(response, most=2)
        answer = f"{web.url}/api/v1/chat/{started['turnId']}"
        for key, status in ((second, 404), (stranger, 404), (asker, 200)):
            async with http.get(answer, headers=by(key)) as told:
                assert told.status == status
        async with http.post(f"{answer}/stop", headers=by(stranger)) as refused:
            assert refused.status == 404
        async with http.post(f"{answer}/stop", headers=by(asker)) as stopped:
            assert stopped.status == 204
        rest = await events(response)

    assert rest[-1][0] == "done"
    assert rest[-1][2]["message"]["status"] == "stopped"
    session = {"Host": person.brand.domain, "Cookie": person.cookies}
    for token, status in (({}, 403), ({"X-CSRFToken": CSRF}, 200)):
        question = {"message": "Hello?", "providerId": str(site.models["words"])}
        async with http.post(f"{web.url}/api/v1/chat", json=question, headers={**session, **token}) as told:
            assert told.status == status, await told.text()


@pytest.fixture
def run(tmp_path, web):
    """Runs a program in one of the languages of the page."""
    commands = {"curl": ["bash", "-e"], "bash": ["bash", "-e"], "python": [sys.executable], "javascript": ["node"]}
    ends = {"python": "py", "javascript": "mjs"}

    def run(language, program, **env):
        file = tmp_path / f"program.{ends.get(language, 'sh')}"
        file.write_text(program)
        done = subprocess.run(
            [*commands[language], file], capture_output=True, text=True, timeout=60, env={**os.environ, **env}
        )
        assert done.returncode == 0, (program, done.stderr[-2000:])
        return done.stdout

    return run


def test_programs_that_are_copied_run_as_they_stand(site, web, person, run):
    """I1: what the page shows in each language, and the examples of docs."""
    key = key_of(person)
    asked = description()["paths"]["/api/v1/chat"]["post"]["requestBody"]["content"]["application/json"]["examples"]
    question = {**next(iter(asked.values()))["value"], "providerId": str(site.models["words"])}
    for language, program in examples.programs("POST", f"{web.url}/api/v1/chat", key, question).items():
        assert said(20) in run(language, program), language
    chat = json.loads(run("curl", examples.programs("GET", f"{web.url}/api/v1/chat-history?limit=1", key)["curl"]))[0]
    one = f"{web.url}/api/v1/conversations/{chat['id']}"
    for number, (language, program) in enumerate(examples.programs("PATCH", one, key, {"title": "It's high"}).items()):
        assert "It's high" in run(language, program), number
    for language in examples.LANGUAGES:
        assert "204" in run(language, examples.programs("DELETE", one, key)[language]) or language == "curl"
        run(language, examples.programs("POST", f"{web.url}/api/v1/conversations", key, {})[language])

    with scope(SERVICE):
        Membership.objects.filter(brand=person.brand, user=person.user).update(role="owner")
        hook = WebhookEndpoint(brand=person.brand, name="Desk", url="https://hooks.example.com/", events=["*"])
        hook.secret = signing.new_secret()
        hook.save(force_insert=True)
    env = {"SITE": web.url, "KEY": key_of(person, *keys.SCOPES, "webhooks:manage"), "HOOK": str(hook.pk)}
    for name, languages, answers in (
        ("api", "bash|python|javascript", ["", "", ""]),
        ("api-keys", "bash", ["revoked: 204"]),
        ("webhooks", "bash", ['"deliveries":0']),
    ):
        found = re.findall(rf"^```({languages})\n(.*?)^```", (DOCS / f"{name}.md").read_text(), re.S | re.M)
        for (language, program), answer in zip(found, answers, strict=True):
            said_by_it = run(language, program, **env).strip()
            assert said_by_it, program
            assert answer in said_by_it, program
