"""top_up --brand act --meter tokens --amount 500000 --reason "goodwill": raise a brand's limit in its open window."""

from typing import Any

from django.core.management.base import CommandParser

from accounts.people import brand_named
from events import activity
from lib.commands import OperatorCommand
from quotas import ledger
from quotas.models import Meter

ALSO_CALLED = {"prompt_tokens": Meter.TOKENS.value}  # S0's name


class Command(OperatorCommand):
    help = (
        "Add to what a brand may use in the window that is open now. It ends with that window and stands in the ledger."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--brand", required=True, help="slug of the brand: act")
        parser.add_argument("--meter", required=True, choices=[*Meter.values, *ALSO_CALLED])
        parser.add_argument("--amount", required=True, type=int, help="units of the meter to add, above 0")
        parser.add_argument("--reason", required=True, help="why: it stands in the ledger for good")

    def work(self, **options: Any) -> dict[str, Any]:
        brand = brand_named(options["brand"])
        meter = ALSO_CALLED.get(options["meter"], options["meter"])
        bucket = ledger.top_up(brand, meter=meter, amount=options["amount"], reason=options["reason"])
        activity.record(
            brand.pk,
            "bucket.topped_up",
            actor_id=None,
            resource=("bucket", bucket.pk),
            description=options["reason"],
            changes={meter: [bucket.limit - options["amount"], bucket.limit]},
        )
        return {
            "brand": brand.slug,
            "meter": meter,
            "added": options["amount"],
            "limit": bucket.limit,
            "used": bucket.used,
            "held": bucket.held,
            "left": bucket.left,
            "until": bucket.closes_at,
        }

    def words(self, result: dict[str, Any]) -> str:
        until = f"until {result['until']:%Y-%m-%d %H:%M} UTC" if result["until"] else "for good"
        return (
            f"{result['added']:,} {result['meter']} added for {result['brand']}: "
            f"{result['left']:,} of {result['limit']:,} are left, {until}."
        )
