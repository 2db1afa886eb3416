"""reset_monthly_usage: open the months that have begun and say what the ended ones came to. Every hour by itself."""

import sys
from typing import Any

from accounts.models import Brand
from lib.commands import OperatorCommand
from lib.db import SERVICE, scope
from lib.money import dollars
from quotas import rolls
from quotas.models import Meter


class Command(OperatorCommand):
    help = (
        "Open the windows of the months that have begun, in each brand's zone or at each subscription's own day, and say "
        "what was used in those that ended. Nothing is set to zero: twice, late or never changes no balance. Exit code 1 "
        "if one could not be opened; the log says why."
    )
    scoped = False

    def roll(self) -> rolls.Rolled:
        return rolls.reset_monthly_usage()

    def work(self, **options: Any) -> dict[str, Any]:
        done = self.roll()
        with scope(SERVICE):
            slugs = dict(Brand.objects.values_list("pk", "slug"))
        self.failed = done.failed
        return {
            "opened": done.opened,
            "failed": done.failed,
            "ended": [
                {"brand": slugs[brand], "meter": meter, "windows": windows, "used": done.used[brand, meter]}
                for (brand, meter), windows in sorted(
                    done.windows.items(), key=lambda line: (slugs[line[0][0]], line[0][1])
                )
            ],
        }

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        if self.failed:
            sys.exit(1)

    def words(self, result: dict[str, Any]) -> str:
        lines = [f"{result['opened']:,} windows opened."]
        if result["failed"]:
            lines.append(f"{result['failed']:,} could not be opened: see the log. The next run tries them again.")
        for line in result["ended"]:
            used = f"{line['used']:,} {line['meter']}"
            if line["meter"] == Meter.OVERAGE_MICROUSD:
                used = dollars(line["used"])
            lines.append(f"{line['brand']}: {line['windows']:,} months ended with {used} used.")
        return "\n".join(lines)
