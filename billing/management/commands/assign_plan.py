"""assign_plan --brand act --user bob@example.com --plan basic: put a member, or the brand itself, on a plan."""

from typing import Any

from django.core.management.base import CommandParser

from accounts.people import brand_named, member_named
from billing.models import Plan
from billing.plans import assign_plan, install_catalogue
from events import activity
from lib.commands import OperatorCommand
from lib.errors import NotFound


class Command(OperatorCommand):
    help = "Put a member on a plan, or without --user the brand itself. What the window has used so far is kept."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--brand", required=True, help="slug of the brand: act")
        parser.add_argument("--user", default="", help="e-mail address of a member; without it, the brand as a whole")
        parser.add_argument("--plan", required=True, help="code of the plan: basic")
        parser.add_argument(
            "--catalogue", default="", help="first give the brand the plans of this catalogue: s0 ... s3"
        )
        parser.add_argument(
            "--trial", action="store_true", help="for the plan's trial days only, then the default plan"
        )

    def work(self, **options: Any) -> dict[str, Any]:
        brand = brand_named(options["brand"])
        if options["catalogue"]:
            install_catalogue(brand, options["catalogue"])
        plan = Plan.objects.filter(brand=brand, code=options["plan"]).first()
        if plan is None:
            codes = (
                ", ".join(Plan.objects.filter(brand=brand).values_list("code", flat=True)) or "none: add --catalogue"
            )
            raise NotFound(f"{brand.name} has no plan {options['plan']}. There are: {codes}.")
        user = member_named(brand, options["user"]) if options["user"] else None
        subscription = assign_plan(brand, plan, user_id=user.pk if user else None, on_trial=options["trial"])
        activity.record(
            brand.pk,
            "plan.assigned",
            actor_id=None,
            resource=("user", user.pk) if user else ("brand", brand.pk),
            changes={"plan": plan.code, "on_trial": options["trial"]},
        )
        return {
            "brand": brand.slug,
            "user": user.email if user else None,
            "plan": plan.code,
            "since": subscription.started_at,
            "trial_ends_at": subscription.trial_ends_at,
            "limits": [str(limit) for limit in plan.limits.order_by("meter")],
        }

    def words(self, result: dict[str, Any]) -> str:
        who = result["user"] or f"The brand {result['brand']}"
        trial = f" until {result['trial_ends_at']:%Y-%m-%d %H:%M} UTC" if result["trial_ends_at"] else ""
        return f"{who} is on {result['plan']}{trial}: {', '.join(result['limits']) or 'no limits'}."
