"""Whether what is paid can arrive: the keys of Stripe, and the endpoint that it calls."""

from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import stripe as sdk
from django.conf import settings
from django.db import DatabaseError
from django.urls import reverse

from billing.applying import ACTED_ON
from billing.asking import is_live, stripe
from billing.left_behind import of_another_service, without_meter
from chatsite.deployment.finding import Finding
from lib.db import SERVICE, scope

UNPAID = "Members pay, and nothing of it arrives here: they get nothing for it."
MAKE_IT = (
    "Make an endpoint at Stripe for https://<your host>/stripe/webhook/ in the mode of the key, with the API version "
    f"{sdk.api_version} and all events, and set STRIPE_WEBHOOK_SECRET to its secret."
)


def keys() -> Iterator[Finding]:
    key, secret = settings.STRIPE_SECRET_KEY, settings.STRIPE_WEBHOOK_SECRET
    if not key:
        if secret and not settings.STRIPE_STAND_IN:
            yield _finding(
                "error",
                "STRIPE_WEBHOOK_SECRET is set, and STRIPE_SECRET_KEY is not.",
                "Nothing can be bought.",
                "Set STRIPE_SECRET_KEY, or take STRIPE_WEBHOOK_SECRET out of the environment.",
            )
        return
    if not key.startswith(("sk_live_", "sk_test_", "rk_live_", "rk_test_")):
        yield _finding(
            "error",
            "STRIPE_SECRET_KEY is no secret key of Stripe's.",
            "Nothing can be bought.",
            "Take the one that begins with sk_ (or rk_); pk_ is for browsers, whsec_ for the webhook.",
        )
    elif not is_live() and not settings.DEVELOPMENT:
        yield _finding(
            "warning",
            "STRIPE_SECRET_KEY is of Stripe's test mode.",
            "Everybody may buy with a test card: no money moves.",
            "Set the sk_live_ key, and the live endpoint's STRIPE_WEBHOOK_SECRET with it.",
        )
    if not secret:
        yield _finding("error", "STRIPE_WEBHOOK_SECRET is not set.", UNPAID, MAKE_IT)
    elif not secret.startswith("whsec_"):
        yield _finding("error", "STRIPE_WEBHOOK_SECRET is no secret of an endpoint.", UNPAID, MAKE_IT)


def endpoint() -> Iterator[Finding]:
    """What Stripe knows of us. The secret itself it does not tell; an endpoint of the key's mode must be there."""
    if not settings.STRIPE_SECRET_KEY:
        return
    try:
        found = list(stripe().v1.webhook_endpoints.list(params={"limit": 100}).auto_paging_iter())
    except (sdk.AuthenticationError, sdk.PermissionError) as refused:
        yield _finding(
            "error",
            f"Stripe does not take STRIPE_SECRET_KEY: {refused.user_message or refused}.",
            "Nothing can be bought, and nothing that is paid arrives.",
            "Copy the key anew from Stripe.",
        )
        return
    except sdk.StripeError as away:
        yield _finding(
            "warning",
            f"Stripe could not be asked ({type(away).__name__}).",
            "Whether what is paid arrives is not known.",
            "May this machine reach api.stripe.com:443? Then look again.",
        )
        return
    ours = [row for row in found if urlsplit(row.url).path == reverse("stripe-webhook") and row.status == "enabled"]
    if not ours:
        mode = "live" if is_live() else "test"
        yield _finding(
            "error", f"Stripe has no endpoint of ours in the {mode} mode, to which the key belongs.", UNPAID, MAKE_IT
        )
    for row in ours:
        if (row.api_version or "") > sdk.api_version:
            yield _finding(
                "error",
                f"The endpoint {row.url} speaks the API version {row.api_version}; we read {sdk.api_version}.",
                "Its events are set aside, and nothing is granted.",
                MAKE_IT,
            )
        untold = [] if "*" in row.enabled_events else sorted(ACTED_ON.keys() - set(row.enabled_events))
        if untold:
            yield _finding(
                "error",
                f"The endpoint {row.url} is not told of {', '.join(untold)}.",
                "What that news would change stays as it was.",
                "Choose all events for it at Stripe.",
            )


def left_behind() -> Iterator[Finding]:
    """Subscriptions that a change of the keys, or of a plan, left where nobody collects money for them."""
    played = meterless = 0
    with suppress(DatabaseError), scope(SERVICE):  # databases.py says so where there is none
        played, meterless = of_another_service().count(), without_meter().filter(has_meter=False).count()
    if played:
        yield _finding(
            "warning",
            f"Of the subscriptions in force, {played} were begun at the stand-in, or in Stripe's test mode.",
            "Their members have for nothing what others pay for, and it never ends.",
            "manage.py check_billing names them, and --apply ends them; their members fall back and are told.",
        )
    if meterless:
        yield _finding(
            "warning",
            f"Of the subscriptions in force, {meterless} do not count what goes beyond their plan, which allows it.",
            "Their members are refused at the limit. The worker tries every five minutes to mend it.",
            "manage.py check_billing --apply says why it does not succeed; often stripe_sync --apply is due.",
        )


def _finding(level: str, cause: str, effect: str, remedy: str) -> Finding:
    return Finding("error" if level == "error" else "warning", "payments", cause, effect, remedy)
