"""Step-up (A-17): what could take an account over, or away, asks who is there, unless that was proved ten minutes ago.

Proof is signing in, the password again, a code of the second step, or a code by mail where there is neither. A form that was
sent is kept in the session meanwhile and goes on where it was, so nothing that was typed is lost.
"""

import functools
import time
from typing import Any

from allauth.account import app_settings
from allauth.account.internal.flows.login import get_authentication_records
from allauth.core.exceptions import ReauthenticationRequired
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from accounts.access import View


def is_fresh(request: HttpRequest) -> bool:
    """Whether the person of this session proved themselves of late. Reads session and user."""
    since = time.time() - app_settings.REAUTHENTICATION_TIMEOUT
    return any(record.get("at", 0) > since for record in get_authentication_records(request, request.user))


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
