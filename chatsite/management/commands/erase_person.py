"""erase_person ann@example.com --yes: delete somebody's account and all they wrote, on every brand."""

from typing import Any

from django.core.management.base import CommandParser

from accounts.models import User
from chatsite import erasing
from lib.commands import OperatorCommand
from lib.db import SERVICE, scope
from lib.errors import Invalid, NotFound


class Command(OperatorCommand):
    help = (
        "Erase a person: content, profile, keys, sessions and memberships go, usage and invoices stay without a name. A plan "
        "that renews is ended at Stripe first. It cannot be undone; backups keep what they have until they are deleted."
    )
    scoped = False  # it talks to Stripe first

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("email", help="the address of the account")
        parser.add_argument("--yes", action="store_true", help="do it; without, only say whether it could be done")

    def work(self, **options: Any) -> dict[str, Any]:
        with scope(SERVICE):
            user = User.objects.filter(email=options["email"].lower()).first()
        if user is None:
            raise NotFound(f"Nobody has the address {options['email']}.")
        erasing.check(user)
        if not options["yes"]:
            raise Invalid("It could be done. Say --yes to do it: nobody can bring it back.")
        erased = erasing.erase(user)
        return {"erased": str(user.pk), "rows": erased.rows, "files": erased.files}
