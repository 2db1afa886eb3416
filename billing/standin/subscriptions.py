"""Subscriptions: begun at a checkout, changed, cancelled, and what their invoices do to them. Time does the rest
(renewals.py)."""

from dataclasses import asdict
from typing import Any

from stripe import params as asked

from billing.standin import customers, invoices, payments, proration
from billing.standin.cycle import period_end
from billing.standin.lines import Line, charges, usage
from billing.standin.models import StandInObject
from billing.standin.refusals import Refusal, declined, no_such, not_here
from billing.standin.routes import PAGING, route
from billing.standin.store import Body, a_list, add, change, find, merge_metadata, new_id, page, tell

OVER = ("canceled", "incomplete_expired")


def begin(
    customer: str,
    wanted: list[tuple[Body, int | None]],
    *,
    method: StandInObject | None,
    origin: str,
    trial_end: int | None = None,
    missing_method: str = "create_invoice",
    metadata: dict[str, str] | None = None,
) -> StandInObject:
    """A subscription to these prices, and its first invoice, which the customer just said yes to.

    Raises Refusal (card_declined) when the first payment fails: there is no subscription then
    """
    at = customers.own_time(customer)
    recurring = _one_interval([price for price, _ in wanted])
    ends = trial_end or period_end(at, at, recurring)
    row = add(
        "subscription",
        "sub",
        {
            "application": None,
            "application_fee_percent": None,
            "automatic_tax": {"disabled_reason": None, "enabled": False, "liability": None},
            "billing_cycle_anchor": trial_end or at,
            "billing_cycle_anchor_config": None,
            "billing_mode": {"flexible": {"proration_discounts": "included"}, "type": "flexible"},
            "billing_thresholds": None,
            "cancel_at": None,
            "cancel_at_period_end": False,
            "canceled_at": None,
            "cancellation_details": {"comment": None, "feedback": None, "reason": None},
            "collection_method": "charge_automatically",
            "created": at,
            "currency": wanted[0][0]["currency"],
            "customer": customer,
            "days_until_due": None,
            "default_payment_method": method.pk if method else None,
            "default_source": None,
            "default_tax_rates": [],
            "description": None,
            "discounts": [],
            "ended_at": None,
            "invoice_settings": {"account_tax_ids": None, "issuer": {"type": "self"}},
            "latest_invoice": None,
            "metadata": metadata or {},
            "next_pending_invoice_item_invoice": None,
            "pause_collection": None,
            "pending_invoice_item_interval": None,
            "pending_setup_intent": None,
            "pending_update": None,
            "schedule": None,
            "start_date": at,
            "status": "trialing" if trial_end else "incomplete",
            "test_clock": None,
            "transfer_data": None,
            "trial_end": trial_end,
            "trial_settings": {"end_behavior": {"missing_payment_method": missing_method}},
            "trial_start": at if trial_end else None,
        },
        origin=origin,
        pending=[],
    )
    items = [item_body(row.pk, price, quantity, start=at, end=ends) for price, quantity in wanted]
    change(row, items=a_list(items, f"/v1/subscription_items?subscription={row.pk}"))
    tell("customer.subscription.created", row.body)
    outcome = bill(row, charges(items, is_free=bool(trial_end)), reason="subscription_create", method=method)
    if outcome == "failed":
        raise declined()
    return find("subscription", row.pk)


def item_body(subscription: str, price: Body, quantity: int | None, *, start: int, end: int) -> Body:
    metered = price["recurring"]["usage_type"] == "metered"
    return {
        "id": new_id("si"),
        "object": "subscription_item",
        "billing_thresholds": None,
        "created": start,
        "current_period_end": end,
        "current_period_start": start,
        "discounts": [],
        "metadata": {},
        "price": price,
        **({} if metered else {"quantity": 1 if quantity is None else quantity}),
        "subscription": subscription,
        "tax_rates": [],
    }


def bill(
    row: StandInObject,
    lines: list[Line],
    *,
    reason: str,
    method: StandInObject | None = None,
    at: int | None = None,
    is_confirmed: bool = True,
) -> str:
    """Invoice these lines and what waits from changes, try to take the sum, and let the subscription follow."""
    waiting = [Line(**line) for line in row.inside["pending"]]
    if waiting:
        row.inside = {**row.inside, "pending": []}
        row.save()
    customer = row.body["customer"]
    at = customers.own_time(customer) if at is None else at
    invoice = invoices.draw_up(
        customer,
        [*waiting, *lines],
        reason=reason,
        currency=row.body["currency"],
        at=at,
        subscription=row.body,
        origin=row.inside["origin"],
    )
    change(row, latest_invoice=invoice.pk)
    invoices.finalize(invoice, at)
    method = method or invoices.default_method(customer, row.body)
    outcome = invoices.collect(invoice, method, at=at, is_confirmed=is_confirmed)
    follow_invoice(invoice)
    row.refresh_from_db()
    return outcome


def follow_invoice(invoice: StandInObject) -> None:
    """A paid invoice makes its subscription active, an unpaid one past due."""
    details = (invoice.body["parent"] or {}).get("subscription_details")
    if not details:
        return
    row = find("subscription", details["subscription"])
    status, is_paid = row.body["status"], invoice.body["status"] == "paid"
    if row.body["latest_invoice"] != invoice.pk or status in (*OVER, "trialing"):
        return
    if is_paid and status != "active":
        change(row, "customer.subscription.updated", status="active")
    elif not is_paid and invoice.body["attempt_count"] and status == "active":
        change(row, "customer.subscription.updated", status="past_due")


def end(row: StandInObject, *, reason: str, at: int | None = None, **details: Any) -> StandInObject:
    """It is over at once; open invoices are not collected any more."""
    at = customers.own_time(row.body["customer"]) if at is None else at
    for invoice in StandInObject.objects.filter(
        kind="invoice", body__status="open", body__parent__subscription_details__subscription=row.pk
    ):
        change(invoice, "invoice.updated", auto_advance=False, next_payment_attempt=None)
    known = {**row.body["cancellation_details"], **details}
    known["reason"] = known["reason"] or reason
    return change(
        row,
        "customer.subscription.deleted",
        status="canceled",
        canceled_at=row.body["canceled_at"] or at,
        ended_at=at,
        cancellation_details=known,
    )


def running(customer: str) -> list[StandInObject]:
    found = StandInObject.objects.filter(kind="subscription", body__customer=customer).order_by("pk")
    return [row for row in found if row.body["status"] not in OVER]


@route("GET", "/v1/subscriptions/{}", asked.SubscriptionRetrieveParams)
def retrieve(params: dict[str, Any], its_id: str) -> Body:
    return find("subscription", its_id).body


@route("GET", "/v1/subscriptions", asked.SubscriptionListParams, f"{PAGING} customer price status")
def list_subscriptions(params: dict[str, Any]) -> Body:
    """Without a status, those that are over are left out, as at Stripe."""
    where: dict[str, Any] = {"body__customer": params["customer"]} if "customer" in params else {}
    status = params.get("status")
    if status is None or status == "ended":
        wanted = OVER if status else ("active", "incomplete", "past_due", "trialing", "unpaid", "paused")
        where["body__status__in"] = wanted
    elif status != "all":
        where["body__status"] = status
    if "price" in params:
        where["body__items__data__contains"] = [{"price": {"id": params["price"]}}]
    return page("subscription", params, "/v1/subscriptions", **where)


CHANGES = (
    "items.id items.price items.quantity items.deleted items.metadata proration_behavior proration_date "
    "cancel_at_period_end cancel_at trial_end metadata default_payment_method payment_behavior billing_cycle_anchor "
    "cancellation_details description trial_settings.end_behavior.missing_payment_method off_session"
)


@route("POST", "/v1/subscriptions/{}", asked.SubscriptionUpdateParams, CHANGES)
def update(params: dict[str, Any], its_id: str) -> Body:
    row = find("subscription", its_id)
    if row.body["status"] in OVER and params.keys() - {"metadata", "cancellation_details"}:
        raise (
            no_such("subscription", its_id)
            if row.body["status"] == "incomplete_expired"
            else Refusal("A canceled subscription can only update its cancellation_details and metadata.")
        )
    at = customers.own_time(row.body["customer"])
    values = _plain_changes(row, params, at)
    lines: list[Line] = []
    plan = proration.plan(row, params, at)
    if plan is not None:
        values |= plan.values
        lines = plan.lines
    change(row, "customer.subscription.updated", **values)
    if plan is not None and plan.invoice_now:
        outcome = bill(row, lines, reason="subscription_update", at=at)
        if outcome == "failed" and params.get("payment_behavior") == "error_if_incomplete":
            raise declined()
    elif lines:
        waiting = [asdict(line) for line in lines]
        row.inside = {**row.inside, "pending": [*row.inside["pending"], *waiting]}
        row.save()
    return find("subscription", its_id).body


def _plain_changes(row: StandInObject, params: dict[str, Any], at: int) -> Body:
    values: Body = {}
    if params.get("payment_behavior", "allow_incomplete") not in ("allow_incomplete", "error_if_incomplete"):
        raise not_here(f"payment_behavior={params['payment_behavior']}")
    if "metadata" in params:
        values["metadata"] = merge_metadata(row.body["metadata"], params["metadata"])
    if "description" in params:
        values["description"] = params["description"] or None
    if "default_payment_method" in params:
        method = params["default_payment_method"]
        values["default_payment_method"] = payments.own_method(
            row.body["customer"], method, param="default_payment_method"
        ).pk
    if "trial_settings" in params:
        values["trial_settings"] = params["trial_settings"]
    details = dict(row.body["cancellation_details"])
    details |= {name: value or None for name, value in params.get("cancellation_details", {}).items()}
    if "cancel_at_period_end" in params or "cancel_at" in params:
        when = _cancel_at(row, params)
        values |= {"cancel_at": when, "cancel_at_period_end": bool(params.get("cancel_at_period_end"))}
        values["canceled_at"] = at if when else None
        details = {**details, "reason": "cancellation_requested"} if when else dict.fromkeys(details)
    if details != row.body["cancellation_details"]:
        values["cancellation_details"] = details
    return values


def _cancel_at(row: StandInObject, params: dict[str, Any]) -> int | None:
    if "cancel_at_period_end" in params and "cancel_at" in params:
        raise Refusal("You may only pass one of `cancel_at` and `cancel_at_period_end`.", param="cancel_at")
    if "cancel_at_period_end" in params:
        return ends_at(row.body) if params["cancel_at_period_end"] else None
    if isinstance(params["cancel_at"], str) and params["cancel_at"]:
        raise not_here(f"cancel_at={params['cancel_at']}")
    return params["cancel_at"] or None


def ends_at(subscription: Body) -> int:
    return int(max(item["current_period_end"] for item in subscription["items"]["data"]))


@route("DELETE", "/v1/subscriptions/{}", asked.SubscriptionCancelParams, "invoice_now prorate cancellation_details")
def cancel(params: dict[str, Any], its_id: str) -> Body:
    row = find("subscription", its_id)
    if row.body["status"] in OVER:
        raise no_such("subscription", its_id)
    at = customers.own_time(row.body["customer"])
    lines = proration.given_back(row, at) if params.get("prorate") else []
    if params.get("invoice_now"):
        bill(
            row,
            [*lines, *usage(row.body["customer"], row.body["items"]["data"], until=at)],
            reason="subscription_update",
            at=at,
        )
    elif lines:
        raise not_here("prorate without invoice_now")
    details = {name: value or None for name, value in params.get("cancellation_details", {}).items()}
    return end(row, reason="cancellation_requested", at=at, **details).body


@route("POST", "/v1/invoices/{}/pay", asked.InvoicePayParams, "payment_method off_session")
def pay_invoice(params: dict[str, Any], its_id: str) -> Body:
    """Take an open invoice's sum now. A card that says no leaves the invoice open, and the try on record."""
    row = find("invoice", its_id)
    if row.body["status"] == "paid":
        raise Refusal("Invoice is already paid", code="invoice_already_paid")
    if row.body["status"] != "open":
        raise Refusal("This invoice is not open.", code="invoice_not_editable")
    if pay_now(row, params.get("payment_method")) == "failed":
        raise declined(is_final=True)
    return find("invoice", its_id).body


def pay_now(row: StandInObject, method: str | None = None) -> str:
    customer = row.body["customer"]
    card = payments.own_method(customer, method, param="payment_method") if method else None
    outcome = invoices.collect(
        row, card or invoices.default_method(customer), at=customers.own_time(customer), is_confirmed=True
    )
    follow_invoice(row)
    return outcome


PREVIEW = (
    "customer subscription subscription_details.items.id subscription_details.items.price "
    "subscription_details.items.quantity subscription_details.items.deleted subscription_details.proration_behavior "
    "subscription_details.proration_date subscription_details.cancel_at_period_end "
    "subscription_details.billing_cycle_anchor subscription_details.trial_end"
)


@route("POST", "/v1/invoices/create_preview", asked.InvoiceCreatePreviewParams, PREVIEW)
def preview(params: dict[str, Any]) -> Body:
    """What the next invoice would be, with a change or without: the same sums as the change itself."""
    if "subscription" not in params:
        raise not_here("a preview without a subscription")
    row = find("subscription", params["subscription"], param="subscription")
    if params.get("customer") not in (None, row.body["customer"]) or row.body["status"] in OVER:
        raise no_such("subscription", row.pk, param="subscription")
    at, details = customers.own_time(row.body["customer"]), params.get("subscription_details", {})
    plan = proration.plan(row, details, at)
    body = {**row.body, **(plan.values if plan else {})}
    lines = [Line(**line) for line in row.inside["pending"]] + (plan.lines if plan else [])
    reason = "subscription_update"
    if not (plan and plan.invoice_now):
        at, reason = ends_at(body), "upcoming"
        if not details.get("cancel_at_period_end", body["cancel_at_period_end"]):
            lines += charges(next_items(body))
        lines += usage(body["customer"], body["items"]["data"])
    return invoices.preview(
        row.body["customer"], lines, reason=reason, currency=body["currency"], at=at, subscription=body
    )


def next_items(subscription: Body) -> list[Body]:
    """The items one period on."""
    anchor = subscription["billing_cycle_anchor"]
    return [
        {
            **item,
            "current_period_start": item["current_period_end"],
            "current_period_end": period_end(anchor, item["current_period_end"], item["price"]["recurring"]),
        }
        for item in subscription["items"]["data"]
    ]


def _one_interval(prices: list[Body]) -> Body:
    found: list[Body] = [price["recurring"] for price in prices]
    if len({(one["interval"], one["interval_count"]) for one in found}) > 1:
        raise not_here("prices of different intervals in one subscription")
    return found[0]
