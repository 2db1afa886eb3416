"""reencrypt_keys: seal with the first key of ENCRYPTION_KEYS what an older one has sealed, so that that can be dropped."""

import sys
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandParser

from lib.commands import OperatorCommand
from providers import resealing


class Command(OperatorCommand):
    help = (
        "Seal members' own keys, webhooks' secrets and second steps anew with the first key of ENCRYPTION_KEYS. Safe while "
        "everything runs, and to be repeated: "
        "a run that was cut off goes on where it stopped. Exit code 1 while keys are left that another one has sealed: run "
        "it again, and see docs/own-keys.md for those that cannot be read."
    )
    scoped = False

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--at-a-time", type=int, default=resealing.AT_A_TIME, help="rows in one transaction (100)")

    def work(self, **options: Any) -> dict[str, Any]:
        self.done = resealing.reseal(at_a_time=max(1, options["at_a_time"]))
        return asdict(self.done)

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        if self.done.left:
            sys.exit(1)

    def words(self, result: dict[str, Any]) -> str:
        lines = [f"Sealed {result['resealed']:,} keys anew with {result['sealed_with']}."]
        if result["changed_meanwhile"]:
            lines.append(
                f"{result['changed_meanwhile']:,} were changed by their members meanwhile, and left as they are."
            )
        if result["unreadable"]:
            lines.append(
                f"{len(result['unreadable']):,} cannot be opened: what sealed them is not in ENCRYPTION_KEYS, or they "
                "were changed by hand. Rows of providers_providerkey and events_webhookendpoint: "
                f"{', '.join(result['unreadable'][:20])}"
            )
        for key_id, rows in result["left"].items():
            lines.append(f"{rows:,} are still sealed with {key_id}.")
        if not result["left"]:
            lines.append(f"Every key is sealed with {result['sealed_with']}: older ones may leave ENCRYPTION_KEYS.")
        return "\n".join(lines)
