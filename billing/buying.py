"""Where a member pays, changes and cancels. Each of these asks the till, which asks Stripe: no scope is open meanwhile."""

import functools
import re
from collections.abc import Callable
from typing import cast
from uuid import UUID, uuid4

from django.contrib import messages
from django.core.cache import cache
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from accounts.access import BrandRequest, member_goes_out
from accounts.models import User
from billing import lifecycle, overview, till
from billing.asking import as_it_stands_there
from billing.errors import TooOften
from billing.forms import CancelForm
from billing.models import CreditPackOffer, Plan
from billing.pages import may_lead_to_stripe
from lib import clock
from lib.db import scope
from lib.errors import DomainError, Invalid, NotFound
from lib.money import price

CODE = re.compile(r"[-\w]{1,40}", re.ASCII)
PER_MINUTE = 60  # of one member: a page that waits for its payment looks thirty times
SESSION = re.compile(r"\w{1,255}", re.ASCII)


def paced(view: Callable[..., HttpResponse]) -> Callable[..., HttpResponse]:
    """The payment service answers a site only so often a minute: no member asks it on and on. Raises TooOften."""

    @functools.wraps(view)
    def wrapper(request: BrandRequest) -> HttpResponse:
        minute = int(clock.now().timestamp()) // 60
        slot = f"till:{request.principal.brand_id}:{request.principal.owner_id}:{minute}"
        cache.add(slot, 0, 120)
        if cache.incr(slot) > PER_MINUTE:
            raise TooOften(retry_after=60)
        return view(request)

    return wrapper


def _user(request: BrandRequest) -> User:
    return cast(User, request.user)


def _site(request: BrandRequest) -> str:
    """The site as this member sees it: the host was found to be the brand's before anybody asks here."""
    return request.build_absolute_uri("/").rstrip("/")


def _token(request: BrandRequest, *about: str) -> str:
    """The key under which a form is sent once, however often it is sent: for these things, from that page."""
    try:
        return ":".join([str(UUID(request.POST.get("token", ""))), *about])
    except ValueError:
        raise Invalid(_("This page was open too long. Reload it, and choose again. Nothing was charged.")) from None


def _lead(request: BrandRequest, to: Callable[[], str], back: str) -> HttpResponse:
    """To where the money is; what cannot be done is said on the page that asked, and nothing was charged."""
    try:
        with as_it_stands_there():
            return HttpResponseRedirect(to(), status=303)
    except DomainError as refused:
        messages.error(request, refused.detail)
        return HttpResponseRedirect(reverse(back), status=303)


@member_goes_out
@require_POST
@paced
def subscribe(request: BrandRequest) -> HttpResponse:
    code, cycle = request.POST.get("plan", ""), request.POST.get("cycle", "")

    def to() -> str:
        return till.start_subscription(
            request.brand,
            _user(request),
            _plan(request, code),
            cycle=cycle,
            key=_token(request, code, cycle),
            origin=_site(request),
        )

    return _lead(request, to, "pricing")


def _plan(request: BrandRequest, code: str) -> Plan:
    with scope(request.principal):
        offered = Plan.objects.filter(brand=request.brand, is_offered=True, is_active=True)
        plan = offered.filter(code=code).first() if CODE.fullmatch(code) else None
    if plan is None:
        raise NotFound(_("This plan is not on offer (any more). Choose one of these. Nothing was charged."))
    return plan


@member_goes_out
@require_POST
@paced
def pack(request: BrandRequest) -> HttpResponse:
    code = request.POST.get("pack", "")

    def to() -> str:
        return till.buy_pack(
            request.brand, _user(request), _offer(request, code), key=_token(request, code), origin=_site(request)
        )

    return _lead(request, to, "pricing")


def _offer(request: BrandRequest, code: str) -> CreditPackOffer:
    with scope(request.principal):
        offers = CreditPackOffer.objects.filter(brand=request.brand, is_active=True)
        offer = offers.filter(code=code).first() if CODE.fullmatch(code) else None
    if offer is None:
        raise NotFound(_("This pack is not on offer (any more). Choose one of these. Nothing was charged."))
    return offer


@member_goes_out
@require_POST
@paced
def card(request: BrandRequest) -> HttpResponse:
    def to() -> str:
        return till.store_payment_method(request.brand, _user(request), key=_token(request), origin=_site(request))

    return _lead(request, to, "plan-and-usage")


@member_goes_out
@require_POST
@paced
def portal(request: BrandRequest) -> HttpResponse:
    return _lead(request, lambda: till.portal(request.brand, _user(request), origin=_site(request)), "plan-and-usage")


@member_goes_out
@require_POST
@paced
def resume(request: BrandRequest) -> HttpResponse:
    def to() -> str:
        till.resume(request.brand, _user(request))
        said = _("Your plan goes on. Nothing was charged for it now. It may take a moment until it stands here.")
        messages.success(request, said)
        return reverse("plan-and-usage")

    return _lead(request, to, "plan-and-usage")


@may_lead_to_stripe
@member_goes_out
@require_http_methods(["GET", "HEAD", "POST"])
@paced
def change(request: BrandRequest) -> HttpResponse:
    """What another plan would mean in money and time; with the button pressed, so be it."""
    given = request.POST if request.method == "POST" else request.GET
    code, cycle = given.get("plan", ""), given.get("cycle", "")
    try:
        plan = _plan(request, code)
        with as_it_stands_there():
            if request.method == "POST":
                return _changed(request, plan, cycle, key=_token(request, code, cycle))
            change = till.preview_change(request.brand, _user(request), plan, cycle=cycle)
    except DomainError as refused:
        messages.error(request, refused.detail)
        return HttpResponseRedirect(reverse("pricing"), status=303)
    with scope(request.principal) as request.standing:
        context = {
            "brand": request.brand,
            "here": "plan-and-usage",
            "change": change,
            "price": overview.price_of(plan, cycle),
            "due": price(max(0, change.due_microusd), plan.currency),
            "credit": price(max(0, -change.due_microusd), plan.currency),
            "day": overview.day(change.starts_at, request.brand.zone),
            "form_token": uuid4(),
        }
        return render(request, "billing/change.html", context)


def _changed(request: BrandRequest, plan: Plan, cycle: str, *, key: str) -> HttpResponse:
    change = till.change_plan(request.brand, _user(request), plan, cycle=cycle, key=key)
    if change.is_upgrade:
        said = _("%(plan)s is yours. It may take a moment until it stands here.")
    else:
        said = _("%(plan)s begins on %(day)s. Until then everything stays.")
    messages.success(request, said % {"plan": plan.name, "day": overview.day(change.starts_at, request.brand.zone)})
    return HttpResponseRedirect(reverse("plan-and-usage"), status=303)


@member_goes_out
@require_http_methods(["GET", "HEAD", "POST"])
@paced
def cancel(request: BrandRequest) -> HttpResponse:
    """Ask why, say until when everything stays, and cancel for the end of what is paid."""
    form = CancelForm(request.POST if request.method == "POST" else None)
    if form.is_valid():
        return _lead(request, lambda: _cancelled(request, form), "plan-and-usage")
    with scope(request.principal) as request.standing:
        subscription = lifecycle.current(request.brand, request.principal.owner_id)
        if subscription is None or not overview.can_cancel(subscription):
            raise Invalid(_("There is nothing to cancel: no plan of yours renews by itself."))
        context = {
            "brand": request.brand,
            "here": "plan-and-usage",
            "form": form,
            "plan": subscription.plan,
            "stays": overview.stays_until(subscription, request.brand.zone),
        }
        return render(request, "billing/cancel.html", context, status=400 if form.is_bound else 200)


def _cancelled(request: BrandRequest, form: CancelForm) -> str:
    given = form.cleaned_data
    till.cancel(request.brand, _user(request), reason=given["reason"], comment=given["comment"])
    said = _("Your plan is cancelled for the end of its period. It may take a moment until it stands here.")
    messages.success(request, said)
    return reverse("plan-and-usage")


WAIT_S = 2
TRIES = 15  # half a minute: by then the payment's news has come, or a person must look


@member_goes_out
@require_safe
@paced
def back(request: BrandRequest) -> HttpResponse:
    """From Stripe's page: wait until the news of it has reached us too, and say what there is now.

    The page asks again by itself (a Refresh header: no script), and stops after half a minute.
    """
    session_id = request.GET.get("session_id", "")
    given = request.GET.get("try", "0")
    tries = int(given) if given.isascii() and given.isdecimal() and len(given) < 4 else 0
    if not SESSION.fullmatch(session_id):
        raise Invalid(_("This address names no payment. What you bought stands on the page Plan and usage."))
    state = till.outcome(request.brand, _user(request), session_id)
    is_late = state == "waiting" and tries >= TRIES
    with scope(request.principal) as request.standing:
        again = f"{reverse('billing-return')}?{urlencode({'session_id': session_id, 'try': str(tries + 1)})}"
        context = {
            "brand": request.brand,
            "here": "plan-and-usage",
            "state": "late" if is_late else state,
            "again": again,
        }
        response = render(request, "billing/return.html", context | _now_has(request))
    if state == "waiting" and not is_late:
        response.headers["Refresh"] = f"{WAIT_S}; url={again}"
    return response


def _now_has(request: BrandRequest) -> dict[str, object]:
    principal, zone, now = request.principal, request.brand.zone, clock.now()
    subscription = lifecycle.current(request.brand, principal.owner_id)
    packs = overview.in_turn(overview.packs_of(principal), now)
    return {
        "plan": subscription.plan if subscription else None,
        "words": overview.status_words(subscription, zone) if subscription else [],
        "packs": [row for row in (overview.pack_row(pack, zone, now) for pack in packs) if not row.is_over],
    }
