"""What can be seen from the settings alone."""

import socket
from collections.abc import Iterator
from pathlib import Path

from django.conf import settings
from django.core.checks import WARNING, run_checks

from chatsite.deployment.finding import Finding
from events.delivery.providers import PROVIDERS

SMTP = "django.core.mail.backends.smtp.EmailBackend"
NO_MAIL = "Sign-up, invitations and forgotten passwords wait for a mail that never comes."


def development() -> Iterator[Finding]:
    if settings.DEVELOPMENT:
        yield Finding(
            "error",
            "configuration",
            "DEVELOPMENT is on.",
            "Cookies travel over plain http, and addresses are believed without a mail.",
            "Take DEVELOPMENT out of the environment, and var/run/env off this machine.",
        )


def django() -> Iterator[Finding]:
    """Django's own `check --deploy`: DEBUG, SECRET_KEY, ALLOWED_HOSTS, cookies, transport security."""
    for message in run_checks(include_deployment_checks=True):
        if message.level >= WARNING and not message.is_silenced():
            told, _, more = str(message.msg).partition(". ")
            yield Finding(
                "error",
                "configuration",
                f"{told.rstrip('.')}.",
                more or "Django will not call this deployment safe.",
                message.hint or f"docs/configuration.md; Django's documentation on {message.id}.",
            )


def proxy() -> Iterator[Finding]:
    if not settings.BEHIND_PROXY and not settings.DEVELOPMENT:
        yield Finding(
            "error",
            "configuration",
            "BEHIND_PROXY is off, and a web process speaks plain http only.",
            "Every request looks like plain http, so every page is redirected to itself for ever.",
            "Set BEHIND_PROXY=1, with a proxy in front that sets X-Forwarded-Proto and X-Forwarded-For (deploy/nginx/).",
        )


def mail() -> Iterator[Finding]:
    if settings.EMAIL_PROVIDER and settings.EMAIL_PROVIDER not in PROVIDERS:
        yield Finding(
            "error",
            "mail",
            f"EMAIL_PROVIDER is {settings.EMAIL_PROVIDER}.",
            NO_MAIL,
            f"Set it to one of {', '.join(PROVIDERS)}, or take it out and set EMAIL_URL.",
        )
    elif settings.EMAIL_PROVIDER and not settings.EMAIL_WEBHOOK_SECRET:
        yield Finding(
            "warning",
            "mail",
            "EMAIL_WEBHOOK_SECRET is not set.",
            "Nobody learns which mails arrived, and what bounces is written to again and again.",
            "Set it as docs/mail.md says, and give the provider the address for its reports.",
        )
    if settings.EMAIL_BACKEND != SMTP:
        if settings.EMAIL_BACKEND.startswith("django.core.mail.backends."):
            yield Finding(
                "error",
                "mail",
                f"EMAIL_BACKEND is {settings.EMAIL_BACKEND}.",
                NO_MAIL,
                "Take EMAIL_BACKEND out of the environment and set EMAIL_URL.",
            )
        return
    if not settings.ADMINS:
        yield Finding(
            "warning",
            "mail",
            "ADMINS is empty.",
            "Nobody hears when answers are lost, balances drift or the queue piles up.",
            "Set ADMINS to the addresses of whoever looks after this deployment.",
        )
    if settings.DEFAULT_FROM_EMAIL.rstrip(">").endswith("@localhost"):
        yield Finding(
            "warning",
            "mail",
            f"The sender is {settings.DEFAULT_FROM_EMAIL}.",
            "Other servers throw such mail away.",
            "Set DEFAULT_FROM_EMAIL to an address of your own domain.",
        )
    try:
        socket.create_connection((settings.EMAIL_HOST, settings.EMAIL_PORT), timeout=5).close()
    except OSError as error:
        yield Finding(
            "error",
            "mail",
            f"The mail server {settings.EMAIL_HOST}:{settings.EMAIL_PORT} does not answer ({error}).",
            NO_MAIL,
            "Check EMAIL_URL, and that this machine may reach that port.",
        )


def stand_in() -> Iterator[Finding]:
    if settings.STRIPE_STAND_IN and not settings.DEVELOPMENT:
        yield Finding(
            "warning",
            "payments",
            "STRIPE_STAND_IN is on.",
            "Plans and packs are sold at a page on which no money moves: everybody may have everything for nothing.",
            "Set STRIPE_SECRET_KEY and STRIPE_WEBHOOK_SECRET, and take STRIPE_STAND_IN out of the environment.",
        )


def sealing() -> Iterator[Finding]:
    if not settings.ENCRYPTION_KEYS:
        yield Finding(
            "error",
            "own keys",
            "ENCRYPTION_KEYS is not set.",
            "No member can store a key of their own, those stored before cannot be opened, and second steps are stored open.",
            "Set ENCRYPTION_KEYS to a name, a colon and the output of `openssl rand -hex 32` (docs/own-keys.md).",
        )


def static_files() -> Iterator[Finding]:
    manifest = Path(settings.STATIC_ROOT) / "staticfiles.json"
    if not settings.DEVELOPMENT and not manifest.is_file():
        yield Finding(
            "error",
            "static files",
            f"{manifest} is not there.",
            "No page can be drawn: each asks that file for the names of its style sheets.",
            "manage.py collectstatic --noinput, then restart the web processes.",
        )
