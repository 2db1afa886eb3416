"""/api/app/v1/: signing up and in without a browser, in allauth's headless protocol; what comes of it is accounts.app_tokens.

Only what an app needs to get in, through the same adapter as the pages, so by the same rules: a closed brand is closed, an
address is confirmed by its mail, a second step is asked for, a new member has a plan. All else of an account stays with the
pages. Cookies are neither read nor set.
"""

import functools

import orjson
from allauth.headless.account.views import LoginView, RequestPasswordResetView, SessionView, SignupView
from allauth.headless.constants import Client
from allauth.headless.mfa.views import AuthenticateView
from allauth.headless.tokens.views import RefreshTokenView
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.urls import path

from accounts.access import View, declare
from lib import strict_json

VIEWS = {
    "auth/signup": SignupView,
    "auth/login": LoginView,
    "auth/2fa/authenticate": AuthenticateView,
    "auth/password/request": RequestPasswordResetView,
    "auth/session": SessionView,
    "tokens/refresh": RefreshTokenView,
}


def strictly(view: View) -> View:
    """What allauth's own reading of JSON stumbles over, halves of surrogate pairs and absurd depth, never reaches it."""

    @functools.wraps(view)
    def wrapper(request: HttpRequest) -> HttpResponseBase:
        if request.body:
            request._body = orjson.dumps(strict_json.read(request.body))
        response: HttpResponseBase = view(request)
        return response

    return declare(wrapper, "public")


urlpatterns = [
    path(address, strictly(view.as_api_view(client=Client.APP)), name=f"app-{address.rpartition('/')[2]}")
    for address, view in VIEWS.items()
]
