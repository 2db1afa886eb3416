"""The stream of events and its webhooks: events published a second, and how late a receiver hears of one.

python -m benchmarks.events [--quick]
"""

import asyncio
import os
import statistics
import sys
import threading
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

import django

django.setup()

import orjson  # noqa: E402
from aiohttp import web  # noqa: E402
from django.conf import settings  # noqa: E402

from accounts.models import Brand, Membership, User  # noqa: E402
from benchmarks import stage  # noqa: E402
from benchmarks.table import Row, show  # noqa: E402
from events import stream  # noqa: E402
from events.webhooks import endpoints  # noqa: E402
from lib.db import SERVICE, Principal, close_all, scope, send  # noqa: E402
from lib.ids import uuid7  # noqa: E402

WRITERS, BRANDS = 4, 10
PER_S = 50  # events, while the lag is measured: each brand has a webhook, and a tenth of them
GATE_PER_S, GATE_MS = 500, 1500
BARE = "insert into bare (id, data, created_at) values (%(id)s, '{}', now())"


class Receiver:
    """Every brand's, in a thread of its own: when each event's first request came, by its subject."""

    def __init__(self) -> None:
        self.heard: dict[UUID, float] = {}
        self._ready = threading.Event()
        threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True).start()
        self._ready.wait(30)

    async def _serve(self) -> None:
        async def hear(request: web.Request) -> web.Response:
            at = time.perf_counter()
            self.heard.setdefault(UUID(orjson.loads(await request.read())["subject"]["id"]), at)
            return web.Response()

        app = web.Application()
        app.router.add_post("/", hear)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.port: int = site._server.sockets[0].getsockname()[1]  # type: ignore[union-attr]
        self._ready.set()
        await asyncio.Event().wait()


def furnish(port: int) -> list[Brand]:
    """Brands with an owner and a webhook each."""
    made = []
    for number in range(BRANDS):
        with scope(SERVICE):
            brand = Brand.objects.create(slug=f"b{number}", name=f"B{number}", domain=f"b{number}.localhost")
            user = User.objects.create(email=f"{number}@example.com")
            Membership.objects.create(brand=brand, user=user, role="owner")
        wanted = endpoints.Wanted(name="A", url=f"http://127.0.0.1:{port}/", events=["*"])
        endpoints.make(Principal("app_brand", brand.pk, user.pk), wanted)
        made.append(brand)
    return made


def happen(brand: Brand) -> UUID:
    subject = uuid7()
    with scope(SERVICE):
        stream.publish(brand.pk, "member.joined", subject=("user", subject))
    return subject


def per_second(work: Callable[[int], Any], seconds: float) -> float:
    """How often `work` is done by all writers together."""
    counts, until = [0] * WRITERS, time.perf_counter() + seconds

    def write(number: int) -> None:
        try:
            while time.perf_counter() < until:
                work(number)
                counts[number] += 1
        finally:
            close_all()

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(counts) / seconds


def bare(_number: int) -> None:
    with scope(SERVICE):
        send((BARE, {"id": uuid7()}))


def lags_ms(brands: list[Brand], receiver: Receiver, seconds: float) -> list[float]:
    """From each commit to the receiver's request, at a steady rate; every event is waited for."""
    committed: dict[UUID, float] = {}
    began = time.perf_counter()
    for number in range(int(seconds * PER_S)):
        time.sleep(max(0.0, began + number / PER_S - time.perf_counter()))
        subject = happen(brands[number % BRANDS])
        committed[subject] = time.perf_counter()
    close_all()
    for _ in range(1200):
        if committed.keys() <= receiver.heard.keys():
            break
        time.sleep(0.05)
    return [(receiver.heard[subject] - at) * 1000 for subject, at in committed.items()]


def measure(*, quick: bool = False) -> list[Row]:
    seconds = 3 if quick else 15
    receiver = Receiver()
    allowed = f"127.0.0.1:{receiver.port}"
    settings.EGRESS_ALLOW = [allowed]
    with stage.database("bench_events"):
        _make_bare_table()
        brands = furnish(receiver.port)
        of_bare = per_second(bare, seconds)
        published = per_second(lambda number: happen(brands[number]), seconds)
        _forget_them()
        with stage.command("send_webhooks", EGRESS_ALLOW=allowed):
            lags_ms(brands, receiver, 1)  # until it runs
            late = lags_ms(brands, receiver, seconds)
    p50, p95 = statistics.median(late), statistics.quantiles(late, n=20)[18]
    return [
        Row(
            f"events published, {WRITERS} writers, one transaction each",
            f"{published:.0f}/s",
            f"≥ {GATE_PER_S}/s",
            "1000/s",
            published >= GATE_PER_S,
            f"{published / of_bare:.2f} × a bare insert",
        ),
        Row(
            f"commit to a webhook's request, {PER_S} events/s over {BRANDS} brands: p50; p95",
            f"{p50:.0f} ms; {p95:.0f} ms",
            f"p95 ≤ {GATE_MS} ms",
            "500 ms",
            p95 <= GATE_MS,
            f"{len(late)} events, each arrived",
        ),
    ]


def _make_bare_table() -> None:
    from django.db import connections

    with connections["owner"].cursor() as cursor:
        cursor.execute("create table bare (id uuid primary key, data jsonb not null, created_at timestamptz not null)")
        cursor.execute("grant insert on bare to app_service")


def _forget_them() -> None:
    """What was published for its own sake is not to be sent: a sender would be busy with it for minutes."""
    from django.db import connections

    with connections["owner"].cursor() as cursor:
        cursor.execute("truncate events_event")


if __name__ == "__main__":
    show(measure(quick="--quick" in sys.argv))
