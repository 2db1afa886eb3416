"""What `make test` runs, with the servers up: pytest in parallel, and a word when there is no browser."""

import fcntl
import os
import shutil
import subprocess
import sys

from chatsite.embedded.processes import var_dir

BROWSERS = ("chromium", "chromium-browser")
PYTEST = [sys.executable, "-m", "pytest"]


def refuse_second_run() -> None:
    """It would drop the test databases of the first."""
    lock = os.open(var_dir() / "run" / "tests.lock", os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        sys.exit("Another test run is going on in this clone. Name a database for this one: TEST_DB_NAME=test_second")
    os.set_inheritable(lock, True)  # pytest, which takes our place, holds it until it ends


def main(arguments: list[str]) -> int:
    if not os.environ.get("TEST_DB_NAME"):
        refuse_second_run()
    if not any(shutil.which(name) for name in BROWSERS):
        tests = subprocess.run(
            [*PYTEST, "--collect-only", "-q", "-p", "no:cacheprovider", "-m", "browser"], capture_output=True, text=True
        )
        count = sum("::" in line for line in tests.stdout.splitlines())
        print(
            f"No chromium here, so {count} browser tests are skipped. To run them: apt-get install chromium", flush=True
        )
    workers = [] if "-n" in arguments else ["-n", str(min(4, max(2, os.cpu_count() or 2))), "--dist", "loadgroup"]
    os.execv(sys.executable, [*PYTEST, *workers, *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
