"""advance_subscriptions: write down what time alone has decided of subscriptions. Every five minutes by itself."""

import sys
from typing import Any

from billing import lifecycle
from lib.commands import OperatorCommand


class Command(OperatorCommand):
    help = (
        "End trials and agreements that nobody collects money for, and the grace of what was not paid, each at its own "
        "instant: late or twice changes nothing. Stripe is not asked. Exit code 1 if one could not go on."
    )
    scoped = False

    def work(self, **options: Any) -> dict[str, Any]:
        self.done = lifecycle.advance()
        return self.done

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        if self.done["failed"]:
            sys.exit(1)

    def words(self, result: dict[str, Any]) -> str:
        said = f"Ended: {result['trial_ended']} trials, {result['cancelled']} agreements, {result['lapsed']} graces."
        return said + (f" {result['failed']} could not go on: see the log." if result["failed"] else "")
