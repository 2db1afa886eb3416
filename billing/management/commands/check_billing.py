"""check_billing: name the subscriptions that our own changes left behind, and with --apply bring them along."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from accounts.models import User
from billing import left_behind
from billing.books import Provider
from lib.commands import OperatorCommand
from lib.db import SERVICE, scope


class Command(OperatorCommand):
    help = (
        "Name subscriptions of a payment service that is in use no more (the stand-in, or Stripe's test mode once the key is "
        "live), for which nobody collects money, and subscriptions whose plan allows overage and whose invoices do not count "
        "it yet. With --apply the first are ended, so that their members fall back and are told, and the others are given "
        "the meter, as happens every five minutes anyway. Safe to repeat. Exit code 1 when something is left to do."
    )
    scoped = False

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--apply", action="store_true", help="do it; without it nothing is changed")

    def work(self, **options: Any) -> dict[str, Any]:
        with scope(SERVICE):
            played, meterless = list(left_behind.of_another_service()), list(left_behind.without_meter())
            owners = [row.owner_id for row in (*played, *meterless)]
            names = dict(User.objects.filter(pk__in=owners).values_list("pk", "email"))
            told = [
                {
                    "brand": row.brand.slug,
                    "member": names.get(row.owner_id, str(row.owner_id)),
                    "plan": row.plan.code,
                    "provider": Provider(row.provider).label,
                    "subscription": row.provider_subscription_id,
                    "what": what,
                }
                for rows, what in ((played, "ends"), (meterless, "is given the meter"))
                for row in rows
            ]
        done = left_behind.Done()
        if options["apply"]:
            left_behind.end_those_of_another_service()
            done = left_behind.add_meter_lines()
        self.is_left = bool(done.failed) if options["apply"] else bool(told)
        return {"is_done": options["apply"], "subscriptions": told, "refused": sorted(done.reasons)}

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        if self.is_left:
            sys.exit(1)

    def words(self, result: dict[str, Any]) -> str:
        if not result["subscriptions"]:
            return "No subscription was left behind."
        lines = [
            f"{row['brand']:12} {row['member']:32} {row['plan']} at {row['provider']} ({row['subscription']}): {row['what']}"
            for row in result["subscriptions"]
        ]
        lines += [f"refused      {reason}" for reason in result["refused"]]
        if not result["is_done"]:
            lines.append("Nothing was changed. To do it: the same with --apply.")
        return "\n".join(lines)
