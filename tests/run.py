"""What `make test` runs, with the servers up: pytest in parallel, and a word about what cannot run here."""

import fcntl
import os
import shutil
import subprocess
import sys

from chatsite.embedded.processes import var_dir

# What some tests need besides pip's packages: its Debian package, their marker, and the program's names.
NEEDED = {
    "chromium": (
        "browser",
        ("chromium-headless-shell", "chromium", "chromium-browser"),
    ),  # the first takes half the time
    "pgbouncer": ("pooler", ("pgbouncer",)),
}
PATH = os.environ.get("PATH", os.defpath) + ":/usr/sbin"
WORKERS = "4"  # on two cores too: tests of real processes wait most of the time
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
    for package, (marker, names) in NEEDED.items():
        if not any(shutil.which(name, path=PATH) for name in names):
            tests = subprocess.run(
                [*PYTEST, "--collect-only", "-q", "-p", "no:cacheprovider", "-m", marker],
                capture_output=True,
                text=True,
            )
            count = sum("::" in line for line in tests.stdout.splitlines())
            print(
                f"No {package} here, so {count} {marker} tests are skipped. To run them: apt-get install {package}",
                flush=True,
            )
    workers = [] if "-n" in arguments else ["-n", WORKERS, "--dist", "loadgroup"]
    os.execv(sys.executable, [*PYTEST, *workers, *arguments])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
