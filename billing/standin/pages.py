"""The stand-in's own pages: where a customer pays, keeps cards and invoices. At the real Stripe they are Stripe's.

Whoever has the link of a session may use it, as there; the link is what cannot be guessed.
"""

from datetime import UTC, datetime

from django import forms
from django.conf import settings
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods, require_safe

from accounts.access import public
from billing.standin import cards, customers, invoices, payments, renewals, subscriptions
from billing.standin import checkout as sessions
from billing.standin.models import StandInObject
from billing.standin.portal import LASTS_S
from billing.standin.refusals import Refusal
from billing.standin.store import Body, asking, attempt, changing, find, seconds
from lib import clock
from lib.errors import NotFound

LINK = "whoever has the link of a session may use it, as at Stripe; it cannot be guessed"
NO_CARD = "none"


class PayForm(forms.Form):
    card = forms.ChoiceField(choices=[(code, card.label) for code, card in cards.CARDS.items()] + [(NO_CARD, "")])


class PortalForm(forms.Form):
    do = forms.ChoiceField(choices=[(name, name) for name in ("card", "cancel", "resume", "change", "pay")])
    id = forms.CharField(required=False, max_length=80)
    card = forms.ChoiceField(choices=[(code, card.label) for code, card in cards.CARDS.items()], required=False)
    price = forms.CharField(required=False, max_length=80)


@public(LINK)
@require_http_methods(["GET", "HEAD", "POST"])
def checkout(request: HttpRequest, session_id: str) -> HttpResponse:
    _only_when_on()
    said, status = "", 200
    if request.method == "POST":
        form = PayForm(request.POST)
        if form.is_valid():
            with changing():
                row = _session("checkout.session", session_id)
                done, refused = attempt(lambda: sessions.complete(row, form.cleaned_data["card"]))
            if done is not None:
                return HttpResponseRedirect(_after(done), status=303)
            said, status = str(refused), 402
        else:
            said, status = _("Choose a card."), 422
    with asking():
        context = _checkout(_session("checkout.session", session_id))
    return render(request, "stand_in/checkout.html", {**context, "error": said}, status=status)


@public(LINK)
@require_http_methods(["GET", "HEAD", "POST"])
def portal(request: HttpRequest, session_id: str) -> HttpResponse:
    _only_when_on()
    said, status = "", 200
    with changing():
        session = _session("billing_portal.session", session_id)
        if session.body["created"] + LASTS_S < seconds(clock.now()):
            raise NotFound(_("This link is over. Open the page from your plan again."))
        customer = session.body["customer"]
        renewals.catch_up(customer)
        if request.method == "POST":
            _done, refused = attempt(lambda: _do(customer, PortalForm(request.POST)))
            if refused is not None:
                said, status = str(refused), 402
        context = _portal(session, customer)
    if request.method == "POST" and not said:
        return HttpResponseRedirect(request.path, status=303)
    return render(request, "stand_in/portal.html", {**context, "error": said}, status=status)


@public(LINK)
@require_safe
def invoice(request: HttpRequest, invoice_id: str) -> HttpResponse:
    _only_when_on()
    with asking():
        body = _session("invoice", invoice_id).body
    return render(request, "stand_in/invoice.html", {"invoice": _shown(body), "lines": body["lines"]["data"]})


def _only_when_on() -> None:
    """Before anything is locked or looked for: in production anybody may ask."""
    if not settings.STRIPE_STAND_IN:
        raise NotFound()


def _session(kind: str, its_id: str) -> StandInObject:
    row = StandInObject.objects.filter(pk=its_id, kind=kind).first()
    if row is None:
        raise NotFound(_("There is no such page. Perhaps the link is incomplete."))
    return row


def _checkout(row: StandInObject) -> Body:
    body = row.body
    data = row.inside["params"].get("subscription_data", {})
    return {
        "session": body,
        "items": row.inside["includable"]["line_items"]["data"],
        "cards": cards.CARDS,
        "may_skip_card": body["payment_method_collection"] == "if_required" and body["amount_total"] == 0,
        "trial_days": data.get("trial_period_days"),
        "is_over": body["status"] == "expired" or body["expires_at"] <= seconds(clock.now()),
        "done_url": _after(row),
    }


def _after(row: StandInObject) -> str:
    url: str = row.body["success_url"]
    return url.replace("{CHECKOUT_SESSION_ID}", row.pk)


def _portal(session: StandInObject, customer: str) -> Body:
    owner = find("customer", customer).body
    of_customer = StandInObject.objects.filter(body__customer=customer).order_by("-pk")
    return {
        "session": session.body,
        "customer": owner,
        "used_cards": {
            owner["invoice_settings"]["default_payment_method"],
            *(row.body["default_payment_method"] for row in subscriptions.running(customer)),
        },
        "methods": [row.body for row in of_customer.filter(kind="payment_method")],
        "plans": [_plan(row) for row in subscriptions.running(customer)],
        "invoices": [_shown(row.body) for row in of_customer.filter(kind="invoice").exclude(body__status="draft")[:24]],
        "cards": cards.CARDS,
    }


def _plan(row: StandInObject) -> Body:
    items = row.body["items"]["data"]
    main = next((item for item in items if "quantity" in item), items[0])
    price = main["price"]
    others = StandInObject.objects.filter(
        kind="price",
        body__active=True,
        body__currency=price["currency"],
        body__recurring__interval=price["recurring"]["interval"],
        body__recurring__usage_type="licensed",
        body__metadata__brand=price["metadata"].get("brand"),
    ).exclude(pk=price["id"])
    return {
        "body": row.body,
        "name": find("product", price["product"]).body["name"],
        "price": price,
        "ends_at": _moment(subscriptions.ends_at(row.body)),
        "others": [
            {"price": other.body, "name": find("product", other.body["product"]).body["name"]} for other in others
        ],
    }


def _shown(invoice: Body) -> Body:
    return {**invoice, "created_at": _moment(invoice["created"])}


def _moment(stamp: int) -> datetime:
    return datetime.fromtimestamp(stamp, UTC)


def _do(customer: str, form: PortalForm) -> None:
    if not form.is_valid():
        raise Refusal(_("Choose from the page."))
    wanted = form.cleaned_data
    if wanted["do"] == "card":
        _new_card(customer, wanted["card"])
    elif wanted["do"] == "pay":
        row = _own("invoice", customer, wanted["id"])
        subscriptions.pay_invoice({}, row.pk)
    elif wanted["do"] == "change":
        row = _own("subscription", customer, wanted["id"])
        item = next((item for item in row.body["items"]["data"] if "quantity" in item), None)
        price = find("price", wanted["price"], param="price").body
        if item is None or price["metadata"].get("brand") != item["price"]["metadata"].get("brand"):
            raise Refusal(_("Choose from the page."))
        change = {"items": [{"id": item["id"], "price": price["id"]}], "proration_behavior": "always_invoice"}
        subscriptions.update({**change, "payment_behavior": "error_if_incomplete"}, row.pk)
    else:
        row = _own("subscription", customer, wanted["id"])
        subscriptions.update({"cancel_at_period_end": wanted["do"] == "cancel"}, row.pk)


def _new_card(customer: str, code: str) -> None:
    """The card that is charged from now on; what could not be taken from the old one is tried again with it."""
    if not code:
        raise Refusal(_("Choose a card."))
    method = cards.attach(customer, code)
    if cards.of(method).at_once == "failed":
        cards.detach(method)
        raise Refusal(_("Your card was declined."), is_final=True)
    payments.set_up(customer, method, {})
    cards.make_default(customer, method.pk)
    for row in subscriptions.running(customer):
        if row.body["default_payment_method"] not in (None, method.pk):
            subscriptions.update({"default_payment_method": method.pk}, row.pk)
    for row in StandInObject.objects.filter(kind="invoice", body__customer=customer, body__status="open"):
        if row.body["attempted"]:
            invoices.collect(row, method, at=customers.own_time(customer), is_confirmed=True)
            subscriptions.follow_invoice(row)


def _own(kind: str, customer: str, its_id: str) -> StandInObject:
    row = find(kind, its_id)
    if row.body["customer"] != customer:
        raise Refusal(_("That belongs to somebody else."))
    return row
