"""/api/app/v1/: signing up and in without a browser, in allauth's headless protocol; what comes of it is accounts.app_tokens.

Only what an app needs to get in, through the same adapter as the pages, so by the same rules: a closed brand is closed, an
address is confirmed by its mail, a second step is asked for, a new member has a plan. All else of an account stays with the
pages. Cookies are neither read nor set.
"""

from allauth.headless.account.views import LoginView, RequestPasswordResetView, SessionView, SignupView
from allauth.headless.constants import Client
from allauth.headless.mfa.views import AuthenticateView
from allauth.headless.tokens.views import RefreshTokenView
from django.urls import path

from accounts.access import declare

VIEWS = {
    "auth/signup": SignupView,
    "auth/login": LoginView,
    "auth/2fa/authenticate": AuthenticateView,
    "auth/password/request": RequestPasswordResetView,
    "auth/session": SessionView,
    "tokens/refresh": RefreshTokenView,
}

urlpatterns = [
    path(address, declare(view.as_api_view(client=Client.APP), "public"), name=f"app-{address.rpartition('/')[2]}")
    for address, view in VIEWS.items()
]
