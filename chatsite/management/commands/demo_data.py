"""demo_data: two brands with members, plans, prompts, models and a few chats. Safe to repeat; changes nothing that is there.

With OPENAI_API_KEY or ANTHROPIC_API_KEY in the environment the vendor's models are offered first; without, the demo model.
"""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import CommandParser

from accounts import keys
from accounts.models import ApiKey, Brand, Membership, Profile, User
from billing import telling
from billing.models import Plan, Subscription
from billing.plans import assign_plan, compare_catalogue, install_catalogue
from conversations.models import BrandTemplate, Conversation, Message
from events.reading import begin_now
from lib import clock
from lib.commands import OperatorCommand
from lib.errors import Forbidden
from lib.ids import uuid7
from providers.models import AIProvider, Price, SystemPrompt

PASSWORD = "demo-password"  # noqa: S105 - printed by `make run`; production refuses to make these people
DATA = Path(__file__).resolve().parents[2] / "demo.json"


class Command(OperatorCommand):
    help = "Make the demo brands act and globex with their people. Log-ins have the password demo-password."

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.add_argument("--force", action="store_true", help="also outside development")

    def work(self, **options: Any) -> dict[str, Any]:
        if not (settings.DEVELOPMENT or options["force"]):
            raise Forbidden("This is not a development installation: people with a known password do not belong here.")
        data = json.loads(DATA.read_text())
        self.offer_models(data["models"])
        people = {row["email"]: self.person(row) for row in data["people"]}
        for row in data["brands"]:
            brand = self.brand(row)
            for member in row["members"]:
                self.member(brand, people[member["email"]], member)
        begin_now(telling.READER)  # nobody is mailed of the plan that this gave them
        act = Brand.objects.get(slug=data["brands"][0]["slug"])
        owner = people[data["brands"][0]["members"][0]["email"]]
        return {
            "api_key": self.key(act, owner),
            "address_hosts": [row["slug"] + ".localhost" for row in data["brands"]],
            "logins": [{**row["shown"], "email": row["email"], "password": PASSWORD} for row in data["people"]],
            "model": AIProvider.objects.filter(is_active=True, kind="chat").first().api_identifier,  # type: ignore[union-attr]
        }

    def words(self, result: dict[str, Any]) -> str:
        people = "\n".join(f"{row['email']}: {row['is']}" for row in result["logins"])
        return f"{people}\nPassword of all: {PASSWORD}\nAPI key: {result['api_key']}"

    def offer_models(self, rows: list[dict[str, Any]]) -> None:
        for row in rows:
            needed = row.pop("needs", "")
            if needed and not getattr(settings, needed):
                AIProvider.objects.filter(api_identifier=row["api_identifier"]).update(is_active=False)
                continue
            price = row.pop("price")
            provider, is_new = AIProvider.objects.get_or_create(api_identifier=row["api_identifier"], defaults=row)
            if is_new:
                Price.objects.create(provider=provider, starts_at=datetime(2026, 1, 1, tzinfo=UTC), **price)
            elif needed and not provider.is_active:
                AIProvider.objects.filter(pk=provider.pk).update(is_active=True)

    def person(self, row: dict[str, Any]) -> User:
        user = User.objects.filter(email=row["email"]).first()
        if user is None:
            user = User.objects.create_user(row["email"], PASSWORD, **row.get("flags", {}))
            Profile.objects.create(user=user, full_name=row["full_name"])
        return user

    def brand(self, row: dict[str, Any]) -> Brand:
        brand, is_new = Brand.objects.get_or_create(
            slug=row["slug"], defaults={**row["look"], "domain": f"{row['slug']}.localhost"}
        )
        for catalogue in row["catalogues"]:
            found = compare_catalogue(brand, catalogue)
            if is_new or not (found.new or found.mixed):  # a brand that sells otherwise goes on as it does
                install_catalogue(brand, catalogue)
        if not Subscription.objects.filter(brand=brand, owner_id=brand.pk).exists():
            assign_plan(brand, Plan.objects.get(brand=brand, code="pool"))
        for position, prompt in enumerate(row["prompts"]):
            SystemPrompt.objects.get_or_create(
                brand=brand, name=prompt["name"], defaults={**prompt, "position": position * 10}
            )
        for position, template in enumerate(row.get("templates", [])):
            BrandTemplate.objects.get_or_create(
                brand=brand, title=template["title"], defaults={**template, "position": position * 10}
            )
        return brand

    def member(self, brand: Brand, user: User, row: dict[str, Any]) -> None:
        _, is_new = Membership.objects.get_or_create(brand=brand, user=user, defaults={"role": row["role"]})
        if not is_new:
            return
        plan = Plan.objects.get(brand=brand, code=row["plan"])
        assign_plan(brand, plan, user_id=user.pk, on_trial=row.get("on_trial", False))
        now = clock.now()
        for chat in row.get("chats", []):
            self.chat(brand, user, chat, now - timedelta(hours=chat["hours_ago"]))

    def chat(self, brand: Brand, user: User, row: dict[str, Any], at: datetime) -> None:
        conversation = Conversation.objects.create(
            brand=brand,
            owner_id=user.pk,
            title=row["title"],
            last_message_at=at,
            pinned_at=at if row.get("is_pinned") else None,
            message_count=len(row["said"]),
            model="demo",
        )
        before = None
        for number, text in enumerate(row["said"]):
            message = Message.objects.create(
                id=uuid7(),
                brand=brand,
                owner_id=user.pk,
                conversation=conversation,
                parent_id=before,
                role="assistant" if number % 2 else "user",
                content=text,
                model="demo" if number % 2 else "",
                model_name="Demo" if number % 2 else "",
            )
            before = message.pk

    def key(self, brand: Brand, user: User) -> str:
        """One key, kept in var/ for as long as it is in force, so that a second run prints the same one."""
        kept = Path(settings.VAR_DIR) / "run" / "demo-api-key"
        if kept.is_file():
            text = kept.read_text().strip()
            if ApiKey.objects.filter(key_hash=keys.digest(text), is_active=True).exists():
                return text
        _, text = keys.create(brand, user, name="demo", scopes=["chat", "conversations:read"])
        kept.parent.mkdir(parents=True, exist_ok=True)
        kept.touch(mode=0o600)
        kept.write_text(text)
        return text
