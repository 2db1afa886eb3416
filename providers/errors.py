"""What can go wrong on the way to a vendor, in our words. Everything here is a refusal the engine answers."""

import math
import re
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext

from lib.errors import DomainError
from lib.secret import Secret
from providers.shapes import NAME_CHARS, clean

VENDOR_DETAIL_CHARS = 500
LOOKS_LIKE_A_KEY = re.compile(
    r"\b(?:(?:sk|pk|rk|key|bearer)[-_]|(?:sk|pk|rk|key|bearer) (?=\S*[\d*]))[\w.*\-]{6,}", re.IGNORECASE
)


def seconds(wait_s: float) -> str:
    number = max(1, math.ceil(wait_s))
    return ngettext("%d second", "%d seconds", number) % number


class ProviderError(DomainError):
    says = gettext_lazy("The provider could not answer. Try again or choose another model.")
    status, code = 502, "provider_error"

    def __init__(
        self,
        detail: str = "",
        *,
        vendor_status: int | None = None,
        vendor_code: str = "",
        vendor_detail: str = "",
        retry_after: float | None = None,
        **extra: Any,
    ) -> None:
        if retry_after is not None:
            extra["retry_after"] = retry_after
        super().__init__(detail, **extra)
        self.vendor_status = vendor_status
        self.vendor_code = clean(vendor_code)[:NAME_CHARS]
        self.vendor_detail = LOOKS_LIKE_A_KEY.sub("[key]", clean(vendor_detail[:20_000]))[:VENDOR_DETAIL_CHARS]
        self.retry_after = retry_after

    def name(self, model: str) -> None:
        """Say which model, as people know no providers, and when to come back, if the vendor told."""
        self.detail = self.detail.replace(_("The provider"), model, 1)
        if self.retry_after:
            later = _("Try again in %(wait)s") % {"wait": seconds(self.retry_after)}
            self.detail = self.detail.replace(_("Try again shortly"), later, 1)
        self.args = (self.detail,)


class KeyRefused(ProviderError):
    says = gettext_lazy(
        "The provider does not accept the key of this model. Choose another model, or ask an administrator."
    )
    status, code = 502, "provider_key_refused"


class Busy(ProviderError):
    says = gettext_lazy("The provider is busy and takes no more questions for the moment. Try again shortly.")
    status, code = 503, "provider_busy"


class Resting(ProviderError):
    says = gettext_lazy(
        "The provider failed several times in a row and is left alone for a moment. Try again later, or "
        "choose another model."
    )
    status, code = 503, "provider_resting"


class Rejected(ProviderError):
    says = gettext_lazy("The provider did not accept this question. Shorten or change it, or choose another model.")
    status, code = 400, "provider_rejected"


class Down(ProviderError):
    says = gettext_lazy("The provider cannot be reached or is out of order. Try again later, or choose another model.")
    status, code = 502, "provider_down"


class TimedOut(ProviderError):
    says = gettext_lazy("The provider took too long to answer. Try again, or choose another model.")
    status, code = 504, "provider_timeout"

    def __init__(self, stage: str, **extra: Any) -> None:
        unreachable = stage == "connect"  # looks like Down from outside: nobody learns what listens where (W-11)
        super().__init__(str(Down()) if unreachable else "", **extra)
        self.stage = stage
        if unreachable:
            self.status, self.code = Down.status, Down.code


class CutOff(ProviderError):
    says = gettext_lazy("The provider was cut off before the end of its answer. What had arrived is kept.")
    status, code = 502, "provider_cut_off"


class Garbled(ProviderError):
    says = gettext_lazy("The provider sent something that is not an answer. Try again, or choose another model.")
    status, code = 502, "provider_garbled"


# The vendors' names of errors that arrive inside a stream, where there is no status line any more.
STATUS_BY_NAME = {
    "invalid_request_error": 400,
    "context_length_exceeded": 400,
    "content_filter": 400,
    "authentication_error": 401,
    "invalid_api_key": 401,
    "billing_error": 402,
    "permission_error": 403,
    "not_found_error": 404,
    "model_not_found": 404,
    "request_too_large": 413,
    "rate_limit_error": 429,
    "rate_limit_exceeded": 429,
    "insufficient_quota": 429,
    "timeout_error": 504,
    "overloaded_error": 529,
}


def refusal_by_status(status: int) -> type[ProviderError]:
    if status in (401, 402, 403):
        return KeyRefused
    if status in (429, 529):
        return Busy
    if status in (408, 409, 425) or not 400 <= status < 500:
        return Down
    return Rejected


def refusal(
    body: object, *, status: int = 0, retry_after: float | None = None, key: Secret | None = None
) -> ProviderError:
    """The error that a vendor described, as JSON with or without the `error` envelope, or as plain text."""
    told = body
    if isinstance(told, dict) and isinstance(told.get("error"), dict | str):
        told = told["error"]
    if not isinstance(told, dict):
        told = {"message": told or ""}
    names = [str(told.get(name) or "") for name in ("code", "type")]
    if status < 300:  # the response had begun: the name is all there is (OpenRouter writes the number as `code`)
        named = (int(name) if name.isdecimal() and len(name) == 3 else STATUS_BY_NAME.get(name) for name in names)
        status = next((found for found in named if found), 500)
    return refusal_by_status(status)(
        vendor_status=status,
        vendor_code=next(filter(None, names), ""),
        vendor_detail=str(told.get("message") or "").replace(key.reveal() if key else "[key]", "[key]"),
        retry_after=retry_after,
    )
