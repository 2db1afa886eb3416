"""A session that is about to end goes on with one action (WCAG 2.2.1)."""

from django.http import HttpResponse
from django.views.decorators.http import require_POST

from accounts.access import BrandRequest, brand_member
from lib import sessions


@brand_member
@require_POST
def stay(request: BrandRequest) -> HttpResponse:
    sessions.keep(request.session)
    return HttpResponse(status=204)
