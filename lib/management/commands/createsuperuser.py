"""`createsuperuser` works as the service; the log-in of the web may not make staff."""

from django.contrib.auth.management.commands import createsuperuser
from django.core.management.base import CommandParser


class Command(createsuperuser.Command):
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database="service")
