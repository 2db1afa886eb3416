"""Behind the bell: what a member was told, and what of it is read."""

from uuid import UUID

from django import forms
from django.http import HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_POST, require_safe

from accounts import preferences
from accounts.access import BrandRequest, brand_member
from events import notices
from events.models import Notification
from lib.errors import Invalid, NotFound

SHOWN = 50


class Place(forms.Form):
    before = forms.UUIDField(required=False)


@brand_member
@require_safe
def notifications(request: BrandRequest) -> HttpResponse:
    """The newest, or those before one of them."""
    place = Place(request.GET)
    if not place.is_valid():
        raise Invalid(_("This place in the list is not known. Begin at the first page."))
    before = place.cleaned_data["before"]
    found = notices.recent(request.principal, most=SHOWN + 1, before=before)
    context = {
        "brand": request.brand,
        "here": "notifications",
        "zone": preferences.zone(request),
        "notices": found[:SHOWN],
        "earlier": found[SHOWN - 1].pk if len(found) > SHOWN else None,
        "is_later_part": before is not None,
    }
    return render(request, "events/notifications.html", context)


@brand_member
@require_safe
def bell(request: BrandRequest) -> HttpResponse:
    """What the bell says now, for pages that are open: how many are not read, and the newest of them."""
    count = notices.unread(request.principal)
    newest = next(iter(notices.recent(request.principal, most=1)), None)
    is_new = newest is not None and newest.read_at is None
    return JsonResponse(
        {
            "count": count,
            "shown": "99+" if count > 99 else str(count),
            "label": ngettext("Notifications, %(count)s not read", "Notifications, %(count)s not read", count)
            % {"count": count},
            "newest": {"id": newest.pk, "title": newest.title} if newest and is_new else None,
        }
    )


@brand_member
@require_POST
def read(request: BrandRequest, notice_id: UUID) -> HttpResponse:
    """Mark one as read, and lead on to what it is about when that button was pressed."""
    principal = request.principal
    own = Notification.objects.filter(brand_id=principal.brand_id, owner_id=principal.owner_id)
    notice = own.filter(pk=notice_id).first()
    if notice is None:
        raise NotFound(_("This notice is not here (any more)."))
    notices.mark_read(principal, notice.pk)
    leads_on = "follow" in request.POST and notice.action_url
    return HttpResponseRedirect(notice.action_url if leads_on else reverse("notifications"), status=303)


@brand_member
@require_POST
def read_all(request: BrandRequest) -> HttpResponse:
    notices.mark_all_read(request.principal)
    return HttpResponseRedirect(reverse("notifications"), status=303)
