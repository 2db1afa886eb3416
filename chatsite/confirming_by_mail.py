"""/account/confirm-by-mail/: who has no password and no second step proves with a code by mail that it is them (A-17)."""

import secrets
import time
from typing import Any, cast

from allauth.account.adapter import get_adapter
from allauth.account.internal.flows.login import record_authentication
from allauth.account.internal.flows.reauthentication import resume_request
from allauth.account.utils import get_next_redirect_url
from allauth.core import ratelimit
from django import forms
from django.http import HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import render
from django.urls import reverse
from django.utils.crypto import constant_time_compare, salted_hmac
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from accounts.access import BrandRequest, declare
from accounts.models import User
from lib.errors import NotAuthenticated

CODE = "confirm_by_mail"  # in the session: what was sent, as a digest, until when, and how often it may be tried
GOOD_FOR_S = 600
TRIES = 5


class CodeForm(forms.Form):
    code = forms.CharField(
        max_length=20,
        label=gettext_lazy("Code from the mail"),
        widget=forms.TextInput(attrs={"autocomplete": "one-time-code", "inputmode": "numeric"}),
    )


@require_http_methods(["GET", "HEAD", "POST"])
def page(request: BrandRequest) -> HttpResponseBase:
    if not request.user.is_authenticated:
        raise NotAuthenticated(_("Sign in first."))
    user = request.user
    here = reverse("confirm-by-mail")
    if all(way["url"] != here for way in get_adapter().get_reauthentication_methods(user)):
        return HttpResponseRedirect(reverse("account_reauthenticate"))
    form = CodeForm(request.POST if "code" in request.POST else None)
    if request.method == "POST":
        if refused := ratelimit.consume_or_429(request, action="reauthenticate", user=user):
            return cast(HttpResponseBase, refused)
        if "code" not in request.POST:
            _send(request, user)
        elif form.is_valid() and _is_right(request, form.cleaned_data["code"]):
            record_authentication(request, user, method="code", reauthenticated=True)
            return resume_request(request) or HttpResponseRedirect(reverse("settings"))
        elif CODE in request.session:
            form.add_error("code", _("This is not the code of the last mail. Look again, or have another one sent."))
    context: dict[str, Any] = {
        "form": form,
        "email": user.email,
        "is_sent": CODE in request.session,
        "is_over": request.method == "POST" and CODE not in request.session,
        "next": get_next_redirect_url(request) or "",
    }
    return render(request, "account/confirm_by_mail.html", context, status=422 if form.errors else 200)


def _send(request: BrandRequest, user: User) -> None:
    code = f"{secrets.randbelow(10**6):06}"
    request.session[CODE] = {"digest": _digest(user, code), "until": time.time() + GOOD_FOR_S, "tries": TRIES}
    get_adapter().send_mail("account/email/confirm_code", user.email, {"code": code, "user": user})


def _is_right(request: BrandRequest, given: str) -> bool:
    """Whether this is the code that was sent; each one is good once, for a while and for a few tries."""
    sent = request.session.pop(CODE, None)
    if not sent or sent["until"] < time.time():
        return False
    code = "".join(given.split())
    is_right = constant_time_compare(sent["digest"], _digest(cast(User, request.user), code))
    if not is_right and sent["tries"] > 1:
        request.session[CODE] = {**sent, "tries": sent["tries"] - 1}
    return is_right


def _digest(user: User, code: str) -> str:
    return salted_hmac("chatsite.confirming_by_mail", f"{user.pk}:{code}", algorithm="sha256").hexdigest()


declare(page, "account")
