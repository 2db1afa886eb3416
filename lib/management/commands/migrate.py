"""`migrate` runs as the owner of the tables; no other log-in may change them."""

from typing import Any

from django.core.management.base import CommandError, CommandParser
from django.core.management.commands import migrate
from django.db import OperationalError, connections
from psycopg.errors import LockNotAvailable

PATIENCE_S = 2  # for a lock on a table: everybody who comes later stands in line behind it


class Command(migrate.Command):
    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(database="owner")

    def handle(self, *args: Any, **options: Any) -> None:
        """Give up a lock that is not had within PATIENCE_S, or within the lock_timeout that PGOPTIONS names."""
        connection = connections[options["database"]]
        with connection.cursor() as cursor:
            cursor.execute("select current_setting('lock_timeout')")
            (wanted,) = cursor.fetchone()
            if wanted == "0":
                cursor.execute("select set_config('lock_timeout', %s, false)", [f"{PATIENCE_S}s"])
        try:
            super().handle(*args, **options)
        except OperationalError as error:
            if not isinstance(error.__cause__, LockNotAvailable):
                raise
            raise CommandError(
                "Somebody works on a table that is to be changed, and everybody else would have had to wait behind this "
                "migration, so it gave up and changed nothing; those before it are done. Run the same again, best at a "
                "quieter hour: it goes on where it stopped. Who works for long: select pid, xact_start, query from "
                "pg_stat_activity order by xact_start. To wait longer all the same: PGOPTIONS='-c lock_timeout=10s'."
            ) from error
        finally:
            if wanted == "0" and connection.connection is not None and not connection.connection.closed:
                with connection.cursor() as cursor:
                    cursor.execute("reset lock_timeout")
