"""reset_monthly_overages: the same as reset_monthly_usage, of what was charged beyond the plan."""

from quotas import rolls
from quotas.management.commands import reset_monthly_usage


class Command(reset_monthly_usage.Command):
    help = (
        "Open the months of overage that have begun, and say what was charged in those that ended. "
        "Nothing is set to zero: twice, late or never changes no balance. Exit code 1 if one could not be opened."
    )

    def roll(self) -> rolls.Rolled:
        return rolls.reset_monthly_overages()
