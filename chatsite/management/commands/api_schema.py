"""api_schema: write docs/openapi.yaml anew, or say what programs would miss. Exit code 1 where it is not up to date."""

from pathlib import Path
from typing import Any

import yaml
from django.core.management.base import BaseCommand, CommandParser

from chatsite.api_docs.description import as_yaml, breaking, description

FILE = Path(__file__).resolve().parents[3] / "docs" / "openapi.yaml"


class Command(BaseCommand):
    help = "Compare docs/openapi.yaml with what the code answers; --write brings it up to date."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--write", action="store_true", help="write the file anew")

    def handle(self, *, write: bool, **options: Any) -> None:
        text, kept = as_yaml(description()), FILE.read_text() if FILE.exists() else ""
        for line in breaking(yaml.safe_load(kept), description()) if kept else []:
            self.stdout.write(f"breaks: {line}")
        if write:
            FILE.write_text(text)
            self.stdout.write(f"{FILE.name} is written.")
        elif text != kept:
            self.stderr.write(f"{FILE.name} is not what the code answers. Run `manage.py api_schema --write`.")
            raise SystemExit(1)
