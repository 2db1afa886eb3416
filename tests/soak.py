"""What `make soak` runs: the reliability tests of everywhere, with their full numbers; too long for every push.

make soak                                       all parts; about an hour and a half on two quiet cores
make soak ARGS="--kills 3 --random-s 120"       smaller
make soak ARGS="--only random"                  the parts whose name holds the word
make soak ARGS="--only random --seed 123456"    the schedule of a former run again

Prints one table: part, outcome, seconds, and the figures that the tests told (docs/reliability.md keeps the last one).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

LIVES = 100  # of the state machine in one database: what is rolled back stays on its disk, and slows the next ones down
PYTEST = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-o", "timeout=10800"]


@dataclass
class Part:
    """One row of the table: the tests, and the sizes that stand in the environment for them."""

    name: str
    tests: list[str]
    sizes: dict[str, object] = field(default_factory=dict)
    rounds: int = 1  # each with a database of its own


def parts(given: argparse.Namespace) -> list[Part]:
    crashes = "tests/conversations/test_crashes.py"
    return [
        Part(
            f"state machine of the meter, {given.examples} x {given.steps}, and 8 threads",
            ["tests/quotas/test_machine.py"],
            {"SOAK_EXAMPLES": min(given.examples, LIVES), "SOAK_STEPS": given.steps},
            rounds=-(-given.examples // LIVES),
        ),
        Part(
            "races of the meter and of turns",
            ["tests/quotas/test_races.py", "tests/quotas/test_pocket_races.py", "tests/conversations/test_races.py"],
            {"SOAK_PARALLEL": 500},
        ),
        Part(f"kill matrix, each boundary x {given.kills}, and other crashes", [crashes], {"SOAK_KILLS": given.kills}),
        Part(
            f"abuse for {given.abuse_s} s, and the caps",
            ["tests/conversations/test_abuse.py", "tests/conversations/test_caps.py", "tests/quotas/test_caps.py"],
            {"SOAK_ABUSE_S": given.abuse_s},
        ),
        Part(
            "webhooks: 1,000 events, three of ten tries fail, the sender killed five times; a hostile receiver",
            ["tests/events/webhooks/test_sending.py"],
            {"SOAK_EVENTS": 1002},
        ),
        Part(
            f"random kills under load, {given.random_s} s",
            ["tests/conversations/test_random_kills.py"],
            {"SOAK_RANDOM_S": given.random_s},
        ),
        Part(
            "several processes: rolling restart under 20 turns/s and 100 streams",
            ["tests/conversations/test_processes.py"],
            {"SOAK_ROLLING_TURNS_PER_S": 20, "SOAK_ROLLING_STREAMS": 100},
        ),
        Part(
            f"database away for {given.away_s} s with 50 chats",
            ["tests/conversations/test_away.py"],
            {"SOAK_AWAY_S": given.away_s, "SOAK_AWAY_CHATS": 50},
        ),
        Part(
            "10,000 keys tried, and how long a look-up takes, 5,000 each",
            ["tests/accounts/test_guessing_keys.py"],
            {"SOAK_GUESSES": 10_000, "SOAK_TIMED": 5000},
        ),
        Part(f"plans with {given.rows} conversations", ["tests/isolation/test_size.py"], {"SOAK_ROWS": given.rows}),
    ]


def run(part: Part, seed: int | None, figures: Path) -> tuple[str, float]:
    env = {
        **os.environ,
        "TEST_DB_NAME": os.environ.get("TEST_DB_NAME", "test_soak"),
        "SOAK_FIGURES": str(figures),
        **{name: str(value) for name, value in part.sizes.items()},
    }
    if seed is not None:
        env["SOAK_SEED"] = str(seed)
    began = time.monotonic()
    failed = any(subprocess.run([*PYTEST, *part.tests], env=env).returncode for _ in range(part.rounds))
    return "FAILED" if failed else "passed", time.monotonic() - began


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--examples", type=int, default=1000, help="lives of the meter's state machine")
    parser.add_argument("--steps", type=int, default=50, help="steps of each life")
    parser.add_argument("--kills", type=int, default=20, help="kill -9 at each boundary, for pages and for programs")
    parser.add_argument("--abuse-s", type=int, default=60, help="seconds of abuse")
    parser.add_argument("--random-s", type=int, default=1200, help="seconds of random kills")
    parser.add_argument("--away-s", type=int, default=60, help="seconds without the database")
    parser.add_argument("--rows", type=int, default=200_000, help="conversations; as many messages, turns and entries")
    parser.add_argument("--seed", type=int, help="of a former run; otherwise each part chooses and prints one")
    parser.add_argument("--only", default="", help="parts whose name holds this word")
    given = parser.parse_args()
    rows = []
    for part in parts(given):
        if given.only not in part.name:
            continue
        print(f"== {part.name}", flush=True)
        with tempfile.TemporaryDirectory() as folder:
            figures = Path(folder) / "figures"
            outcome, seconds = run(part, given.seed, figures)
            told = [json.loads(line) for line in figures.read_text().splitlines()] if figures.exists() else []
        rows.append((part.name, outcome, seconds, "; ".join(f"{line['part']}: {line['figures']}" for line in told)))
    print("\n| part | outcome | seconds | figures |\n|---|---|---|---|")
    for name, outcome, seconds, figures_told in rows:
        print(f"| {name} | {outcome} | {seconds:.0f} | {figures_told} |")
    return int(any(outcome == "FAILED" for _, outcome, _, _ in rows))


if __name__ == "__main__":
    sys.exit(main())
