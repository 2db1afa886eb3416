"""/settings/delete-account/: typed confirmation and, when it was a while ago, the password again. Then it is gone at once."""

from typing import cast

from django import forms
from django.contrib.auth.models import AnonymousUser
from django.http import HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.http import require_http_methods

from accounts.access import BrandRequest, member_goes_out
from accounts.confirming import confirmed
from accounts.models import User
from chatsite import erasing
from lib.errors import DomainError


class LeavingForm(forms.Form):
    email = forms.CharField(
        max_length=254,
        label=gettext_lazy("Type your address to delete your account"),
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
    )


@member_goes_out
@require_http_methods(["GET", "HEAD", "POST"])
@confirmed
def page(request: BrandRequest) -> HttpResponse:
    """Raises nothing: a refusal is said on the page, and nothing was deleted then."""
    user = User.objects.get(pk=cast(User, request.user).pk)
    form, refused = LeavingForm(request.POST if request.method == "POST" else None), ""
    if request.method == "POST" and form.is_valid():
        if form.cleaned_data["email"].strip().lower() != user.email:
            form.add_error("email", _("This is not the address of your account. Nothing was deleted."))
        else:
            try:
                erasing.erase(user, by=user.pk)
            except DomainError as error:
                refused = error.detail
            else:
                request.session.flush()  # not logout(), after which the log would know where they were again
                request.user = AnonymousUser()
                return render(request, "settings/deleted.html")
    context = {"here": "settings", "form": form, "refused": refused}
    return render(request, "settings/delete_account.html", context, status=422 if refused or form.errors else 200)
