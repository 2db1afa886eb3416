"""/metrics: what this process counted, what it is doing at this moment, and what the worker found to be wrong.

Strangers learn nothing from it: without METRICS_TOKEN in force and sent, the address does not exist (A-20).
"""

import asyncio
import hmac
from collections.abc import Iterable, Iterator
from contextlib import suppress
from contextvars import Context

from django.conf import settings
from django.db import DatabaseError, connections
from django.http import Http404, HttpRequest, HttpResponse
from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from accounts.access import public
from conversations.engine import runner
from conversations.engine.live import hub
from events import alarms
from events.models import Alarm
from lib import clock
from lib.db import db, waiting
from lib.errors import Unavailable
from providers import breaker

LOOK_EVERY_S = 0.5
_lag_s = 0.0  # the worst since the last time somebody asked
_looking: asyncio.Task[None] | None = None


@public("with the operator's token only, which it checks itself; without it there is no such address")
async def metrics(request: HttpRequest) -> HttpResponse:
    given = request.headers.get("Authorization", "").encode()
    if not settings.METRICS_TOKEN or not hmac.compare_digest(given, f"Bearer {settings.METRICS_TOKEN}".encode()):
        raise Http404
    _look_at_the_loop()
    found: Iterable[Alarm] | None = None
    with suppress(DatabaseError, Unavailable):  # then chatsite_database_up says so
        found = await db(alarms.states, by_the_clock=True)
    text = generate_latest(REGISTRY) + generate_latest(Moment(found))
    return HttpResponse(text, content_type=CONTENT_TYPE_LATEST)


class Moment(Collector):
    """What is true now, looked up when asked. `found` = None when the database could not say."""

    def __init__(self, found: Iterable[Alarm] | None) -> None:
        self.found = found

    def collect(self) -> Iterator[Metric]:
        global _lag_s
        yield _gauge("live_answers", "Answers that are being written here.", len(hub.unfinished()))
        yield _gauge("draining", "1 while this process refuses new questions, because it ends.", runner.is_draining())
        yield _gauge("event_loop_lag_seconds", "The longest the event loop was late since the last scrape.", _lag_s)
        yield _gauge("clock_ahead_seconds", "This machine's clock against the database's.", clock.ahead_s())
        _lag_s = 0.0
        rests = GaugeMetricFamily("chatsite_provider_resting", "Addresses and models left alone.", labels=["why"])
        for why, count in breaker.states().items():
            rests.add_metric([why], count)
        yield rests
        hops = GaugeMetricFamily("chatsite_db_hops_waiting", "Work in line for a thread.", labels=["threads"])
        for threads, count in waiting().items():
            hops.add_metric([threads], count)
        yield hops
        yield from _pools()
        yield _gauge("database_up", "1 when the database answered this scrape.", self.found is not None)
        value = GaugeMetricFamily("chatsite_condition", "What the worker found.", labels=["alert"])
        trouble = GaugeMetricFamily("chatsite_alert", "1 while it is more than it may be.", labels=["alert"])
        checked = GaugeMetricFamily("chatsite_condition_timestamp_seconds", "When it was looked at.", labels=["alert"])
        for alarm in self.found or ():
            value.add_metric([alarm.name], alarm.value)
            trouble.add_metric([alarm.name], alarm.since is not None)
            checked.add_metric([alarm.name], alarm.checked_at.timestamp())
        yield from (value, trouble, checked)


def _gauge(name: str, what: str, value: float) -> Metric:
    return GaugeMetricFamily(f"chatsite_{name}", what, value=float(value))


def _pools() -> Iterator[Metric]:
    in_use = GaugeMetricFamily("chatsite_db_connections", "Connections of the pool.", labels=["login", "state"])
    queued = GaugeMetricFamily("chatsite_db_pool_waiting", "Who waits for a connection.", labels=["login"])
    for login in ("default", "service"):
        pool = connections[login].pool  # type: ignore[attr-defined]
        if pool is not None:
            stats = pool.get_stats()
            size, free = stats.get("pool_size", 0), stats.get("pool_available", 0)
            in_use.add_metric([login, "in use"], size - free)
            in_use.add_metric([login, "free"], free)
            queued.add_metric([login], stats.get("requests_waiting", 0))
    yield from (in_use, queued)


def _look_at_the_loop() -> None:
    """From the first scrape on, and in no request's name."""
    global _looking
    loop = asyncio.get_running_loop()
    if _looking is None or _looking.done() or _looking.get_loop() is not loop:
        _looking = loop.create_task(_look(), context=Context())


async def _look() -> None:
    global _lag_s
    loop = asyncio.get_running_loop()
    while True:
        due = loop.time() + LOOK_EVERY_S
        await asyncio.sleep(LOOK_EVERY_S)
        _lag_s = max(_lag_s, loop.time() - due)
