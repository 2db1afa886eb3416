"""Commands that operators run: refusals in words, exit codes that mean something, JSON where data is printed."""

import json
from contextlib import nullcontext
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.db import OperationalError

from lib.db import SERVICE, scope
from lib.errors import DomainError


class OperatorCommand(BaseCommand):
    """Runs `work()` in the service scope. A refusal exits with 1 and its sentence; `--json` prints what work() returns.

    `scoped = False` for work that opens short scopes itself, one for each thing it does.
    """

    requires_system_checks = ()
    scoped = True

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the result as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            with scope(SERVICE) if self.scoped else nullcontext():
                result = self.work(**options)
        except DomainError as refused:
            raise CommandError(refused.detail) from refused
        except OperationalError as away:
            raise CommandError("The database does not answer. Is it running? `make run` starts it.") from away
        self.stdout.write(json.dumps(result, default=str) if options["json"] else self.words(result))

    def work(self, **options: Any) -> dict[str, Any]:
        raise NotImplementedError

    def words(self, result: dict[str, Any]) -> str:
        return "\n".join(f"{name}: {value}" for name, value in result.items())
