"""Several web processes: open streams over two of them, what the copy in Redis costs, how soon a process has ended.

python -m benchmarks.processes [--quick]
"""

import json
import subprocess
import sys
import time
from typing import Any

from benchmarks import stage
from benchmarks.streams import finish, furnish, ms
from benchmarks.table import Row
from conversations.models import OPEN_STATES, Turn
from lib.db import SERVICE, scope
from quotas import proof
from quotas.models import Hold
from tests.upstream import Upstream

NOWHERE = "redis://127.0.0.1:1/0"
LASTS_S = 2.0  # DRAIN_S of the process that is asked to end


def start(web: stage.Process, keys: list[str], **order: Any) -> subprocess.Popen[str]:
    headers = [{"Authorization": f"Bearer {key}"} for key in keys]
    order = {"url": f"http://127.0.0.1:{web.port}/v1/chat/completions", "headers": headers, "model": "paced", **order}
    return subprocess.Popen(
        [sys.executable, "-m", "benchmarks.load", json.dumps(order)], stdout=subprocess.PIPE, text=True
    )


def open_streams(upstream: Upstream, keys: list[str], counts: tuple[int, ...]) -> list[Row]:
    kept, words = 0, []
    with stage.web(upstream.openai_url) as first, stage.web(upstream.openai_url) as second:
        for count in counts:
            running = [start(web, keys, streams=count // 2, over_s=count / 75) for web in (first, second)]
            lags = [lag for one in running for lag in finish(one)["lags"]]
            words.append(f"{count}: {ms(lags, 99):.0f} ms")
            if ms(lags, 99) >= 100:
                break
            kept = count
    name = "open streams over two processes at 20 tok/s with token lag p99 < 100 ms"
    return [Row(name, str(kept), "≥ 300", "800", kept >= 300, ", ".join(words))]


def cost_of_the_copy(upstream: Upstream, keys: list[str], streams: int) -> list[Row]:
    """CPU of the process per token of stored answers in steady flow, with the copy and without."""
    us = {}
    for name, more in (("without", {"REDIS_URL": NOWHERE}), ("with", {})):
        with stage.web(upstream.openai_url, **more) as web:
            running = start(web, keys, streams=streams, over_s=streams / 75, more={"store": True})
            time.sleep(streams / 75 + 1)
            before, began = web.cpu_s(), time.perf_counter()
            time.sleep(4)
            us[name] = (web.cpu_s() - before) / ((time.perf_counter() - began) * streams * 20) * 1e6
            finish(running)
    cost = us["with"] - us["without"]
    return [
        Row(f"CPU of the Redis copy per token, {streams} stored answers", f"{cost:.1f} µs", "≤ 6 µs", "3 µs", cost <= 6,
            f"{us['with']:.0f} with, {us['without']:.0f} without"),
    ]  # fmt: skip


def drain(upstream: Upstream, keys: list[str], streams: int) -> list[Row]:
    """From SIGTERM to the exit, when all answers would go on for longer than the process may."""
    with stage.web(upstream.openai_url, LAME_DUCK_S="0", DRAIN_S=str(LASTS_S)) as web:
        running = start(web, keys, streams=streams, over_s=0.5)
        while still_open() < streams:
            time.sleep(0.1)
        began = time.perf_counter()
        web.popen.terminate()
        code = web.popen.wait(60)
        took = time.perf_counter() - began
        finish(running)
    with scope(SERVICE):
        held = Hold.objects.count()
    if code or held or still_open():
        raise RuntimeError(f"exit code {code}; {still_open()} turns are open, {held} holds")
    return [
        Row(f"process ended after SIGTERM with {streams} open streams, beyond DRAIN_S", f"{took - LASTS_S:.1f} s", "≤ 10 s",
            "2 s", took - LASTS_S <= 10, "every answer final, nothing held"),
    ]  # fmt: skip


def still_open() -> int:
    with scope(SERVICE):
        return Turn.objects.filter(status__in=OPEN_STATES).count()


def measure(*, quick: bool = False) -> list[Row]:
    with stage.database("bench_processes"), Upstream() as upstream:
        keys = furnish(300)
        rows = open_streams(upstream, keys, (100,) if quick else (400, 600, 800))
        rows += cost_of_the_copy(upstream, keys, 100 if quick else 200)
        rows += drain(upstream, keys, 100)
        if drift := proof.drifts():
            raise RuntimeError(f"the ledger does not add up: {drift[0]}")
    return rows


if __name__ == "__main__":
    from benchmarks.table import show

    show(measure(quick="--quick" in sys.argv))
