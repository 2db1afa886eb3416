"""How we ask Stripe: which one, with whose key, how long, and what its refusals are in our words.

A call never runs inside a transaction. Each that makes something carries an idempotency key of our own making, so a
repeat after a lost answer makes nothing twice (S-11).
"""

import functools
import hashlib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import stripe as sdk
from django.conf import settings
from django.utils.translation import gettext as _

from billing.books import Provider
from billing.errors import NothingToSellWith, NotNow, PaymentRefused, PaymentServiceAway
from lib.errors import Invalid

TIMEOUT_S = 20.0
RETRIES = 2  # by the SDK, with the same idempotency key
# What Stripe counts in whole units, without cents.
WITHOUT_CENTS = frozenset(
    ("BIF", "CLP", "DJF", "GNF", "JPY", "KMF", "KRW", "MGA", "PYG", "RWF", "UGX", "VND", "VUV", "XAF", "XOF", "XPF")
)
log = logging.getLogger(__name__)


def is_stand_in() -> bool:
    return bool(settings.STRIPE_STAND_IN)


def is_live() -> bool:
    """Whether the key moves real money. What comes from the other mode is none of ours (S-08)."""
    return settings.STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))


def provider() -> Provider:
    if is_stand_in():
        return Provider.STAND_IN
    return Provider.STRIPE if is_live() else Provider.STRIPE_TEST


def stripe() -> sdk.StripeClient:
    """The real one with STRIPE_SECRET_KEY, else the stand-in. Raises NothingToSellWith when there is neither."""
    if settings.STRIPE_SECRET_KEY:
        return _client(settings.STRIPE_SECRET_KEY)
    if is_stand_in():
        from billing.standin.client import StandIn  # nowhere else is it reached, and with a key not even here

        return sdk.StripeClient("sk_test_standin", http_client=StandIn())
    raise NothingToSellWith()


@functools.cache
def _client(key: str) -> sdk.StripeClient:
    http = sdk.RequestsClient(timeout=TIMEOUT_S)
    return sdk.StripeClient(key, http_client=http, max_network_retries=RETRIES)


@contextmanager
def in_our_words() -> Iterator[None]:
    """What Stripe refuses, as a refusal of ours. A call that was wrong is a bug or a configuration, and crashes."""
    try:
        yield
    except sdk.CardError as refused:
        said = refused.user_message or _("The bank gave no reason.")
        raise PaymentRefused(
            _("The payment was refused: %(said)s Nothing was changed; try another card.") % {"said": said}
        ) from refused
    except sdk.IdempotencyError as other:
        raise NotNow(_("This was asked for already. Reload the page and look; nothing was charged twice.")) from other
    except (sdk.APIConnectionError, sdk.RateLimitError) as away:
        raise PaymentServiceAway(retry_after=60) from away
    except sdk.AuthenticationError as wrong:
        log.exception("Stripe does not take STRIPE_SECRET_KEY")
        raise PaymentServiceAway(retry_after=600) from wrong
    except sdk.APIError as broken:
        raise PaymentServiceAway(retry_after=60) from broken


@contextmanager
def as_it_stands_there() -> Iterator[None]:
    """Around what a person pressed: what ended or was given back at Stripe a moment ago is known here only by its news.

    Raises  NotNow for a call that Stripe does not take; the log says which, because it may be a bug or a configuration too
    """
    try:
        yield
    except sdk.InvalidRequestError as otherwise:
        log.exception("Stripe does not take a call")
        raise NotNow(
            _(
                "The payment service knows this otherwise than this page does. Nothing was changed or charged: wait "
                "a minute, reload the page and look; if it says the same then, tell those who run this site."
            )
        ) from otherwise


def once(*about: object) -> dict[str, Any]:
    """Options of a call that may be repeated and must be done once: the same `about` is the same call."""
    named = ":".join(map(str, about))
    return {"idempotency_key": named if len(named) <= 200 else hashlib.sha256(named.encode()).hexdigest()}


def minor(micro: int, currency: str) -> int:
    """Micro-units as Stripe counts: cents, or whole yen. Raises Invalid for what cannot be paid in them."""
    size = _minor_size(currency)
    if micro % size:
        raise Invalid(
            _("%(amount)s %(currency)s cannot be charged: there is no coin that small.")
            % {"amount": micro / 1_000_000, "currency": currency}
        )
    return micro // size


def minor_decimal(micro: int, currency: str) -> str:
    """The same for prices of metered units, which Stripe takes by the fraction."""
    return format((Decimal(micro) / _minor_size(currency)).normalize(), "f")


def micro(minor_units: int, currency: str) -> int:
    return minor_units * _minor_size(currency)


def _minor_size(currency: str) -> int:
    return 1_000_000 if currency.upper() in WITHOUT_CENTS else 10_000


def moment(stamp: int | None) -> datetime | None:
    return None if stamp is None else datetime.fromtimestamp(stamp, UTC)


def id_of(thing: Any) -> str:
    """The id of what Stripe gives as an id or, expanded, whole; "" for nothing."""
    if not thing:
        return ""
    if isinstance(thing, str):
        return thing
    return str(thing["id"])
