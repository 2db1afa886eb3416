"""Streaming and turns: first token, CPU per token, open streams, answers a second, memory, RLS.

python -m benchmarks.streams [--quick]
"""

import json
import os
import statistics
import subprocess
import sys
import time
from datetime import UTC, datetime
from typing import Any

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "benchmarks.settings")

import django

django.setup()

from accounts import keys  # noqa: E402
from accounts.models import Brand, Membership, User  # noqa: E402
from benchmarks import stage  # noqa: E402
from benchmarks.table import Row  # noqa: E402
from billing.models import Plan  # noqa: E402
from billing.plans import assign_plan, install_catalogue  # noqa: E402
from lib.db import SERVICE, scope  # noqa: E402
from providers.models import AIProvider, Price  # noqa: E402
from quotas import ledger, proof  # noqa: E402
from tests.upstream import Upstream  # noqa: E402

BRANDS = 32
MODELS = {
    "paced": "m;stamp=1;delay_ms=50;tokens={tokens}",  # 20 tokens a second
    "quick": "m;stamp=1;tokens=20",
}


def furnish(tokens: int) -> list[str]:
    """32 brands with one member and key each, and the models; returns the keys."""
    made = []
    with scope(SERVICE):
        for identifier, model in MODELS.items():
            provider = AIProvider.objects.create(
                name=identifier,
                api_identifier=identifier,
                protocol="openai",
                model=model.format(tokens=tokens),
                max_tokens=2000,
            )
            Price.objects.create(
                provider=provider,
                input_microusd_per_mtok=1_000_000,
                output_microusd_per_mtok=4_000_000,
                starts_at=datetime(2026, 1, 1, tzinfo=UTC),
            )
        for number in range(BRANDS):
            brand = Brand.objects.create(slug=f"b{number}", name=f"B{number}", domain=f"b{number}.localhost")
            install_catalogue(brand, "s0")
            assign_plan(brand, Plan.objects.get(brand=brand, code="pool"))
            ledger.top_up(brand, meter="tokens", amount=10**12, reason="benchmark")
            user = User.objects.create(email=f"u{number}@example.com")
            Membership.objects.create(brand=brand, user=user, role="member")
            assign_plan(brand, Plan.objects.get(brand=brand, code="pooled"), user_id=user.pk)
            made.append(keys.create(brand, user, name="bench", scopes=["chat"], per_minute=keys.MOST_PER_MINUTE)[1])
    return made


class Bench:
    def __init__(self, upstream: Upstream, web: stage.Process, plain: stage.Process, texts: list[str]) -> None:
        self.upstream, self.web, self.plain = upstream, web, plain
        self.headers = [{"Authorization": f"Bearer {text}"} for text in texts]

    def order(self, target: str, model: str, **rest: Any) -> str:
        if target == "ours":
            url, headers = f"http://127.0.0.1:{self.web.port}/v1/chat/completions", self.headers
        else:
            base = self.upstream.openai_url if target == "direct" else f"http://127.0.0.1:{self.plain.port}/v1"
            url, headers = f"{base}/chat/completions", [{"Authorization": "Bearer bench"}]
            model = AIProvider.objects.get(api_identifier=model).model
        return json.dumps({"url": url, "headers": headers, "model": model, **rest})

    def start(self, *args: Any, **rest: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "benchmarks.load", self.order(*args, **rest)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    def load(self, *args: Any, **rest: Any) -> dict[str, list[float]]:
        return finish(self.start(*args, **rest))


def finish(running: subprocess.Popen[str]) -> dict[str, list[float]]:
    out, _ = running.communicate(timeout=300)
    seen: dict[str, list[float]] = json.loads(out)
    if seen["errors"]:
        raise RuntimeError(f"{len(seen['errors'])} requests failed, the first with {seen['errors'][0]}")
    return seen


def ms(values: list[float], percentile: int = 50) -> float:
    return statistics.quantiles(values, n=100)[percentile - 1] * 1000 if len(values) > 1 else values[0] * 1000


def first_token(bench: Bench) -> list[Row]:
    for target in ("direct", "ours", "plain"):
        bench.load(target, "quick", clients=1, seconds=0.5)  # warm-up
    alone = {
        target: ms(bench.load(target, "quick", clients=1, seconds=3)["first"]) for target in ("direct", "plain", "ours")
    }
    open_streams = bench.start("ours", "paced", streams=100, over_s=1.5)
    time.sleep(2.5)
    busy = bench.load("ours", "quick", streams=15, over_s=3)["first"]
    busy_direct = bench.load("direct", "quick", streams=15, over_s=1)["first"]
    finish(open_streams)
    return [
        Row("first token over a direct call, 1 client, p50", f"{alone['ours'] - alone['direct']:.1f} ms", "≤ 10 ms", "6 ms",
            alone["ours"] - alone["direct"] <= 10, f"direct {alone['direct']:.1f}, pass-through {alone['plain']:.1f} ms"),
        Row("the same with 100 open streams and 5 new turns/s, p95", f"{ms(busy, 95) - ms(busy_direct):.0f} ms", "≤ 60 ms",
            "25 ms", ms(busy, 95) - ms(busy_direct) <= 60),
    ]  # fmt: skip


def cpu_per_token(bench: Bench, streams: int, tokens: int) -> list[Row]:
    """CPU of the server process per streamed token, the same load on ours and on the pass-through.

    In steady flow: while all streams are open, none begins and none ends. The note adds begin, store and settle of one
    answer, from a run of whole short answers, spread over the tokens of a long one.
    """
    steady, memory, threads = {}, 0.0, 0
    for target, process in (("plain", bench.plain), ("ours", bench.web)):
        running = bench.start(target, "paced", streams=streams, over_s=streams / 75)
        time.sleep(streams / 75 + 1)
        before, began = process.cpu_s(), time.perf_counter()
        time.sleep(4)
        steady[target] = (process.cpu_s() - before) / ((time.perf_counter() - began) * streams * 20) * 1e6
        if target == "ours":
            memory, threads = process.memory_mb(), process.threads()
        finish(running)
    before = bench.web.cpu_s()
    whole = len(bench.load("ours", "quick", clients=4, seconds=2)["answers"])
    each = (bench.web.cpu_s() - before) / whole * 1e6 - 20 * steady["ours"]
    ratio = steady["ours"] / steady["plain"]
    return [
        Row(f"CPU per streamed token, {streams} open streams, over a bare pass-through", f"{ratio:.2f} ×", "≤ 1.5 ×", "1.2 ×",
            ratio <= 1.5, f"{steady['ours']:.0f} against {steady['plain']:.0f} µs; with begin, store and settle of an "
            f"answer of {tokens} tokens {steady['ours'] + each / tokens:.0f} µs"),
        Row(f"memory of the web process under {streams} streams", f"{memory:.0f} MB", "≤ 250 MB", "150 MB", memory <= 250,
            f"{threads} threads"),
    ]  # fmt: skip


def open_streams(bench: Bench, counts: tuple[int, ...]) -> list[Row]:
    kept, words = 0, []
    for count in counts:
        lag = ms(bench.load("ours", "paced", streams=count, over_s=count / 75)["lags"], 99)
        words.append(f"{count}: {lag:.0f} ms")
        if lag >= 100:
            break
        kept = count
    name = "open streams at 20 tok/s with token lag p99 < 100 ms"
    return [Row(name, str(kept), "≥ 300", "500", kept >= 300, ", ".join(words))]


def answers(bench: Bench, seconds: float) -> list[Row]:
    bench.load("ours", "quick", clients=32, seconds=1, stream=False)
    before = bench.web.cpu_s()
    seen = bench.load("ours", "quick", clients=32, seconds=seconds, stream=False)["answers"]
    rate, cpu = len(seen) / seconds, (bench.web.cpu_s() - before) / len(seen) * 1000
    return [Row("whole answers at the /v1 door, 32 clients over 32 brands", f"{rate:.0f}/s", "≥ 200/s", "400/s", rate >= 200,
                f"{cpu:.1f} ms CPU each")]  # fmt: skip


def measure(*, quick: bool = False) -> list[Row]:
    tokens = 120 if quick else 300
    with stage.database("bench_streams"), Upstream() as upstream:
        texts = furnish(tokens)
        with stage.web(upstream.openai_url) as web, stage.passthrough(upstream.openai_url) as plain:
            bench = Bench(upstream, web, plain, texts)
            rows = first_token(bench)
            rows += cpu_per_token(bench, 100 if quick else 300, tokens)
            rows += open_streams(bench, (100,) if quick else (300, 400, 500))
            rows += answers(bench, 2 if quick else 5)
            if drift := proof.drifts():
                raise RuntimeError(f"the ledger does not add up: {drift[0]}")
    return rows


if __name__ == "__main__":
    from benchmarks.table import show

    show(measure(quick="--quick" in sys.argv))
