"""stripe_sync: make Stripe's products, prices and meter what the plans and packs of each brand are; --apply does it."""

import sys
from typing import Any

from django.core.management.base import CommandParser

from accounts.models import Brand
from billing import price_list
from billing.asking import provider, stripe
from lib.commands import OperatorCommand
from lib.db import SERVICE, scope
from lib.errors import DomainError, NotFound


class Command(OperatorCommand):
    help = (
        "Say what Stripe's prices would have to become, for one brand or all: kept, made, repriced. With --apply it is done. "
        "A price is never changed there: another sum is another price, to which the lookup key moves, and whoever "
        "subscribed stays on the one of that day. Safe to repeat. Exit code 1 when a brand cannot be sold for."
    )
    scoped = False

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--brand", help="slug of the brand: act; all active ones without it")
        parser.add_argument("--apply", action="store_true", help="do it; without it nothing is changed")

    def work(self, **options: Any) -> dict[str, Any]:
        stripe()  # refuses where there is neither a key nor the stand-in
        with scope(SERVICE):
            brands = list(Brand.objects.filter(is_active=True).order_by("slug"))
        if options["brand"] and not (brands := [brand for brand in brands if brand.slug == options["brand"]]):
            raise NotFound(f"There is no active brand {options['brand']}.")
        steps: list[price_list.Step] = []
        self.refused: list[str] = []
        for brand in brands:
            try:
                steps += price_list.sync(brand, apply=options["apply"])
            except DomainError as error:
                self.refused.append(f"{brand.slug}: {error.detail}")
        return {
            "provider": provider().value,
            "is_done": options["apply"],
            "steps": [{"key": step.key, "did": step.did, "price": step.detail} for step in steps],
            "refused": self.refused,
        }

    def handle(self, *args: Any, **options: Any) -> None:
        super().handle(*args, **options)
        if self.refused:
            sys.exit(1)

    def words(self, result: dict[str, Any]) -> str:
        lines = [f"{step['did']:8} {step['key']:40} {step['price']}" for step in result["steps"]]
        lines += [f"refused  {line}" for line in result["refused"]]
        if not result["is_done"]:
            lines.append("Nothing was changed. To do it: the same with --apply.")
        return "\n".join(lines)
