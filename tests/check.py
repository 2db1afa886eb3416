"""What `make check` runs: every linter, two at a time, though one fails; the names of those that did.

In CI the tests run meanwhile, and go first; the servers that both share are not made slower by that.
"""

import os
import secrets
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

BIN = Path(sys.executable).parent
MANAGE = [sys.executable, "manage.py"]
PRODUCTION = {
    "DEBUG": "0",
    "DEVELOPMENT": "0",
    "SECRET_KEY": secrets.token_urlsafe(64),
    "ALLOWED_HOSTS": "chat.example.com",
    "CSRF_TRUSTED_ORIGINS": "https://chat.example.com",
}
CHECKS: dict[str, tuple[list[str | Path], dict[str, str]]] = {
    "mypy": ([BIN / "mypy", "."], {}),  # takes as long as all the others
    "ruff check": ([BIN / "ruff", "check", "."], {}),
    "ruff format": ([BIN / "ruff", "format", "--check", "."], {}),
    "import-linter": ([BIN / "lint-imports", "--no-logo"], {}),
    "migrations": ([*MANAGE, "makemigrations", "--check", "--dry-run"], {}),
    "deployment": ([*MANAGE, "check", "--deploy", "--fail-level", "WARNING"], PRODUCTION),
}


def check(name: str) -> bool:
    command, env = CHECKS[name]
    done = subprocess.run(
        ["nice", *command], env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    print(f"== {name}\n{done.stdout}", end="", flush=True)
    return done.returncode == 0


def main() -> int:
    with ThreadPoolExecutor(2) as two:
        failed = [name for name, passed in zip(CHECKS, two.map(check, CHECKS), strict=True) if not passed]
    print(f"Failed: {', '.join(failed)}" if failed else "All checks passed.")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
