"""Whether a vendor takes a key: a live call that costs nothing, to that vendor's own host, before anything is stored."""

import asyncio
import re
from dataclasses import dataclass
from typing import Any

from django.core.cache import cache
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.debug import sensitive_variables

from lib import clock
from lib.db import Principal
from lib.errors import DomainError, Invalid
from lib.secret import Secret
from providers import calls, clients, framing, own_keys
from providers.errors import KeyRefused, ProviderError
from providers.models import ProviderKey
from providers.shapes import Limits, OwnKey, Watch
from providers.vendors import VENDORS, Vendor

PATIENCE_S = 10.0
PER_MINUTE = 5  # checks of one member: nobody tries stolen keys here
KEY = re.compile(r"[!-~]{12,400}")
WINDOW_CHARS = 6  # so many characters of a key in a row would tell something of it


class TooManyChecks(DomainError):
    says = gettext_lazy(
        "Keys are checked five times a minute at most. Wait a minute and try again; nothing was stored."
    )
    status, code = 429, "too_many_checks"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a vendor says of a key. `message` are its words, without the key; unchecked = it did not answer in time."""

    status: ProviderKey.Status
    message: str = ""


@sensitive_variables()
def read(vendor: Vendor, pasted: str) -> Secret:
    """What somebody pasted, as a key of this vendor. Raises Invalid, which does not repeat it."""
    text = "".join(pasted.split())  # mails and terminals break long lines
    if not KEY.fullmatch(text):
        raise Invalid(
            _("This is no key of %(vendor)s. Copy the whole key there and paste it here.") % {"vendor": vendor.name}
        )
    for other in VENDORS.values():
        if other.begins and text.startswith(other.begins) and other is not vendor:
            raise Invalid(
                _("This looks like a key of %(other)s, so it was not sent to %(vendor)s. Store it at %(other)s.")
                % {"other": other.name, "vendor": vendor.name}
            )
    return Secret(text)


def count(principal: Principal) -> None:
    """One more check of this member. Raises TooManyChecks."""
    minute = int(clock.now().timestamp()) // 60
    slot = f"own-key-checks:{principal.brand_id}:{principal.owner_id}:{minute}"
    cache.add(slot, 0, 120)
    if cache.incr(slot) > PER_MINUTE:
        raise TooManyChecks(retry_after=60)


async def check(vendor: Vendor, key: Secret) -> Verdict:
    """Ask the vendor, with its official SDK, at its own address; within PATIENCE_S, whatever happens."""
    failure = await _refusal(vendor, OwnKey(key.reveal(), b""))
    if failure is None:
        return Verdict(ProviderKey.Status.VALID)
    message = without(key, own_keys.reason(failure))
    if own_keys.is_refusal_of_key(failure):
        return Verdict(ProviderKey.Status.INVALID, message)
    if isinstance(failure, KeyRefused):  # no money left there: the key is known
        return Verdict(ProviderKey.Status.VALID, message)
    return Verdict(ProviderKey.Status.UNCHECKED, message)


async def _refusal(vendor: Vendor, key: OwnKey) -> ProviderError | None:
    await calls.ready(vendor.protocol)
    with Watch(Limits(first_token_s=PATIENCE_S)) as watch:
        try:
            client, errors = _client(vendor, key)
        except ProviderError as nowhere:
            return nowhere
        try:
            async with asyncio.timeout(PATIENCE_S):
                await client.get(vendor.check, cast_to=object, options={"timeout": framing.timeout(watch)})
        except (errors, *framing.NETWORK_ERRORS, TimeoutError, ValueError) as error:
            return framing.translate(error, watch, has_begun=False, key=key)
    return None


def _client(vendor: Vendor, key: OwnKey) -> tuple[Any, type[Exception]]:
    if vendor.protocol == "anthropic":
        from anthropic import AnthropicError

        return clients.anthropic_client(own_keys.home(vendor), key), AnthropicError
    from openai import OpenAIError

    return clients.openai_client(own_keys.home(vendor), key), OpenAIError


@sensitive_variables()
def without(key: Secret, message: str) -> str:
    """A vendor's words without any word that holds a piece of the key, or that is masked as if it did."""
    text = key.reveal()
    pieces = {text[at : at + WINDOW_CHARS] for at in range(len(text) - WINDOW_CHARS + 1)}
    return " ".join(
        "[key]" if "***" in word or any(piece in word for piece in pieces) else word for word in message.split()
    )
