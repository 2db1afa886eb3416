"""Step-up (A-17): what could take an account over, or away, asks who is there, unless that was proved ten minutes ago.

Proof is signing in, the password again, a code of the second step, or a code by mail where there is neither. A form that was
sent is kept in the session meanwhile and goes on where it was, so nothing that was typed is lost.
"""

import functools
import time
from collections.abc import Iterable, Mapping
from typing import Any

from allauth.account import app_settings
from allauth.account.internal.flows.login import get_authentication_records
from allauth.core.exceptions import ReauthenticationRequired
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import reverse
from django.utils.translation import gettext_lazy

from accounts import app_tokens
from accounts.access import View
from lib.errors import Forbidden


class NotConfirmed(Forbidden):
    """For programs, which no page can ask."""

    says = gettext_lazy(
        "Prove first that it is you: sign in again, or confirm it in the browser. That counts for ten minutes. Nothing was "
        "changed."
    )
    code = "confirmation_needed"

    def __init__(self) -> None:
        super().__init__(confirm_at=reverse("account_reauthenticate"))


def is_fresh(request: HttpRequest) -> bool:
    """Whether the person of this session proved themselves of late. Reads session and user."""
    return _is_late(get_authentication_records(request, request.user))


def is_proved(request: HttpRequest) -> bool:
    """The same of who calls our REST without a key: of a session, or of that which an app's token is of. In no scope."""
    authorization = request.headers.get("Authorization", "")
    return _is_late(app_tokens.proofs(authorization)) if authorization else is_fresh(request)


def require(request: HttpRequest) -> None:
    """Raises ReauthenticationRequired, which allauth's middleware turns into the page that asks, and back."""
    if not is_fresh(request):
        raise ReauthenticationRequired()


def confirmed(view: View) -> View:
    """For a view that says below it who may call it: `@brand_member @confirmed`. Synchronous views only."""

    @functools.wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        require(request)
        response: HttpResponseBase = view(request, *args, **kwargs)
        return response

    return wrapper


def _is_late(records: Iterable[Mapping[str, Any]]) -> bool:
    since = time.time() - app_settings.REAUTHENTICATION_TIMEOUT
    return any(record.get("at", 0) > since for record in records)
