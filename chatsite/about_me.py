"""What every room knows of one person on one brand, for "Download all my data" (O-17): own rows, as they stand.

In no case a secret: of API keys the prefix, of own keys the last four characters, of links when they were made.
"""

from collections.abc import Iterator, Sequence
from typing import Any

from accounts.models import ApiKey, Brand, Membership, Profile, User
from billing.books import BillingTransaction
from billing.models import Subscription, SubscriptionHistory
from conversations.chats.export.packing import Document, as_json
from conversations.models import Attachment, Export, Feedback, PendingMessage, Share, Template
from events.models import NoticePreference, Notification
from lib import clock
from lib.db import SERVICE, Principal, scope
from lib.money import dollars
from providers.models import ProviderKey
from quotas.models import Pack, UsageLog

HIDDEN = {
    *("brand", "owner_id", "user", "secret", "key_id", "key_hash", "token_hash", "snapshot", "content", "once"),
    *("chats", "parts", "file_key"),
}
MINE: dict[str, dict[str, Any]] = {  # by the column that names the person
    "owner_id": {
        "templates": Template, "files_waiting": Attachment, "questions_waiting": PendingMessage, "ratings": Feedback,
        "shared_links": Share, "exports": Export, "own_keys": ProviderKey, "usage": UsageLog, "packs": Pack,
        "subscriptions": Subscription, "subscription_history": SubscriptionHistory, "invoices": BillingTransaction,
        "notifications": Notification, "notice_preferences": NoticePreference,
    },
    "user_id": {"memberships": Membership, "api_keys": ApiKey},
}  # fmt: skip


def about_me(principal: Principal, brand: Brand) -> Iterator[Document]:
    """`about-me.json`, and the same to be read in `about-me.md`. Opens the person's own scope."""
    with scope(SERVICE):  # who signs in is no row of a brand
        account = User.objects.values("id", "email", "date_joined").get(pk=principal.owner_id)
    found: dict[str, Any] = {"format": "chatsite-about-me", "version": 1, "brand": brand.name, "account": account}
    with scope(principal):
        found["profile"] = Profile.objects.filter(user_id=principal.owner_id).values().first()
        for column, models in MINE.items():
            for name, model in models.items():
                rows: Any = model._default_manager.filter(
                    **{"brand_id": principal.brand_id, column: principal.owner_id}
                )
                shown = [field.attname for field in model._meta.concrete_fields if field.name not in HIDDEN]
                found[name] = list(rows.order_by("pk").values(*shown))
    if found["profile"]:
        found["profile"].pop("avatar_key", None)
    now = clock.now()
    yield "about-me.json", now, as_json(found)
    yield "about-me.md", now, _as_markdown(found).encode()


def _as_markdown(found: dict[str, Any]) -> str:
    lines = [f"# {found['account']['email']} at {found['brand']}", ""]
    for name, value in found.items():
        rows: Sequence[dict[str, Any]] = (
            value if isinstance(value, list) else [value] if isinstance(value, dict) else []
        )
        if rows:
            lines += [f"## {name.replace('_', ' ').capitalize()}", ""]
        for row in rows:
            told = {key: each for key, each in row.items() if each not in (None, "", [], {})}
            said = [f"{_plain(key)}: {_plain(_said(key, each))}" for key, each in told.items()]
            lines += [f"- {'; '.join(said)}"]
        lines += [""] if rows else []
    return "\n".join(lines)


def _said(name: str, value: Any) -> str:
    return f"{dollars(value)} USD" if name.endswith("_microusd") else str(value)


def _plain(text: str) -> str:
    """One line, in which nothing is markup."""
    return "".join(f"\\{letter}" if letter in "\\`*_[]<>#|" else letter for letter in " ".join(text.split()))
