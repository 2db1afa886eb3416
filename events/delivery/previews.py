"""Every mail there is, as its reader would see it, written with made-up data: to look at, and for a test that misses none."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.conf import settings
from django.template.utils import get_app_template_dirs
from django.utils.translation import override

from accounts import brands
from accounts.models import Brand
from events.postman import in_the_brands_look, rendered

FOLDERS = ("mail", "account/email", "mfa/email", "socialaccount/email")
END = "_message.txt"
FRAMES = {"base", "base_notification"}  # what others are made of


@dataclass(frozen=True, slots=True)
class Preview:
    template: str
    language: str
    subject: str
    text: str
    html: str


def templates() -> list[str]:
    """The paths of all mails without their ends: those of ours, and those of what we build on."""
    roots = [settings.BASE_DIR / "templates", *map(Path, get_app_template_dirs("templates"))]
    found = {
        f"{folder}/{path.name.removesuffix(END)}"
        for root in roots
        for folder in FOLDERS
        for path in (root / folder).glob(f"*{END}")
    }
    return sorted(path for path in found if path.rpartition("/")[2] not in FRAMES)


def previews(brand: Brand, language: str) -> Iterator[Preview]:
    data = _made_up(brand)
    with override(language):
        for template in templates():
            subject = " ".join(rendered(f"{template}_subject.txt", brand, data).split())
            text = rendered(f"{template}{END}", brand, data)
            yield Preview(template, language, subject, text, in_the_brands_look(text, brand, language))


def _made_up(brand: Brand) -> dict[str, Any]:
    def link(path: str) -> str:
        return brands.address(brand, path)

    return {
        "title": "80 % of your questions used",
        "message": "12 of 15 questions are used. They start anew on 1 December at 00:00.",
        "path": "/settings/plan/",
        "action_label": "Plan and usage",
        "stop_link": link("/mail/stop/made-up/"),
        "items": [
            {"title": "12 new leads", "message": "The last one: Ada Lovelace"},
            {"title": "Your export is ready", "message": "40 chats are ready."},
        ],
        "more": 3,
        "total": 5,
        "days": 7,
        "name": "mails_unsent",
        "is_true": True,
        "value": "3",
        "detail": "Mails of the last day that did not leave.",
        "email": "ada@example.com",
        "from_email": "ada@example.com",
        "to_email": "ada@example.org",
        "deleted_email": "ada@example.com",
        "activate_url": link("/account/confirm-email/made-up/"),
        "password_reset_url": link("/account/password/reset/key/made-up/"),
        "signup_url": link("/account/signup/"),
        "login_url": link("/account/login/"),
        "code": "MADE-UP",
        "key": "MADE-UP",
        "inviter": "Ada Lovelace",
        "invitation_url": link("/invitation/made-up/"),
        "provider": "GitHub",
        "ip": "192.0.2.7",
        "user_agent": "Firefox on Linux",
    }
