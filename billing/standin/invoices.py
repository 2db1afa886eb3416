"""Invoices: drawn up from lines, numbered when they are final, paid or not."""

from typing import Any

from django.urls import reverse
from stripe import params as asked

from billing.standin import customers, payments
from billing.standin.lines import Line
from billing.standin.models import StandInObject
from billing.standin.refusals import Refusal
from billing.standin.routes import PAGING, route
from billing.standin.store import Body, a_list, add, change, find, new_id, page, tell

RETRY_AFTER_S = tuple(days * 24 * 3600 for days in (3, 5, 7))  # then the subscription ends
AUTOMATIC_TAX_OFF = {"disabled_reason": None, "enabled": False, "liability": None, "provider": None, "status": None}


def draw_up(
    customer: str,
    lines: list[Line],
    *,
    reason: str,
    currency: str,
    at: int,
    subscription: Body | None = None,
    metadata: dict[str, str] | None = None,
    origin: str = "",
    uses_credit: bool = True,
) -> StandInObject:
    """A draft. What the customer has to their credit is taken into account, but where they paid already."""
    body = _body(customer, lines, reason=reason, currency=currency, at=at, subscription=subscription)
    if not uses_credit:
        body |= {"amount_due": body["total"], "amount_remaining": body["total"], "starting_balance": 0}
        body["ending_balance"] = find("customer", customer).body["balance"]
    nothing_paid = {"payments": a_list([], "/v1/invoice_payments")}
    row = add("invoice", "in", body | {"metadata": metadata or {}}, origin=origin, includable=nothing_paid)
    lines_of = [line | {"invoice": row.pk} for line in body["lines"]["data"]]
    row = change(row, lines=a_list(lines_of, f"/v1/invoices/{row.pk}/lines"))
    tell("invoice.created", row.body)
    return row


def finalize(row: StandInObject, at: int) -> StandInObject:
    """Give it its number and close it to changes. Nothing to pay is paid."""
    customer = find("customer", row.body["customer"])
    number = customer.body["next_invoice_sequence"]
    balance = {} if customer.body["balance"] == row.body["ending_balance"] else {"balance": row.body["ending_balance"]}
    change(customer, "customer.updated" if balance else "", next_invoice_sequence=number + 1, **balance)
    link = row.inside["origin"] + reverse("stand-in:invoice", args=[row.pk])
    change(
        row,
        "invoice.finalized",
        number=f"{customer.body['invoice_prefix']}-{number:04d}",
        status="open",
        effective_at=at,
        hosted_invoice_url=link,
        invoice_pdf=link,
        status_transitions={**row.body["status_transitions"], "finalized_at": at},
    )
    if row.body["amount_due"] == 0:
        _paid(row, at, cents=0)
    return row


def collect(row: StandInObject, method: StandInObject | None, *, at: int, is_confirmed: bool) -> str:
    """Try once to take what is due. Returns "paid", "failed" or "processing".

    is_confirmed  the customer is there and said yes; without a card there is nobody to take it from
    """
    if row.body["status"] == "paid":
        return "paid"
    if method is None:
        return _failed(row, at, None)
    intent = payments.pay(
        row.body["customer"],
        method,
        row.body["amount_due"],
        row.body["currency"],
        at=at,
        is_confirmed=is_confirmed,
        description="Subscription update" if row.body["parent"] else f"Invoice {row.body['number']}",
    )
    _record_payment(row, intent)
    if intent.body["status"] == "processing":
        change(row, "invoice.updated", attempted=True, next_payment_attempt=None)
        return "processing"
    if intent.body["status"] != "succeeded":
        return _failed(row, at, intent)
    _paid(row, at, cents=row.body["amount_due"])
    return "paid"


def paid_by(row: StandInObject, intent: StandInObject, at: int) -> StandInObject:
    """The invoice of what was paid before there was one."""
    _record_payment(row, intent)
    _paid(row, at, cents=row.body["amount_due"])
    return row


def settle(intent: StandInObject, at: int, *, succeeds: bool) -> StandInObject | None:
    """The invoice of a payment that was under way, after it arrived or did not."""
    payment = StandInObject.objects.filter(
        kind="invoice_payment", body__payment__payment_intent=intent.pk, body__status="open"
    ).first()
    if payment is None:
        return None
    row = find("invoice", payment.body["invoice"])
    if succeeds:
        _paid(row, at, cents=row.body["amount_due"])
    else:
        _failed(row, at, intent)
    return row


def _paid(row: StandInObject, at: int, *, cents: int) -> None:
    for payment in _open_payments(row):
        transitions = {"canceled_at": None, "paid_at": at}
        change(payment, "invoice_payment.paid", status="paid", amount_paid=cents, status_transitions=transitions)
    change(
        row,
        status="paid",
        amount_paid=cents,
        amount_remaining=0,
        attempted=True,
        attempt_count=row.body["attempt_count"] + (cents > 0),
        auto_advance=False,
        next_payment_attempt=None,
        status_transitions={**row.body["status_transitions"], "paid_at": at},
    )
    _include_payments(row)
    for what in ("invoice.updated", "invoice.paid", "invoice.payment_succeeded"):
        tell(what, row.body)


def _failed(row: StandInObject, at: int, intent: StandInObject | None) -> str:
    tries = row.body["attempt_count"] + 1
    again = at + RETRY_AFTER_S[tries - 1] if tries <= len(RETRY_AFTER_S) else None
    change(row, attempted=True, attempt_count=tries, next_payment_attempt=again, auto_advance=again is not None)
    _include_payments(row)
    tell("invoice.updated", row.body)
    tell("invoice.payment_failed", row.body)
    return "failed"


def _record_payment(row: StandInObject, intent: StandInObject) -> None:
    for payment in _open_payments(row):
        change(payment, status="canceled")
    add(
        "invoice_payment",
        "inpay",
        {
            "amount_paid": None,
            "amount_requested": intent.body["amount"],
            "currency": intent.body["currency"],
            "invoice": row.pk,
            "is_default": True,
            "payment": {"type": "payment_intent", "payment_intent": intent.pk},
            "status": "open",
            "status_transitions": {"canceled_at": None, "paid_at": None},
        },
    )
    _include_payments(row)


def _open_payments(row: StandInObject) -> list[StandInObject]:
    return list(StandInObject.objects.filter(kind="invoice_payment", body__invoice=row.pk, body__status="open"))


def _include_payments(row: StandInObject) -> None:
    found = StandInObject.objects.filter(kind="invoice_payment", body__invoice=row.pk).order_by("pk")
    payments_of = a_list([payment.body for payment in found], "/v1/invoice_payments")
    row.inside = {**row.inside, "includable": {"payments": payments_of}}
    row.save()


def _body(customer: str, lines: list[Line], *, reason: str, currency: str, at: int, subscription: Body | None) -> Body:
    owner = find("customer", customer).body
    total = sum(line.cents for line in lines)
    owed = total + owner["balance"]
    starts = min((line.start for line in lines), default=at)
    return {
        "account_country": "US",
        "account_name": "Local stand-in for Stripe",
        "amount_due": max(0, owed),
        "amount_overpaid": 0,
        "amount_paid": 0,
        "amount_remaining": max(0, owed),
        "amount_shipping": 0,
        "attempt_count": 0,
        "attempted": False,
        "auto_advance": True,
        "automatic_tax": AUTOMATIC_TAX_OFF,
        "automatically_finalizes_at": None,
        "billing_reason": reason,
        "collection_method": "charge_automatically",
        "created": at,
        "currency": currency,
        "customer": customer,
        "customer_address": None,
        "customer_email": owner["email"],
        "customer_name": owner["name"],
        "customer_tax_exempt": "none",
        "customer_tax_ids": [],
        "default_payment_method": None,
        "default_tax_rates": [],
        "description": None,
        "discounts": [],
        "due_date": None,
        "effective_at": None,
        "ending_balance": min(0, owed),
        "hosted_invoice_url": None,
        "invoice_pdf": None,
        "issuer": {"type": "self"},
        "lines": a_list([line_body(line, subscription) for line in lines], "/v1/invoices/lines"),
        "next_payment_attempt": None,
        "number": None,
        "parent": _parent(subscription),
        "payment_settings": {"default_mandate": None, "payment_method_options": None, "payment_method_types": None},
        "period_end": at,
        "period_start": min(starts, at),
        "post_payment_credit_notes_amount": 0,
        "pre_payment_credit_notes_amount": 0,
        "receipt_number": None,
        "starting_balance": owner["balance"],
        "status": "draft",
        "status_transitions": dict.fromkeys(("finalized_at", "marked_uncollectible_at", "paid_at", "voided_at")),
        "subtotal": total,
        "subtotal_excluding_tax": total,
        "total": total,
        "total_discount_amounts": [],
        "total_excluding_tax": total,
        "total_pretax_credit_amounts": [],
        "total_taxes": [],
        "webhooks_delivered_at": at,
    }


def _parent(subscription: Body | None) -> Body | None:
    if subscription is None:
        return None
    details = {"metadata": subscription["metadata"], "subscription": subscription["id"]}
    return {"type": "subscription_details", "quote_details": None, "subscription_details": details}


def line_body(line: Line, subscription: Body | None) -> Body:
    details = {"proration": line.is_proration, "proration_details": {"credited_items": None}}
    if line.item is None:
        kind, details = "invoice_item_details", details | {"invoice_item": new_id("ii"), "subscription": None}
    else:
        kind = "subscription_item_details"
        details |= {"invoice_item": None, "subscription_item": line.item}
        details["subscription"] = subscription["id"] if subscription else None
    return {
        "id": new_id("il"),
        "object": "line_item",
        "amount": line.cents,
        "currency": line.price["currency"],
        "description": line.description,
        "discount_amounts": [],
        "discountable": not line.is_proration,
        "discounts": [],
        "invoice": None,
        "livemode": False,
        "metadata": {},
        "parent": {"type": kind, kind: details},
        "period": {"end": line.end, "start": line.start},
        "pretax_credit_amounts": [],
        "pricing": {
            "type": "price_details",
            "price_details": {"price": line.price["id"], "product": line.price["product"]},
            "unit_amount_decimal": line.price["unit_amount_decimal"],
        },
        "quantity": line.quantity,
        "subtotal": line.cents,
        "taxes": [],
    }


def preview(
    customer: str, lines: list[Line], *, reason: str, currency: str, at: int, subscription: Body | None
) -> Body:
    body = _body(customer, lines, reason=reason, currency=currency, at=at, subscription=subscription)
    return {"id": new_id("upcoming_in"), "object": "invoice", "livemode": False, "metadata": {}, **body}


@route("GET", "/v1/invoices/{}", asked.InvoiceRetrieveParams)
def retrieve(params: dict[str, Any], its_id: str) -> Body:
    return find("invoice", its_id).body


@route("GET", "/v1/invoices", asked.InvoiceListParams, f"{PAGING} customer subscription status")
def list_invoices(params: dict[str, Any]) -> Body:
    where = {f"body__{name}": params[name] for name in ("customer", "status") if name in params}
    if "subscription" in params:
        where["body__parent__subscription_details__subscription"] = params["subscription"]
    return page("invoice", params, "/v1/invoices", **where)


@route(
    "GET",
    "/v1/invoice_payments",
    asked.InvoicePaymentListParams,
    f"{PAGING} invoice payment.type payment.payment_intent status",
)
def list_payments(params: dict[str, Any]) -> Body:
    where = {f"body__{name}": params[name] for name in ("invoice", "status") if name in params}
    where |= {f"body__payment__{name}": value for name, value in params.get("payment", {}).items()}
    return page("invoice_payment", params, "/v1/invoice_payments", **where)


@route("GET", "/v1/invoice_payments/{}", asked.InvoicePaymentRetrieveParams)
def retrieve_payment(params: dict[str, Any], its_id: str) -> Body:
    return find("invoice_payment", its_id).body


@route("POST", "/v1/invoices/{}/void", asked.InvoiceVoidInvoiceParams)
def void(params: dict[str, Any], its_id: str) -> Body:
    row = find("invoice", its_id)
    if row.body["status"] != "open":
        raise Refusal("You can only void open invoices.", code="invoice_not_editable")
    return write_off(row).body


def write_off(row: StandInObject) -> StandInObject:
    at = customers.own_time(row.body["customer"])
    transitions = {**row.body["status_transitions"], "voided_at": at}
    values = {"status": "void", "auto_advance": False, "next_payment_attempt": None, "status_transitions": transitions}
    return change(row, "invoice.voided", **values)


def default_method(customer: str, subscription: Body | None = None) -> StandInObject | None:
    """The card that is charged without asking: the subscription's, else the customer's."""
    of_customer = find("customer", customer).body["invoice_settings"]["default_payment_method"]
    for its_id in ((subscription or {}).get("default_payment_method"), of_customer):
        found = StandInObject.objects.filter(pk=its_id or "", kind="payment_method", body__customer=customer).first()
        if found:
            return found
    return None
