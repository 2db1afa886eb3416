"""Addresses that nobody signs in for: what a mail leads to, and where its provider reports. None looks at a session."""

import base64

from django.http import HttpResponse, HttpResponseRedirect, JsonResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from accounts.access import BrandRequest, public
from events.delivery import providers, reports, stopping, trails
from lib.errors import NotFound

PIXEL = base64.b64decode("R0lGODlhAQABAIAAAAAAAP///yH5BAEAAAAALAAAAAABAAEAAAIBRAA7")  # transparent


@csrf_exempt
@public("a mail provider calls it, and proves by a signature or a password that it is ours")
@require_POST
def report(request: BrandRequest, provider: str) -> HttpResponse:
    """200 also for mails that we do not have: they were swept away, and nothing that is told again would change that."""
    try:
        told = providers.told(provider, request)
    except (providers.NotFromThem, providers.NoReport) as refused:
        asks = {"WWW-Authenticate": 'Basic realm="reports"'} if isinstance(refused, providers.LogIn) else None
        return JsonResponse({"code": refused.code, "detail": refused.detail}, status=refused.status, headers=asks)
    return JsonResponse({"received": len(told), "known": sum(reports.apply(each) for each in told)})


@public("a picture of one pixel in a mail, whose address is signed")
@never_cache
@require_GET
def opened(request: BrandRequest, token: str) -> HttpResponse:
    if not trails.opened(token):
        raise NotFound
    return HttpResponse(PIXEL, content_type="image/gif")


@public("a link of a mail, whose address is signed and says where it leads")
@never_cache
@require_GET
def follow(request: BrandRequest, token: str) -> HttpResponse:
    target = trails.followed(token)
    if target is None:
        raise NotFound(_("This link is not whole. Copy it from the mail once more, to its very end."))
    response = HttpResponse(status=302, headers={"Location": target})
    response["Referrer-Policy"] = "no-referrer"
    return response


@csrf_exempt
@public("whoever has the mail may stop more of its kind: the address is signed, and does nothing else")
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def stop(request: BrandRequest, token: str) -> HttpResponse:
    """A mail program sends `List-Unsubscribe=One-Click`; a person presses a button. Merely looking changes nothing."""
    asked = stopping.read(token, request.brand)
    if asked is None:
        raise NotFound(_("This link is not whole, or is no longer known. What you are mailed is in your settings."))
    if request.method == "POST" and request.POST.get("do") == "again":
        stopping.take_back(asked)
        return HttpResponseRedirect("?now=on", status=303)
    if request.method == "POST":
        stopping.stop(asked)
        if "List-Unsubscribe" in request.POST:
            return HttpResponse(status=200)
        return HttpResponseRedirect("?now=off", status=303)
    context = {"brand": request.brand, "kind": asked.name, "now": request.GET.get("now", "")}
    return render(request, "mail/stop.html", context)
