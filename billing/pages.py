"""Prices, plan and usage: what a member sees of money, and decides without paying. Buying is in billing.buying."""

from typing import Any
from uuid import UUID, uuid4

from csp.decorators import csp_update
from django.contrib import messages
from django.http import HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.urls import reverse
from django.utils.http import urlencode
from django.utils.translation import gettext as _
from django.views.decorators.http import require_POST, require_safe

from accounts.access import BrandRequest, member_goes_out, member_of, public
from billing import lifecycle, overview, pricing
from billing.forms import OverageForm
from billing.models import Subscription
from billing.overview import Overage
from billing.promises import promises
from lib import clock
from lib.db import Principal, scope
from lib.errors import Invalid, NotFound
from quotas import ledger, words
from quotas.decision import Decision, can_user_query
from quotas.models import Account, Meter
from quotas.standing import account_of

# Browsers hold a form to this list also where its answer leads, which is Stripe's own page; the rest of the site stays shut.
may_lead_to_stripe = csp_update({"form-action": ["https://checkout.stripe.com", "https://billing.stripe.com"]})


@may_lead_to_stripe
@public("who wants to buy must see prices first; it shows what the brand offers to everybody")
@require_safe
def prices(request: BrandRequest) -> HttpResponse:
    shop = pricing.shop(request.brand)
    if request.user.is_authenticated:
        request.principal = principal = member_of(request)
        try:
            with scope(principal) as request.standing:
                return _prices(request, shop, principal)
        except NotFound:  # signed in, and a stranger here
            pass
    return _prices(request, shop, None)


def _prices(request: BrandRequest, shop: pricing.Shop, principal: Principal | None) -> HttpResponse:
    current = lifecycle.current(request.brand, principal.owner_id) if principal else None
    way_in = f"{reverse('account_signup')}?{urlencode({'next': reverse('pricing')})}"
    may_try = principal is None or not lifecycle.had_trial(request.brand, principal.owner_id)
    cards = pricing.cards(shop, is_member=principal is not None, current=current, may_try=may_try)
    context = {
        "brand": request.brand,
        "cards": [card for card in cards if not card.is_metered],
        "metered": [card for card in cards if card.is_metered],
        "packs": [pricing.pack_card(offer) for offer in shop.packs],
        "questions": pricing.questions(shop),
        "has_years": shop.has_years,
        "months_free": shop.months_free,
        "is_member": principal is not None,
        "form_token": uuid4(),
        "sign_up": reverse("conversations:new") if request.user.is_authenticated else way_in,
    }
    return render(request, "billing/pricing.html", context)


@may_lead_to_stripe
@member_goes_out
@require_safe
def plan_and_usage(request: BrandRequest) -> HttpResponse:
    return _plan_page(request, _decided(request), before=_row_id(request.GET.get("before", "")))


def _decided(request: BrandRequest) -> Decision:
    """What one question would be paid from now, by the rule that takes it; asked as the service."""
    one = {Meter.QUERIES.value: 1, Meter.MESSAGES.value: 1}
    return can_user_query(request.brand, asker=(Account.Kind.USER.value, request.principal.owner_id), amounts=one)


def _row_id(given: str) -> UUID | None:
    try:
        return UUID(given) if given else None
    except ValueError:
        raise Invalid(_("This page has no such place. Go back to the newest.")) from None


def _plan_page(
    request: BrandRequest, decision: Decision, *, before: UUID | None = None, form: OverageForm | None = None
) -> HttpResponse:
    brand, principal, now = request.brand, request.principal, clock.now()
    zone = brand.zone
    with scope(principal) as request.standing:
        subscription = lifecycle.current(brand, principal.owner_id)
        extra = _extra(request, decision, subscription)
        packs = overview.packs_of(principal)
        uses, next_uses = overview.uses(principal, zone, before)
        paid = overview.transactions(principal, zone)
        plan = subscription.plan if subscription else None
        context = {
            "brand": brand,
            "here": "plan-and-usage",
            "plan": plan,
            "plan_price": overview.price_of(plan, subscription.cycle) if subscription and plan else "",
            "plan_status": overview.status_name(subscription),
            "is_past_due": bool(subscription and subscription.status == overview.Status.PAST_DUE),
            "words": overview.status_words(subscription, zone) if subscription else [],
            "promises": promises(plan, brand, may_try=False) if plan else [],
            "can_cancel": bool(subscription and overview.can_cancel(subscription)),
            "decision": decision,
            "says": decision.detail.removesuffix(str(words.KEPT)).strip(),  # nothing was sent from here
            "meters": overview.meter_rows(decision.meters, zone, now),
            "pockets": overview.pockets(decision, extra, zone, now),
            "overage": extra,
            "form": form or _overage_form(extra),
            "packs": [overview.pack_row(pack, zone, now) for pack in overview.in_turn(packs, now)],
            "packs_on_offer": [pricing.pack_card(offer) for offer in pricing.packs(brand)],
            "chart": overview.chart(principal, zone, now),
            "transactions": paid,
            "has_provider": bool(paid or extra.is_billable or (subscription and subscription.provider)),
            "uses": uses,
            "next_uses": next_uses,
            "form_token": uuid4(),
        }
        return render(request, "billing/plan.html", context, status=400 if form else 200)


def _extra(request: BrandRequest, decision: Decision, subscription: Subscription | None) -> Overage:
    account = account_of(request.brand, kind=Account.Kind.USER, owner_id=request.principal.owner_id)
    return overview.overage_of(account, decision.beyond, subscription)


def _overage_form(extra: Overage, data: Any = None) -> OverageForm:
    initial = {"on": extra.is_on, "cap": extra.cap_in_field}
    return OverageForm(
        data,
        most_microusd=extra.most_microusd,
        each_microusd=extra.each_microusd,
        currency=extra.currency,
        initial=initial,
    )


@may_lead_to_stripe
@member_goes_out
@require_POST
def overage(request: BrandRequest) -> HttpResponse:
    """Switch extra questions on or off, and set the cap. What does not fit is refused at its field, with the text kept."""
    principal, decision = request.principal, _decided(request)
    with scope(principal):
        extra = _extra(request, decision, lifecycle.current(request.brand, principal.owner_id))
    if not extra.is_allowed:
        raise Invalid(_("Your plan has no extra questions, so there is nothing to switch on."))
    form = _overage_form(extra, request.POST)
    if not form.is_valid():
        return _plan_page(request, decision, form=form)
    is_on = (
        form.cleaned_data["on"] and not extra.is_by_default
    )  # what the plan does by itself is not the member's choice
    ledger.set_overage(
        request.brand,
        principal.owner_id,
        on=is_on,
        cap_microusd=form.cleaned_data["cap"],
        actor_id=principal.owner_id,
    )
    messages.success(request, _saved(extra, is_on))
    return HttpResponseRedirect(reverse("plan-and-usage") + "#overage", status=303)


def _saved(extra: Overage, is_on: bool) -> str:
    if extra.is_by_default:
        return _("The cap is saved.")
    if is_on:
        return _("Extra %(units)s are on, up to the cap.") % {"units": extra.units}
    return _("Extra %(units)s are off. Nothing more is charged.") % {"units": extra.units}
