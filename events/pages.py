"""Behind the bell: what a member was told, and what of it is read."""

from uuid import UUID

from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts import preferences
from accounts.access import BrandRequest, brand_member
from events import notices
from events.models import Notification
from lib.errors import NotFound

SHOWN = 50


@brand_member
@require_safe
def notifications(request: BrandRequest) -> HttpResponse:
    context = {
        "brand": request.brand,
        "here": "notifications",
        "zone": preferences.zone(request),
        "notices": notices.recent(request.principal, most=SHOWN),
    }
    return render(request, "events/notifications.html", context)


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
