"""Idle realtime listeners on one process: memory, database connections, threads, and how late a notice is heard.

python -m benchmarks.listeners [--quick] [--listeners N]
"""

import asyncio
import os
import resource
import statistics
import sys
import time
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

import django

django.setup()

import aiohttp  # noqa: E402
import psycopg  # noqa: E402
from django.db import connections  # noqa: E402

from accounts import keys  # noqa: E402
from accounts.models import Brand, Membership, User  # noqa: E402
from benchmarks import stage  # noqa: E402
from benchmarks.table import Row, show  # noqa: E402
from events import notices  # noqa: E402
from lib.db import SERVICE, close_all, scope  # noqa: E402

EACH = 10  # streams of one person
TOLD = 20  # notices, one after the other
GATE_KB = 100  # of memory for each


def furnish(people: int) -> list[tuple[Any, Any, str]]:
    made = []
    with scope(SERVICE):
        brand = Brand.objects.create(slug="b", name="B", domain="b.localhost")
        for number in range(people):
            user = User.objects.create(email=f"{number}@example.com")
            Membership.objects.create(brand=brand, user=user, role="member")
            made.append((brand, user, keys.create(brand, user, name="bench", scopes=["notifications:read"])[1]))
    return made


def in_use() -> int:
    """Connections of the product's log-ins on which something happens now."""
    row = connections["owner"].settings_dict
    home = {"host": row["HOST"], "port": row["PORT"], "user": row["USER"], "password": row["PASSWORD"]}
    with psycopg.connect(**home, dbname=row["NAME"]) as own:
        found = own.execute(
            "select count(*) from pg_stat_activity where datname = %s and usename in ('web', 'worker') and state <> 'idle'",
            [row["NAME"]],
        ).fetchone()
        return found[0] if found else 0


async def listen(session: aiohttp.ClientSession, url: str, key: str, heard: asyncio.Queue[float]) -> None:
    async with session.get(url, headers={"Authorization": f"Bearer {key}"}) as response:
        response.raise_for_status()
        async for line in response.content:
            if line.startswith((b"event: ready", b'data: {"event":"INSERT"')):
                heard.put_nowait(time.perf_counter())


async def run(process: stage.Process, people: list[tuple[Any, Any, str]], seconds: float) -> dict[str, Any]:
    url = f"http://127.0.0.1:{process.port}/api/v1/realtime?topics=notifications"
    heard: asyncio.Queue[float] = asyncio.Queue()
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
    ) as session:
        await (await session.get(f"http://127.0.0.1:{process.port}/healthz")).read()
        tasks, before_mb, threads = [], 0.0, 0
        for number, (_, _, key) in enumerate(people):
            if number == 1:  # what the first ones load is no more with the thousandth
                before_mb, threads = process.memory_mb(), process.threads()
            tasks += [asyncio.create_task(listen(session, url, key, heard)) for _ in range(EACH)]
            for _ in range(EACH):
                await asyncio.wait_for(heard.get(), 60)
        cpu_s, began = process.cpu_s(), time.perf_counter()
        used = []
        while time.perf_counter() < began + seconds:
            used.append(await asyncio.to_thread(in_use))
            await asyncio.sleep(0.2)
        idle_cpu = (process.cpu_s() - cpu_s) / (time.perf_counter() - began)
        after_mb, late_ms = process.memory_mb(), []
        for number in range(TOLD):
            brand, user, _ = people[number % len(people)]
            told_at = time.perf_counter()
            await asyncio.to_thread(_tell, brand, user)
            late_ms += [(await asyncio.wait_for(heard.get(), 30) - told_at) * 1000 for _ in range(EACH)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    return {
        "mb": after_mb,
        "kb_each": (after_mb - before_mb) * 1024 / ((len(people) - 1) * EACH),
        "connections": statistics.median(used),
        "threads": process.threads() - threads,
        "cpu": idle_cpu,
        "late_ms": statistics.median(late_ms),
    }


def _tell(brand: Any, user: Any) -> None:
    try:
        notices.notify(brand.pk, user.pk, "system", title="Ready", message="Words")
    finally:
        close_all()


def measure(*, quick: bool = False, listeners: int = 0) -> list[Row]:
    count = listeners or (200 if quick else 1000)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, count * 2 + 500)), hard))
    with stage.database("bench_listeners"):
        people = furnish(count // EACH)
        with stage.web("http://127.0.0.1:9", STREAMS_PER_PROCESS=str(count + 10)) as process:
            found = asyncio.run(run(process, people, 5 if quick else 20))
    note = f"{found['kb_each']:.0f} kB each, {found['cpu']:.1%} of a core, a notice is heard after {found['late_ms']:.0f} ms"
    return [
        Row(
            f"{count} idle realtime listeners on one process: memory; connections in use",
            f"{found['mb']:.0f} MB; {found['connections']:.0f}",
            f"≤ {GATE_KB} kB each; 0",
            "50 kB; 0",
            found["kb_each"] <= GATE_KB and not found["connections"],
            note,
        )
    ]


if __name__ == "__main__":
    wanted = int(sys.argv[sys.argv.index("--listeners") + 1]) if "--listeners" in sys.argv else 0
    show(measure(quick="--quick" in sys.argv, listeners=wanted))
