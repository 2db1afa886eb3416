"""backfill_stripe_events: fetch from Stripe what it told while we were away, and act on everything that waits."""

from datetime import timedelta
from typing import Any

from django.core.management.base import CommandParser

from billing import applying, webhooks
from lib import clock
from lib.commands import OperatorCommand
from lib.errors import Invalid

KEPT_DAYS = 30  # by Stripe


class Command(OperatorCommand):
    help = (
        "After an outage longer than Stripe repeats its webhooks (three days): list Stripe's events, store those that never "
        "arrived, and act on all that wait. With --parked, what was set aside is tried again too. Safe to repeat."
    )
    scoped = False

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--days", type=int, default=4, help=f"how far back, at most {KEPT_DAYS}; default 4")
        parser.add_argument("--parked", action="store_true", help="also try again what a person had to look at")

    def work(self, **options: Any) -> dict[str, Any]:
        if not 0 < options["days"] <= KEPT_DAYS:
            raise Invalid(f"Stripe keeps its events for {KEPT_DAYS} days: give a number from 1 to {KEPT_DAYS}.")
        unparked = applying.unpark() if options["parked"] else 0
        found = webhooks.backfill(since=clock.now() - timedelta(days=options["days"]))
        acted_on = applying.apply_waiting(untouched=timedelta())
        waiting = {name: count for name, (count, _) in applying.troubles().items()}
        return {**found, "unparked": unparked, "acted_on": acted_on, **waiting}
