"""/metrics of a real process: right numbers for the operator, and no such address for anybody else. A-20, O-16."""

import re
from uuid import uuid4

import pytest
from django.test import Client
from prometheus_client.parser import text_string_to_metric_families

from tests.server import Browser, eventually

TOKEN = "operator-" + "t" * 32
BEARER = {"Authorization": f"Bearer {TOKEN}"}
ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}|[0-9a-f]{24}")


def parsed(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


async def scraped(browser):
    async with browser.get("/metrics", headers={**BEARER, "Cookie": ""}) as answer:
        assert answer.status == 200
        return parsed(await answer.text())


async def test_a_process_counts_what_it_did_and_says_what_it_does(site, http, person):
    with site.serve(METRICS_TOKEN=TOKEN) as web:
        browser = Browser(http, web, person)
        before = await scraped(browser)
        done = await browser.ask("One.", site.models["words"])
        await browser.read(done.turn_id)
        failed = await browser.ask("Two.", site.models["key-refused"])
        await browser.read(failed.turn_id)
        running = await browser.ask("Three.", site.models["long"])
        await browser.read(running.turn_id, until=20)
        reading = browser.events(running.turn_id)
        await anext(reading)

        async def is_checkpointed():
            now = await scraped(browser)
            return now if now[("chatsite_checkpoint_timestamp_seconds",)] else None

        now = await eventually(is_checkpointed)
        await reading.aclose()
        await browser.stop(running.turn_id)

        assert before[("chatsite_turns_begun_total",)] == 0
        assert now[("chatsite_turns_begun_total",)] == 3
        assert now[("chatsite_turns_ended_total", ("status", "done"))] == 1
        assert now[("chatsite_turns_ended_total", ("status", "failed"))] == 1
        assert now[("chatsite_tokens_total", ("kind", "completion"))] == 20
        assert now[("chatsite_first_piece_seconds_count",)] == 1
        assert now[("chatsite_provider_calls_total", ("model", "words"), ("outcome", "done"))] == 1
        refused = ("chatsite_provider_calls_total", ("model", "key-refused"), ("outcome", "provider_key_refused"))
        assert now[refused] == 1
        assert now[("chatsite_provider_resting", ("why", "resting"))] == 0
        assert now[("chatsite_live_answers",)] == 1
        assert now[("chatsite_open_streams",)] >= 1
        assert now[("chatsite_requests_total", ("method", "POST"), ("route", "c/send/"), ("status", "200"))] == 3
        assert now[("chatsite_request_seconds_count", ("route", "c/send/"))] == 3
        assert now[("chatsite_database_up",)] == 1
        assert now[("chatsite_draining",)] == 0
        assert abs(now[("chatsite_clock_ahead_seconds",)]) < 5
        assert now[("chatsite_db_connections", ("login", "default"), ("state", "free"))] >= 1
        assert now[("chatsite_db_hops_waiting", ("threads", "people"))] == 0

        async def all_ended():
            return (await scraped(browser))[("chatsite_open_streams",)] == 0

        await eventually(all_ended)


async def test_labels_are_few_and_name_nobody(site, http, person):
    with site.serve(METRICS_TOKEN=TOKEN) as web:
        browser = Browser(http, web, person)
        asked = await browser.ask("canary", site.models["words"])
        await browser.read(asked.turn_id)

        async def wander():
            for address in (f"/c/{uuid4()}/", f"/canary/{uuid4()}", f"/turns/{uuid4()}/stream", f"/c/?q={uuid4()}"):
                async with browser.get(address) as answer:
                    await answer.read()
            async with http.request(uuid4().hex.upper()[:20], web.url + "/", headers=browser.headers) as answer:
                await answer.read()

        await wander()
        series = (await scraped(browser)).keys()
        for _ in range(10):
            await wander()
        after = (await scraped(browser)).keys()

    assert after == series
    text = str(sorted(after))
    assert not ID.search(text)
    for name in ("canary", person.brand.slug, person.brand.domain, person.user.email):
        assert name not in text


async def test_numbers_come_without_the_database_too(site, http):
    """The pool to the service is away: the process says so, and all it knows by itself."""
    away = "postgres://worker:nothing@127.0.0.1:1/nowhere"
    with site.serve(METRICS_TOKEN=TOKEN, DATABASE_SERVICE_URL=away) as web:
        async with http.get(f"{web.url}/metrics", headers=BEARER) as answer:
            now = parsed(await answer.text())

    assert now[("chatsite_database_up",)] == 0
    assert now[("chatsite_live_answers",)] == 0


@pytest.mark.parametrize("token", ["", TOKEN])
@pytest.mark.parametrize(
    "headers",
    [
        {}, {"Authorization": "Bearer "}, {"Authorization": f"Bearer {TOKEN[:-1]}"}, {"Authorization": f"Bearer {TOKEN}x"},
        {"Authorization": TOKEN}, {"Authorization": f"Basic {TOKEN}"}, {"Authorization": "Bearer \u00e9"},
    ],
)  # fmt: skip
def test_for_strangers_there_is_no_such_address(world, settings, token, headers):
    """A-20: answered like any address that is not there; an empty token opens nothing."""
    settings.METRICS_TOKEN = token
    client = Client(headers={"host": "act.localhost", "x-request-id": "request-4711", **headers})

    closed, unknown = client.get("/metrics"), client.get("/no-such-address")

    assert closed.status_code == unknown.status_code == 404
    assert closed.content == unknown.content
    assert {**closed.headers, "Content-Security-Policy": ""} == {**unknown.headers, "Content-Security-Policy": ""}
