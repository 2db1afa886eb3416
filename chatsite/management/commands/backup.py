import json
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from chatsite import backups
from lib.errors import DomainError


class Command(BaseCommand):
    help = (
        "Write a backup of the whole database to one file, while the product works on, and read it back. "
        "The environment's secrets are not in it. Exit code 1: no backup was taken, and why."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--to", type=Path, help="a folder, or the file's own name; BACKUP_DIR by default")
        parser.add_argument("--keep", type=int, default=0, help="delete older backups of the folder beyond so many")
        parser.add_argument("--json", action="store_true", help="print the manifest as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        to = options["to"] or (Path(settings.BACKUP_DIR) if settings.BACKUP_DIR else None)
        if to is None:
            raise CommandError("Where to? Give --to FOLDER, or set BACKUP_DIR.")
        try:
            made = backups.take(to, keep=options["keep"], say=self.stderr.write)
        except DomainError as refused:
            raise CommandError(refused.detail) from refused
        except (Error, OSError) as error:
            raise CommandError(f"No backup was taken: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps(made))
        else:
            rows, tables = sum(made["tables"].values()), len(made["tables"])
            self.stdout.write(f"{made['file']}: {rows:,} rows of {tables} tables, {made['bytes']:,} bytes, read back.")
            self.stdout.write(f"Not in it: {made['not_in_it']}")
