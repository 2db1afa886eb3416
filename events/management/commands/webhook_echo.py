from argparse import ArgumentParser
from typing import Any

from aiohttp import web
from django.conf import settings
from django.core.management.base import BaseCommand

from events.webhooks.echo import Echo


class Command(BaseCommand):
    help = "Listen here for webhooks, and show at http://127.0.0.1:PORT/ what came and whether its signature holds."
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--port", type=int, default=settings.WEBHOOK_ECHO_PORT or 8100)
        parser.add_argument(
            "--secret", action="append", default=[], help="a signing secret to check with; may be repeated"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        web.run_app(Echo(options["secret"]).app(), host="127.0.0.1", port=options["port"], print=None, access_log=None)
