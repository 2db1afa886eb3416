"""Refusals as the vendors' own clients read them."""

from collections.abc import Callable
from typing import Any

import orjson
from django.core.exceptions import RequestDataTooBig
from django.http import HttpResponse

from lib.db import database_is_away
from lib.errors import DomainError, NotAuthenticated, TooLarge, Unavailable, WrongMethod
from lib.logs import request_id
from providers.errors import Busy, ProviderError, Rejected

Shape = Callable[[Exception], HttpResponse]  # a refusal as an answer; what is no refusal is raised on

TYPES = {
    401: "authentication_error",
    402: "insufficient_quota",
    403: "permission_error",
    404: "invalid_request_error",
    429: "rate_limit_error",
}
ANTHROPIC_TYPES = {
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    502: "api_error",
    503: "overloaded_error",
    504: "timeout_error",
    529: "overloaded_error",
}
QUOTA = ("reason", "left", "resets_at", "requires_payment", "ways")  # told beside a refusal for quota
CODES = {
    "not_authenticated": "invalid_api_key",
    "quota_exceeded": "insufficient_quota",
    "too_many_running": "rate_limit_exceeded",
}


class Ended(DomainError):
    """The answer was cut off. What had arrived is charged; ask again for the rest.

    Why a call ended after it had begun, in its cause's words: never a 503, which proxies and clients may repeat unseen. Of
    what was charged, no client of the vendors' repeats anything by itself.
    """

    status = 502

    def __init__(self, cause: Exception, *, is_charged: bool) -> None:
        told = refusal(cause)
        super().__init__(message(told), **{} if is_charged else told.extra)
        self.code, self.is_charged = told.code, is_charged


def after_hold(cause: Exception, *, is_charged: bool) -> Exception:
    """How a call is refused that had begun: 503 is kept for those of which nothing was held and nobody was asked."""
    told = refusal(cause)
    return Ended(told, is_charged=is_charged) if is_charged or status(told) == 503 else told


def refusal(error: Exception) -> DomainError:
    """The refusal that an exception means. What is none goes on as the bug it is."""
    if database_is_away(error):
        return Unavailable("The database is busy or away for the moment. Try again shortly.", retry_after=2)
    if isinstance(error, RequestDataTooBig):
        return TooLarge("The body is larger than one request may be.")
    if not isinstance(error, DomainError):
        raise error
    return error


def status(error: DomainError) -> int:
    if isinstance(error, Busy):
        return 429
    if isinstance(error, Rejected):
        return 400
    return error.status


def message(error: DomainError) -> str:
    """Our words; the vendor's own follow where they help."""
    if isinstance(error, Rejected) and error.vendor_detail:
        return f"{error.detail} The provider says: {error.vendor_detail}"
    return error.detail


def answer(error: DomainError, body: Any, number: int) -> HttpResponse:
    """A refusal with the headers that are the same in every shape."""
    response = HttpResponse(orjson.dumps(body), content_type="application/json", status=number)
    if isinstance(error, NotAuthenticated):
        response.headers["WWW-Authenticate"] = 'Bearer realm="chatsite"'
    if isinstance(error, WrongMethod):
        response.headers["Allow"] = error.extra["allow"]
    wait = error.retry_after if isinstance(error, ProviderError) else error.extra.get("retry_after")
    if isinstance(error, Ended) and error.is_charged:
        response.headers["X-Should-Retry"] = "false"  # both vendors' clients go by it
    if wait:
        response.headers["Retry-After"] = str(max(1, int(wait)))
    return response


def openai_error(error: DomainError) -> dict[str, Any]:
    """OpenAI's error object. `code` is what programs branch on."""
    told = {name: value for name, value in error.extra.items() if name in QUOTA}
    number = status(error)
    return {
        "message": message(error),
        "type": TYPES.get(number, "invalid_request_error" if number < 500 else "server_error"),
        "param": error.extra.get("param"),
        "code": CODES.get(error.code, error.code),
        **told,
    }


def openai(error: Exception) -> HttpResponse:
    refused = refusal(error)
    return answer(refused, {"error": openai_error(refused)}, status(refused))


def anthropic_status(error: DomainError) -> int:
    """A busy provider is not the caller's own rate limit, and Anthropic has a status for it."""
    return 529 if isinstance(error, Busy) else status(error)


def anthropic_error(error: DomainError) -> dict[str, Any]:
    """Anthropic's error object. `type` is what programs branch on; `details` say our own code and what goes with it."""
    told = {name: value for name, value in error.extra.items() if name in ("param", *QUOTA)}
    return {
        "type": ANTHROPIC_TYPES.get(anthropic_status(error), "invalid_request_error"),
        "message": message(error),
        "details": {"error_code": error.code, **told},
    }


def anthropic(error: Exception) -> HttpResponse:
    refused = refusal(error)
    told = {"type": "error", "error": anthropic_error(refused), "request_id": request_id.get()}
    return answer(refused, told, anthropic_status(refused))


def of_path(path: str) -> Shape:
    """The shape that a path under /v1 speaks."""
    return anthropic if path.startswith("/v1/messages") else openai
