import json
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db import Error

from chatsite import backups
from lib.errors import DomainError


class Command(BaseCommand):
    help = (
        "Build an empty database up from a backup, then prove that rows, ledger, walls and balances are as they were. "
        "Exit code 1: refused, or something differs. Refuses a database that holds anything."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, help="what `backup` wrote")
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            result = backups.restore(options["file"], say=self.stderr.write)
        except DomainError as refused:
            raise CommandError(refused.detail) from refused
        except Error as error:
            raise CommandError(f"The database refused: {error}") from error
        except OSError as error:
            raise CommandError(f"The files could not be given back: {error}") from error
        faults = result["faults"]
        if options["json"]:
            self.stdout.write(json.dumps(result))
        elif faults:
            self.stdout.write(
                "\n".join([*faults, f"{len(faults)} things are not as they were. Do not let traffic in."])
            )
        else:
            self.stdout.write(
                f"{result['rows']:,} rows as of {result['taken_at']} are back; ledger, walls and balances are proved. "
                "Next: `manage.py migrate`, then start the processes."
            )
        if faults:
            sys.exit(1)
