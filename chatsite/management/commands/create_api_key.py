"""create_api_key --brand act --user alice@example.com --scopes chat: make a key and print it, once."""

from typing import Any

from django.core.management.base import CommandParser

from accounts import keys
from accounts.people import brand_named, member_named
from events import activity
from lib.commands import OperatorCommand


class Command(OperatorCommand):
    help = "Make an API key for a member of a brand. The key is printed once and cannot be shown again."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        scopes = ", ".join([*keys.SCOPES, *keys.BRAND_SCOPES])
        parser.add_argument("--brand", required=True, help="slug of the brand: act")
        parser.add_argument("--user", required=True, help="e-mail address of a member")
        parser.add_argument("--scopes", default="chat", help=f"comma-separated: {scopes}")
        parser.add_argument("--name", default="made on the command line", help="what the key is for")

    def work(self, **options: Any) -> dict[str, Any]:
        brand = brand_named(options["brand"])
        user = member_named(brand, options["user"])
        scopes = [scope.strip() for scope in options["scopes"].split(",") if scope.strip()]
        key, text = keys.create(brand, user, name=options["name"], scopes=scopes)
        activity.record(
            brand.pk, "key.created", actor_id=None, resource=("api_key", key.pk), changes={"scopes": [None, scopes]}
        )
        return {"key": text, "prefix": key.key_prefix, "scopes": scopes, "brand": brand.slug, "user": user.email}

    def words(self, result: dict[str, Any]) -> str:
        return f"{result['key']}\nShown once: only its prefix and a hash are stored."
