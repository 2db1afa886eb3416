"""install_catalogue --brand act --catalogue s3: give a brand the plans and packs of a catalogue; --apply does it."""

from typing import Any

from django.core.management.base import CommandParser

from accounts.people import brand_named
from billing.plans import MixedUnits, catalogue_names, compare_catalogue, install_catalogue
from events import activity
from lib.commands import OperatorCommand


class Command(OperatorCommand):
    help = (
        "Give a brand the plans and packs of a catalogue. Without --apply it says what would be made. What the brand has "
        "under the same code stays as it is; what counts in another unit there is refused. Catalogues: "
        + "; ".join(f"{code} ({name})" for code, name in catalogue_names().items())
        + "."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--brand", required=True, help="slug of the brand: act")
        parser.add_argument("--catalogue", required=True, help="s0, s1, s2 or s3")
        parser.add_argument("--apply", action="store_true", help="make them; without it nothing is changed")

    def work(self, **options: Any) -> dict[str, Any]:
        brand = brand_named(options["brand"])
        found = compare_catalogue(brand, options["catalogue"])
        if found.mixed:
            raise MixedUnits(brand, found)
        if options["apply"]:
            install_catalogue(brand, options["catalogue"])
            activity.record(
                brand.pk,
                "catalogue.given",
                actor_id=None,
                resource=("brand", brand.pk),
                changes={"catalogue": options["catalogue"]},
            )
        return {
            "brand": brand.slug,
            "catalogue": options["catalogue"],
            "is_done": options["apply"],
            "plans": [plan.code for plan in found.new],
            "packs": [offer.code for offer in found.new_packs],
            "kept": [plan.code for plan in found.kept] + [offer.code for offer in found.kept_packs],
            "default_plan": found.default_plan or brand.default_plan,
        }

    def words(self, result: dict[str, Any]) -> str:
        lines = [
            f"{verb}: {', '.join(result[key]) or 'none'}"
            for key, verb in (("plans", "New plans"), ("packs", "New packs"), ("kept", "Kept as they are"))
        ]
        lines.append(f"New members get: {result['default_plan']}")
        if not result["is_done"]:
            lines.append("Nothing was changed. To make them: the same with --apply.")
        return "\n".join(lines)
