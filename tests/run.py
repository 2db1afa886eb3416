"""What `make test` runs, with the servers up: pytest in parallel, and a word when there is no browser."""

import os
import shutil
import subprocess
import sys

BROWSERS = ("chromium", "chromium-browser")
PYTEST = [sys.executable, "-m", "pytest"]


def main(arguments: list[str]) -> int:
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
