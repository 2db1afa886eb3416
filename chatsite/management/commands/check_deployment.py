import json
import sys
from argparse import ArgumentParser
from dataclasses import asdict
from typing import Any

from django.core.management.base import BaseCommand

from chatsite import deployment


class Command(BaseCommand):
    help = (
        "Look at this deployment as it is now - settings, database, queue, worker, files, disks, backups - and say what is "
        "wrong, what that does, and what to do. Changes nothing. Exit code 1 when there is an error; warnings alone give 0."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--json", action="store_true", help="print the findings as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        found = deployment.findings()
        errors = sum(finding.level == "error" for finding in found)
        if options["json"]:
            self.stdout.write(json.dumps({"ok": not errors, "findings": [asdict(finding) for finding in found]}))
        else:
            for finding in found:
                style = self.style.ERROR if finding.level == "error" else self.style.WARNING
                self.stdout.write(f"{style(f'{finding.level:7}')} {finding.topic}: {finding.cause}")
                self.stdout.write(f"        {finding.effect}")
                self.stdout.write(f"        -> {finding.remedy}\n")
            count = f"{len(deployment.CHECKS)} things were looked at: {errors} errors, {len(found) - errors} warnings."
            self.stdout.write(self.style.ERROR(count) if errors else self.style.SUCCESS(count))
        if errors:
            sys.exit(1)
