"""What `make soak` runs: the same tests as everywhere, with the full numbers; too long for every push. Prints figures.

make soak                    the state machine 1,000 x 50, each fault point x 20, abuse for a minute
make soak ARGS="--kills 3"   smaller
"""

import argparse
import os
import subprocess
import sys
import time

PYTEST = [sys.executable, "-m", "pytest", "-q", "-s", "-p", "no:cacheprovider", "-o", "timeout=7200"]


def main() -> int:
    parser = argparse.ArgumentParser(description="The reliability tests with their full numbers.")
    parser.add_argument("--examples", type=int, default=1000, help="lives of the meter's state machine")
    parser.add_argument("--steps", type=int, default=50, help="steps of each life")
    parser.add_argument("--kills", type=int, default=20, help="kill -9 at each fault point")
    parser.add_argument("--abuse-s", type=int, default=60, help="seconds of abuse")
    given = parser.parse_args()
    parts = {
        f"the meter, {given.examples} lives of {given.steps} steps": ["tests/quotas/test_machine.py"],
        "the meter, races": ["tests/quotas/test_races.py"],
        f"crashes, each fault point x {given.kills}": ["tests/conversations/test_crashes.py"],
        "turns, races": ["tests/conversations/test_races.py"],
        f"abuse for {given.abuse_s} s": ["tests/conversations/test_abuse.py"],
    }
    env = {
        **os.environ,
        "TEST_DB_NAME": os.environ.get("TEST_DB_NAME", "test_soak"),
        "SOAK_EXAMPLES": str(given.examples),
        "SOAK_STEPS": str(given.steps),
        "SOAK_KILLS": str(given.kills),
        "SOAK_ABUSE_S": str(given.abuse_s),
    }
    figures = []
    for name, files in parts.items():
        print(f"== {name}", flush=True)
        began = time.monotonic()
        failed = subprocess.run([*PYTEST, *files], env=env).returncode
        figures.append((name, "FAILED" if failed else "passed", time.monotonic() - began))
    print()
    for name, outcome, seconds in figures:
        print(f"{name:40} {outcome:8} {seconds:8.0f} s")
    return int(any(outcome == "FAILED" for _, outcome, _ in figures))


if __name__ == "__main__":
    sys.exit(main())
