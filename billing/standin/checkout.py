"""Checkout sessions: a page on which a customer pays for a plan or a pack, or leaves a card."""

from typing import Any
from urllib.parse import urlsplit

from django.urls import reverse
from stripe.params import checkout as asked

from billing.standin import cards, catalogue, customers, invoices, payments, subscriptions
from billing.standin.lines import Line
from billing.standin.models import StandInObject
from billing.standin.proration import usable_price
from billing.standin.refusals import Refusal, declined, missing, not_here
from billing.standin.routes import PAGING, route
from billing.standin.store import Body, a_list, add, change, find, merge_metadata, new_id, page, seconds, tell
from lib import clock

OPEN_S, SHORTEST_S = 24 * 3600, 30 * 60
ONLY_IN = {  # a parameter and the one mode that takes it
    "subscription_data": "subscription",
    "payment_method_collection": "subscription",
    "payment_intent_data": "payment",
    "invoice_creation": "payment",
    "setup_intent_data": "setup",
}
HONOURED = (
    "mode customer client_reference_id success_url cancel_url metadata currency expires_at line_items.price "
    "line_items.quantity subscription_data.metadata subscription_data.trial_period_days subscription_data.trial_end "
    "subscription_data.trial_settings.end_behavior.missing_payment_method payment_method_collection "
    "payment_intent_data.metadata payment_intent_data.description payment_intent_data.setup_future_usage "
    "invoice_creation.enabled invoice_creation.invoice_data.metadata setup_intent_data.metadata payment_method_types "
    "locale submit_type"
)


@route("POST", "/v1/checkout/sessions", asked.SessionCreateParams, HONOURED)
def create(params: dict[str, Any]) -> Body:
    mode = params.get("mode")
    if mode is None:
        raise missing("mode")
    if "success_url" not in params:
        raise missing("success_url")
    for name, only in ONLY_IN.items():
        if name in params and mode != only:
            raise Refusal(f"You can not pass `{name}` in `{mode}` mode.", param=name)
    if "customer" not in params:
        raise not_here("a session without a customer")
    customer = find("customer", params["customer"], param="customer")
    currency = params.get("currency")
    lines = _lines(params, mode, currency)
    trial = _trial_end(params.get("subscription_data", {}), customers.own_time(customer.pk))
    total = 0 if trial else sum(line["amount_total"] for line in lines)
    its_id = new_id("cs_test")
    row = add(
        "checkout.session",
        "cs_test",
        {
            "id": its_id,
            "adaptive_pricing": None,
            "after_expiration": None,
            "allow_promotion_codes": None,
            "amount_subtotal": total if lines else None,
            "amount_total": total if lines else None,
            "automatic_tax": {"enabled": False, "liability": None, "provider": None, "status": None},
            "billing_address_collection": None,
            "cancel_url": params.get("cancel_url"),
            "client_reference_id": params.get("client_reference_id"),
            "client_secret": None,
            "consent": None,
            "consent_collection": None,
            "currency": lines[0]["currency"] if lines else currency,
            "currency_conversion": None,
            "custom_fields": [],
            "custom_text": dict.fromkeys(("after_submit", "shipping_address", "submit", "terms_of_service_acceptance")),
            "customer": customer.pk,
            "customer_creation": None,
            "customer_details": _details(customer.body),
            "customer_email": None,
            "discounts": [],
            "expires_at": _expires_at(params),
            "invoice": None,
            "invoice_creation": _invoice_creation(params) if mode == "payment" else None,
            "livemode": False,
            "locale": params.get("locale"),
            "metadata": merge_metadata({}, params.get("metadata")),
            "mode": mode,
            "payment_intent": None,
            "payment_link": None,
            "payment_method_collection": params.get("payment_method_collection", "always")
            if mode == "subscription"
            else None,
            "payment_method_types": params.get("payment_method_types", ["card", "us_bank_account"]),
            "payment_status": "no_payment_required" if mode == "setup" else "unpaid",
            "phone_number_collection": {"enabled": False},
            "setup_intent": None,
            "shipping_address_collection": None,
            "shipping_cost": None,
            "shipping_options": [],
            "status": "open",
            "submit_type": params.get("submit_type"),
            "subscription": None,
            "success_url": params["success_url"],
            "total_details": {"amount_discount": 0, "amount_shipping": 0, "amount_tax": 0} if lines else None,
            "url": _origin(params["success_url"]) + reverse("stand-in:checkout", args=[its_id]),
        },
        includable={"line_items": a_list(lines, f"/v1/checkout/sessions/{its_id}/line_items")},
        params=params,
        origin=_origin(params["success_url"]),
    )
    return row.body


@route("GET", "/v1/checkout/sessions/{}", asked.SessionRetrieveParams)
def retrieve(params: dict[str, Any], its_id: str) -> Body:
    return find("checkout.session", its_id).body


@route(
    "GET",
    "/v1/checkout/sessions",
    asked.SessionListParams,
    f"{PAGING} customer payment_intent subscription status",
)
def list_sessions(params: dict[str, Any]) -> Body:
    names = ("customer", "payment_intent", "subscription", "status")
    where = {f"body__{name}": params[name] for name in names if name in params}
    return page("checkout.session", params, "/v1/checkout/sessions", **where)


@route("GET", "/v1/checkout/sessions/{}/line_items", asked.SessionListLineItemsParams, "limit")
def line_items(params: dict[str, Any], its_id: str) -> Body:
    items: Body = find("checkout.session", its_id).inside["includable"]["line_items"]
    return items


@route("POST", "/v1/checkout/sessions/{}/expire", asked.SessionExpireParams)
def expire(params: dict[str, Any], its_id: str) -> Body:
    row = find("checkout.session", its_id)
    if row.body["status"] != "open":
        raise Refusal(
            f'Only Checkout Sessions with a status in ["open"] can be expired. This one is {row.body["status"]}.'
        )
    return expire_row(row).body


def expire_row(row: StandInObject) -> StandInObject:
    return change(row, "checkout.session.expired", status="expired", url=None)


def complete(row: StandInObject, code: str) -> StandInObject:
    """The customer pays with this card (`cards.CARDS`), or begins a trial without one ("none").

    A session that is complete stays as it is: nothing is paid twice.
    Raises Refusal  the card was declined, which is final for this try only; or the session is over
    """
    if row.body["status"] == "complete":
        return row
    if row.body["status"] != "open" or row.body["expires_at"] <= seconds(clock.now()):
        raise Refusal("This checkout session has expired.", code="checkout_session_expired")
    may_skip = row.body["payment_method_collection"] == "if_required" and row.body["amount_total"] == 0
    if code not in cards.CARDS and not may_skip:
        raise Refusal("Choose a card.", param="payment_method")
    method = cards.attach(row.body["customer"], code) if code in cards.CARDS else None
    finish = {"payment": _pay, "subscription": _subscribe, "setup": _set_up}[row.body["mode"]]
    values = finish(row, method)
    change(row, status="complete", url=None, **values)
    tell("checkout.session.completed", row.body)
    return row


def payment_ended(intent: str, invoice: str | None, *, succeeds: bool) -> None:
    """News of a payment that was under way when its session was completed."""
    sessions = StandInObject.objects.filter(kind="checkout.session", body__payment_status="unpaid")
    row = (
        sessions.filter(body__invoice=invoice).first()
        if invoice
        else sessions.filter(body__payment_intent=intent).first()
    )
    if row is None or row.body["status"] != "complete":
        return
    if succeeds:
        values = {"invoice": _receipt(row, find("payment_intent", intent)).pk} if _wants_receipt(row) else {}
        change(row, payment_status="paid", **values)
    tell(f"checkout.session.async_payment_{'succeeded' if succeeds else 'failed'}", row.body)


def _pay(row: StandInObject, method: StandInObject | None) -> Body:
    assert method is not None
    body, data = row.body, row.inside["params"].get("payment_intent_data", {})
    intent = payments.pay(
        body["customer"],
        method,
        body["amount_total"],
        body["currency"],
        at=customers.own_time(body["customer"]),
        is_confirmed=True,
        description=data.get("description"),
        metadata=merge_metadata({}, data.get("metadata")),
    )
    if intent.body["status"] == "requires_payment_method":
        cards.detach(method)
        raise declined(is_final=True)
    if data.get("setup_future_usage"):
        change(intent, setup_future_usage=data["setup_future_usage"])
        cards.make_default(body["customer"], method.pk)
    values: Body = {"payment_intent": intent.pk}
    if intent.body["status"] == "succeeded":
        values["payment_status"] = "paid"
        if _wants_receipt(row):
            values["invoice"] = _receipt(row, intent).pk
    return values


def _wants_receipt(row: StandInObject) -> bool:
    return bool((row.body["invoice_creation"] or {}).get("enabled"))


def _receipt(row: StandInObject, intent: StandInObject) -> StandInObject:
    at = customers.own_time(row.body["customer"])
    lines = [
        Line(item["description"], item["amount_total"], item["price"], at, at, quantity=item["quantity"])
        for item in row.inside["includable"]["line_items"]["data"]
    ]
    invoice = invoices.draw_up(
        row.body["customer"],
        lines,
        reason="manual",
        currency=row.body["currency"],
        at=at,
        metadata=row.body["invoice_creation"]["invoice_data"]["metadata"],
        origin=row.inside["origin"],
        uses_credit=False,
    )
    invoices.finalize(invoice, at)
    return invoices.paid_by(invoice, intent, at)


def _subscribe(row: StandInObject, method: StandInObject | None) -> Body:
    data, items = row.inside["params"].get("subscription_data", {}), row.inside["includable"]["line_items"]["data"]
    at = customers.own_time(row.body["customer"])
    subscription = subscriptions.begin(
        row.body["customer"],
        [(item["price"], item["quantity"]) for item in items],
        method=method,
        origin=row.inside["origin"],
        trial_end=_trial_end(data, at),
        missing_method=data.get("trial_settings", {})
        .get("end_behavior", {})
        .get("missing_payment_method", "create_invoice"),
        metadata=merge_metadata({}, data.get("metadata")),
    )
    is_pending = subscription.body["status"] == "incomplete"
    return {
        "subscription": subscription.pk,
        "invoice": subscription.body["latest_invoice"],
        "payment_status": "unpaid" if is_pending else "paid",
    }


def _set_up(row: StandInObject, method: StandInObject | None) -> Body:
    assert method is not None
    if cards.of(method).at_once == "failed":
        cards.detach(method)
        raise declined(is_final=True)
    metadata = merge_metadata({}, row.inside["params"].get("setup_intent_data", {}).get("metadata"))
    return {"setup_intent": payments.set_up(row.body["customer"], method, metadata).pk}


def _lines(params: dict[str, Any], mode: str, currency: str | None) -> list[Body]:
    if mode == "setup":
        if "line_items" in params:
            raise Refusal("You can not pass `line_items` in `setup` mode.", param="line_items")
        if currency is None and "payment_method_types" not in params:
            raise missing("currency")
        return []
    if not params.get("line_items"):
        raise missing("line_items")
    lines = []
    for number, wanted in enumerate(params["line_items"]):
        if "price" not in wanted:
            raise missing(f"line_items[{number}][price]")
        price = find("price", wanted["price"], param=f"line_items[{number}][price]").body
        is_recurring = price["recurring"] is not None
        if mode == "payment" and is_recurring:
            raise Refusal(
                "You specified `payment` mode but passed a recurring price. Either switch to `subscription` mode or "
                "use only one-time prices.",
                param=f"line_items[{number}][price]",
            )
        if mode == "subscription" and not is_recurring:
            raise not_here("a one-time price in a subscription's session")
        usable_price(price["id"], currency, param=f"line_items[{number}][price]", is_recurring=is_recurring)
        currency = price["currency"]
        lines.append(_line(price, wanted, number))
    return lines


def _line(price: Body, wanted: dict[str, Any], number: int) -> Body:
    metered = (price["recurring"] or {}).get("usage_type") == "metered"
    if metered and "quantity" in wanted:
        raise Refusal("Metered prices take no quantity.", param=f"line_items[{number}][quantity]")
    if not metered and "quantity" not in wanted:
        raise missing(f"line_items[{number}][quantity]")
    quantity = wanted.get("quantity")
    if quantity is not None and quantity < 1:
        raise Refusal("Invalid positive integer", code="parameter_invalid_integer", param="quantity")
    cents = 0 if quantity is None else catalogue.money(price, quantity)
    return {
        "id": new_id("li"),
        "object": "item",
        "amount_discount": 0,
        "amount_subtotal": cents,
        "amount_tax": 0,
        "amount_total": cents,
        "currency": price["currency"],
        "description": find("product", price["product"]).body["name"],
        "price": price,
        "quantity": quantity,
    }


def _trial_end(data: dict[str, Any], at: int) -> int | None:
    if "trial_end" in data and "trial_period_days" in data:
        raise Refusal("You may only specify one of these parameters: trial_end, trial_period_days.")
    if "trial_period_days" in data:
        if data["trial_period_days"] < 1:
            raise Refusal("The minimum number of trial period days is 1.", param="subscription_data[trial_period_days]")
        return at + int(data["trial_period_days"]) * 24 * 3600
    ends: int | None = data.get("trial_end")
    return ends


def _expires_at(params: dict[str, Any]) -> int:
    now = seconds(clock.now())
    expires = int(params.get("expires_at", now + OPEN_S))
    if not now + SHORTEST_S <= expires <= now + OPEN_S:
        raise Refusal(
            "The `expires_at` timestamp must be at least 30 minutes and less than 24 hours from Checkout Session "
            "creation.",
            param="expires_at",
        )
    return expires


def _invoice_creation(params: dict[str, Any]) -> Body:
    wanted = params.get("invoice_creation", {})
    blank = dict.fromkeys(("account_tax_ids", "custom_fields", "description", "footer", "issuer", "rendering_options"))
    metadata = merge_metadata({}, wanted.get("invoice_data", {}).get("metadata"))
    return {"enabled": wanted.get("enabled", False), "invoice_data": {**blank, "metadata": metadata}}


def _details(customer: Body) -> Body:
    return {
        "address": cards.NO_ADDRESS,
        "email": customer["email"],
        "name": customer["name"],
        "phone": None,
        "tax_exempt": "none",
        "tax_ids": [],
    }


def _origin(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise Refusal("Not a valid URL", code="url_invalid", param="success_url")
    return f"{parts.scheme}://{parts.netloc}"
