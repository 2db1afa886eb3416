"""Bringing an export back."""

from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_http_methods

from accounts.access import BrandRequest, member_goes_out
from conversations.chats import importing
from conversations.chats.export import unwrapping
from lib.db import scope
from lib.errors import Invalid, TooLarge


@member_goes_out
@require_http_methods(["GET", "HEAD", "POST"])
def bring(request: BrandRequest) -> HttpResponse:
    """Take a file of chats. What was found stands on the page that follows; whoever only looks is led to its form."""
    if request.method != "POST":
        return HttpResponseRedirect(reverse("conversations:your-data") + "#import", status=303)
    file = request.FILES.get("file")
    if file is None:
        raise Invalid(_("No file was chosen, so there is nothing to import."))
    if (file.size or 0) > unwrapping.MOST_BYTES:
        raise TooLarge(_("A file may have up to 20 MB. Export fewer chats at a time."))
    content = file.read()
    with scope(request.principal):
        brought = importing.bring(request.principal, content)
    new = ngettext("%(n)d chat was imported.", "%(n)d chats were imported.", brought.new) % {"n": brought.new}
    known = ngettext("%(n)d was here already.", "%(n)d were here already.", brought.known) % {"n": brought.known}
    messages.success(request, f"{new} {known}" if brought.known else new)
    return HttpResponseRedirect(reverse("conversations:your-data"), status=303)
