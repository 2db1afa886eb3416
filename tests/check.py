"""What `make check` runs: every linter, though one fails; the names of those that did."""

import os
import secrets
import subprocess
import sys
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
    "ruff check": ([BIN / "ruff", "check", "."], {}),
    "ruff format": ([BIN / "ruff", "format", "--check", "."], {}),
    "import-linter": ([BIN / "lint-imports", "--no-logo"], {}),
    "migrations": ([*MANAGE, "makemigrations", "--check", "--dry-run"], {}),
    "deployment": ([*MANAGE, "check", "--deploy", "--fail-level", "WARNING"], PRODUCTION),
    "mypy": ([BIN / "mypy", "."], {}),
}


def main() -> int:
    failed = []
    for name, (command, env) in CHECKS.items():
        print(f"== {name}", flush=True)
        if subprocess.run(command, env={**os.environ, **env}).returncode:
            failed.append(name)
    print(f"Failed: {', '.join(failed)}" if failed else "All checks passed.")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
