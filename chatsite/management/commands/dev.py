from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chatsite import dev
from lib.errors import DomainError


class Command(BaseCommand):
    help = "Run the whole product on this machine: databases, web, worker and beat. Ctrl-C stops everything."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        dev.add_arguments(parser)

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            dev.run(port=options["port"], reload=options["reload"])
        except DomainError as error:
            raise CommandError(error.detail) from error
