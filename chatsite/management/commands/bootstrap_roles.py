import json
import os
from argparse import ArgumentParser
from typing import Any
from urllib.parse import unquote, urlsplit

import psycopg
from django.core.management.base import BaseCommand, CommandError

from chatsite import roles
from lib.errors import DomainError


class Command(BaseCommand):
    help = (
        "Make the database's roles, log-ins and memberships on a server of your own, and print the URLs to set. "
        "Passwords already in DATABASE_URL, DATABASE_SERVICE_URL and DATABASE_OWNER_URL are kept. Safe to repeat."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "--admin-url", required=True, help="postgres://... of a superuser, or createrole + createdb"
        )
        parser.add_argument("--database", default="", help="default: the one in --admin-url, else chat")
        parser.add_argument("--development", action="store_true", help="tester, and test databases for owner")
        parser.add_argument("--json", action="store_true")

    def handle(self, *args: Any, **options: Any) -> None:
        if not options["admin_url"]:
            raise CommandError("Give --admin-url, or set DATABASE_ADMIN_URL.")
        try:
            urls = roles.bootstrap(
                options["admin_url"],
                database=options["database"],
                passwords=_passwords_given(),
                development=options["development"],
            )
        except DomainError as error:
            raise CommandError(error.detail) from error
        except psycopg.Error as error:
            raise CommandError(f"The server refused: {error}") from error
        if options["json"]:
            self.stdout.write(json.dumps(urls))
        else:
            self.stdout.write("".join(f"{name}={url}\n" for name, url in urls.items()), ending="")


def _passwords_given() -> dict[str, str]:
    found = {}
    for login, variable in roles.URL_NAMES.items():
        parts = urlsplit(os.environ.get(variable, ""))
        if parts.username == login and parts.password:
            found[login] = unquote(parts.password)
    return found
