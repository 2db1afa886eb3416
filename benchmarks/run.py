"""`make bench`: every gate in one table, measured in one run. `make bench ARGS=--quick` is a smaller one."""

import json
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks import events, history, listeners, pages, processes, streams, walls
from benchmarks.table import Row, show


def machine() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
    model = next((line.split(": ", 1)[1] for line in lines if line.startswith("model name")), platform.processor())
    return f"{os.cpu_count()} cores, {model}, Python {platform.python_version()}"


def reserve() -> list[Row]:
    out = subprocess.run(
        [sys.executable, "-m", "benchmarks.reserve", "--json"], capture_output=True, text=True, check=False
    )
    if not out.stdout.startswith("{"):
        raise RuntimeError(out.stderr[-2000:])
    found = json.loads(out.stdout)  # it exits with 1 when a gate is missed, which the table says
    return [
        Row(f"reservations, {'one hot brand' if row['brands'].startswith('hot') else '1000 brands'}"
            f"{', plan, packs and overage' if row['brands'].endswith('pockets') else ''}, nothing oversold",
            f"{row['per_s']}/s", f"≥ {row['gate']}/s", "1000/s" if row["brands"].startswith("hot") else "2800/s",
            row["per_s"] >= row["gate"], f"{row['of_bare']} × a bare conditional UPDATE")
        for row in found["rows"] if row["gate"]
    ]  # fmt: skip


def main() -> None:
    quick = "--quick" in sys.argv
    rows: list[Row] = []
    parts: list[Callable[[], list[Row]]] = [
        *(partial(part.measure, quick=quick) for part in (streams, processes, listeners, events)),
        walls.measure,
        *(partial(part.measure, quick=quick) for part in (history, pages)),
        reserve,
    ]
    try:
        for part in parts:
            found = part()
            rows += found
            show(found)
            sys.stdout.flush()
    finally:  # what was measured before something broke is shown all the same
        print(f"\n{machine()}; upstream, load, database and server share them.\n")
        show(rows)


if __name__ == "__main__":
    main()
