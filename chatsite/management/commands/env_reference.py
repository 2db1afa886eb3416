from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from chatsite import environment


class Command(BaseCommand):
    help = "Write docs/configuration.md from the declaration in chatsite/environment.py."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--to", type=Path, default=settings.BASE_DIR / "docs" / "configuration.md", help="the file")

    def handle(self, *args: Any, **options: Any) -> None:
        options["to"].write_text(environment.reference())
        self.stdout.write(f"Wrote {options['to']}.")
