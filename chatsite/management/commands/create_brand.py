"""create_brand --slug acme --name Acme --domain chat.acme.com --owner ann@acme.com: a brand that people can use at once."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import CommandParser

from accounts.models import Brand, Membership, User
from billing.models import Plan
from billing.plans import assign_plan, catalogue_names, install_catalogue
from chatsite.admin import HOST
from chatsite.members.joining import join
from events import activity
from lib.commands import OperatorCommand
from lib.errors import Invalid, NotFound


class Command(OperatorCommand):
    help = (
        "Make a brand with its owner, plans for members (new ones get the catalogue's first, mostly `free`) and the pool of "
        "tokens that they share. "
        "Its look and all else is changed in /admin/."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--slug", required=True, help="short name for commands: acme")
        parser.add_argument("--name", required=True, help="the name people see")
        parser.add_argument("--domain", required=True, help="host name without port: chat.acme.com")
        parser.add_argument("--zone", default="UTC", help="where its days and months begin: Europe/Amsterdam")
        parser.add_argument(
            "--catalogue", default="s1", choices=catalogue_names(), help="the plans its members choose from"
        )
        parser.add_argument("--owner", default="", help="e-mail address of somebody with an account (createsuperuser)")

    def work(self, **options: Any) -> dict[str, Any]:
        owner = User.objects.filter(email=options["owner"].lower()).first() if options["owner"] else None
        if options["owner"] and owner is None:
            raise NotFound(f"Nobody has the address {options['owner']}. Sign up first, or: manage.py createsuperuser")
        brand = Brand(
            slug=options["slug"], name=options["name"], domain=options["domain"].lower(), zone=options["zone"]
        )
        try:
            HOST(brand.domain)
            brand.full_clean()
        except ValidationError as error:
            raise Invalid(" ".join(error.messages)) from error
        brand.save()
        for catalogue in dict.fromkeys((options["catalogue"], "s0")):  # the first names what new members get
            install_catalogue(brand, catalogue)
        assign_plan(brand, Plan.objects.get(brand=brand, code="pool"))
        activity.record(brand.pk, "brand.added", actor_id=None, resource=("brand", brand.pk))
        if owner:
            join(brand, owner, role=Membership.Role.OWNER)
        return {"id": brand.pk, "slug": brand.slug, "domain": brand.domain, "owner": owner and owner.email}

    def words(self, result: dict[str, Any]) -> str:
        return (
            f"{result['slug']} lives at https://{result['domain']}/ once ALLOWED_HOSTS and the proxy know that name. "
            "Offer it a model with add_provider, if there is none."
        )
