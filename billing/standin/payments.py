"""Money that moves, or would: payment intents, charges, refunds, disputes, and the cards behind them."""

from typing import Any

from stripe import params as asked

from billing.standin import cards
from billing.standin.models import StandInObject
from billing.standin.refusals import Refusal, missing, no_such
from billing.standin.routes import PAGING, route
from billing.standin.store import Body, add, change, find, merge_metadata, new_id, page, seconds, tell
from lib import clock

TEN_DAYS_S = 10 * 24 * 3600
DECLINED = {"code": "card_declined", "decline_code": "generic_decline", "message": "Your card was declined."}


def pay(
    customer: str,
    method: StandInObject,
    cents: int,
    currency: str,
    *,
    at: int,
    is_confirmed: bool,
    description: str | None = None,
    metadata: dict[str, str] | None = None,
) -> StandInObject:
    """Try to take the money once. Returns the payment intent: succeeded, processing or requires_payment_method.

    at            the customer's own time
    is_confirmed  the customer is there and said yes to this payment; otherwise it is taken by agreement
    """
    intent = add(
        "payment_intent",
        "pi",
        {
            "amount": cents,
            "amount_capturable": 0,
            "amount_received": 0,
            "automatic_payment_methods": None,
            "canceled_at": None,
            "cancellation_reason": None,
            "capture_method": "automatic",
            "client_secret": new_id("secret"),
            "confirmation_method": "automatic",
            "currency": currency,
            "customer": customer,
            "description": description,
            "last_payment_error": None,
            "latest_charge": None,
            "metadata": metadata or {},
            "next_action": None,
            "payment_method": method.pk,
            "payment_method_types": [method.body["type"]],
            "processing": None,
            "receipt_email": None,
            "setup_future_usage": None,
            "status": "requires_confirmation",
        },
        at=at,
    )
    tell("payment_intent.created", intent.body)
    card = cards.of(method)
    outcome = card.at_once if is_confirmed else card.later
    charge = _charge(intent, method, outcome)
    if outcome == "processing":
        change(intent, "payment_intent.processing", status="processing", latest_charge=charge.pk)
        tell("charge.pending", charge.body)
        return intent
    return _ended(intent, charge, outcome == "succeeded")


def arrive(intent: StandInObject, *, succeeds: bool = True) -> StandInObject:
    """The end of a payment that was under way."""
    charge = find("charge", intent.body["latest_charge"])
    values = {"status": "succeeded", "paid": True, "captured": True, "amount_captured": charge.body["amount"]}
    change(charge, **(values if succeeds else {"status": "failed", "failure_code": DECLINED["code"]}))
    return _ended(intent, charge, succeeds)


def _ended(intent: StandInObject, charge: StandInObject, succeeds: bool) -> StandInObject:
    tell(f"charge.{'succeeded' if succeeds else 'failed'}", charge.body)
    if succeeds:
        values = {"status": "succeeded", "amount_received": intent.body["amount"], "last_payment_error": None}
        return change(intent, "payment_intent.succeeded", latest_charge=charge.pk, **values)
    method = find("payment_method", intent.body["payment_method"])
    error = {**DECLINED, "type": "card_error", "charge": charge.pk, "payment_method": method.body}
    values = {"status": "requires_payment_method", "last_payment_error": error, "payment_method": None}
    return change(intent, "payment_intent.payment_failed", latest_charge=charge.pk, **values)


def _charge(intent: StandInObject, method: StandInObject, outcome: cards.Outcome) -> StandInObject:
    body, is_paid = intent.body, outcome == "succeeded"
    kind = method.body["type"]
    face = {name: method.body[kind].get(name) for name in ("brand", "bank_name", "last4", "exp_month", "exp_year")}
    failed = outcome == "failed"
    return add(
        "charge",
        "ch",
        {
            "amount": body["amount"],
            "amount_captured": body["amount"] if is_paid else 0,
            "amount_refunded": 0,
            "balance_transaction": new_id("txn") if is_paid else None,
            "billing_details": method.body["billing_details"],
            "captured": is_paid,
            "currency": body["currency"],
            "customer": body["customer"],
            "description": body["description"],
            "disputed": False,
            "failure_code": DECLINED["code"] if failed else None,
            "failure_message": DECLINED["message"] if failed else None,
            "metadata": body["metadata"],
            "outcome": {
                "network_status": "declined_by_network" if failed else "approved_by_network",
                "reason": DECLINED["decline_code"] if failed else None,
                "risk_level": "normal",
                "seller_message": "The bank did not say why." if failed else "Payment complete.",
                "type": "issuer_declined" if failed else "authorized",
            },
            "paid": is_paid,
            "payment_intent": intent.pk,
            "payment_method": method.pk,
            "payment_method_details": {
                "type": kind,
                kind: {name: value for name, value in face.items() if value is not None},
            },
            "receipt_email": None,
            "receipt_number": None,
            "receipt_url": None,
            "refunded": False,
            "status": {"succeeded": "succeeded", "failed": "failed", "processing": "pending"}[outcome],
        },
    )


@route("GET", "/v1/payment_intents/{}", asked.PaymentIntentRetrieveParams)
def retrieve_intent(params: dict[str, Any], its_id: str) -> Body:
    return find("payment_intent", its_id).body


@route("GET", "/v1/payment_intents", asked.PaymentIntentListParams, f"{PAGING} customer")
def list_intents(params: dict[str, Any]) -> Body:
    return page("payment_intent", params, "/v1/payment_intents", **_where(params, "customer"))


@route("GET", "/v1/charges/{}", asked.ChargeRetrieveParams)
def retrieve_charge(params: dict[str, Any], its_id: str) -> Body:
    return find("charge", its_id).body


@route("GET", "/v1/charges", asked.ChargeListParams, f"{PAGING} customer payment_intent")
def list_charges(params: dict[str, Any]) -> Body:
    return page("charge", params, "/v1/charges", **_where(params, "customer", "payment_intent"))


@route("POST", "/v1/refunds", asked.RefundCreateParams, "charge payment_intent amount reason metadata")
def create_refund(params: dict[str, Any]) -> Body:
    charge = _refundable(params)
    left = charge.body["amount"] - charge.body["amount_refunded"]
    cents = params.get("amount", left)
    if cents < 1:
        raise Refusal("Invalid positive integer", code="parameter_invalid_integer", param="amount")
    if cents > left:
        raise Refusal(
            f"Refund amount (${cents / 100:.2f}) is greater than unrefunded amount on charge (${left / 100:.2f})",
            param="amount",
        )
    refund = add(
        "refund",
        "re",
        {
            "amount": cents,
            "balance_transaction": new_id("txn"),
            "charge": charge.pk,
            "currency": charge.body["currency"],
            "destination_details": {"card": {"type": "refund"}, "type": "card"},
            "metadata": merge_metadata({}, params.get("metadata")),
            "payment_intent": charge.body["payment_intent"],
            "reason": params.get("reason"),
            "receipt_number": None,
            "source_transfer_reversal": None,
            "status": "succeeded",
            "transfer_reversal": None,
        },
    )
    change(charge, "charge.refunded", amount_refunded=charge.body["amount_refunded"] + cents, refunded=cents == left)
    tell("refund.created", refund.body)
    return refund.body


def _refundable(params: dict[str, Any]) -> StandInObject:
    if "charge" in params:
        charge = find("charge", params["charge"], param="charge")
        if params.get("payment_intent") not in (None, charge.body["payment_intent"]):
            raise Refusal("The charge belongs to another payment intent.", param="payment_intent")
    elif "payment_intent" in params:
        intent = find("payment_intent", params["payment_intent"], param="payment_intent")
        if intent.body["status"] != "succeeded":
            raise Refusal("This PaymentIntent does not have a successful charge to refund.", param="payment_intent")
        charge = find("charge", intent.body["latest_charge"])
    else:
        raise missing("payment_intent")
    if charge.body["status"] != "succeeded":
        raise Refusal(f"Charge {charge.pk} is not paid, so it cannot be refunded.", param="charge")
    if charge.body["refunded"]:
        raise Refusal(f"Charge {charge.pk} has already been refunded.", code="charge_already_refunded", param="charge")
    if charge.body["disputed"] and not charge.inside.get("dispute_won"):
        raise Refusal(
            f"Charge {charge.pk} has been charged back; cannot issue a refund.", code="charge_disputed", param="charge"
        )
    return charge


@route("GET", "/v1/refunds/{}", asked.RefundRetrieveParams)
def retrieve_refund(params: dict[str, Any], its_id: str) -> Body:
    return find("refund", its_id).body


@route("GET", "/v1/refunds", asked.RefundListParams, f"{PAGING} charge payment_intent")
def list_refunds(params: dict[str, Any]) -> Body:
    return page("refund", params, "/v1/refunds", **_where(params, "charge", "payment_intent"))


def dispute(charge: StandInObject, *, reason: str = "fraudulent") -> StandInObject:
    """The bank of the card takes the money back until somebody has decided."""
    if charge.body["status"] != "succeeded" or charge.body["disputed"]:
        raise Refusal(f"Charge {charge.pk} cannot be disputed: it is not paid, or is disputed already.")
    now = seconds(clock.now())
    row = add(
        "dispute",
        "du",
        {
            "amount": charge.body["amount"] - charge.body["amount_refunded"],
            "balance_transactions": [],
            "charge": charge.pk,
            "currency": charge.body["currency"],
            "enhanced_eligibility_types": [],
            "evidence": {},
            "evidence_details": {
                "due_by": now + TEN_DAYS_S,
                "enhanced_eligibility": {},
                "has_evidence": False,
                "past_due": False,
                "submission_count": 0,
            },
            "is_charge_refundable": False,
            "metadata": {},
            "payment_intent": charge.body["payment_intent"],
            "reason": reason,
            "status": "needs_response",
        },
    )
    change(charge, "charge.updated", disputed=True)
    tell("charge.dispute.created", row.body)
    tell("charge.dispute.funds_withdrawn", row.body)
    return row


def decide_dispute(row: StandInObject, *, won: bool) -> StandInObject:
    if row.body["status"] in ("won", "lost"):
        raise Refusal("This dispute is already closed.", code="dispute_already_closed")
    if won:
        charge = find("charge", row.body["charge"])
        charge.inside = {**charge.inside, "dispute_won": True}
        charge.save()
    change(row, status="won" if won else "lost")
    if won:
        tell("charge.dispute.funds_reinstated", row.body)
    tell("charge.dispute.closed", row.body)
    return row


@route("GET", "/v1/disputes/{}", asked.DisputeRetrieveParams)
def retrieve_dispute(params: dict[str, Any], its_id: str) -> Body:
    return find("dispute", its_id).body


@route("GET", "/v1/disputes", asked.DisputeListParams, f"{PAGING} charge payment_intent")
def list_disputes(params: dict[str, Any]) -> Body:
    return page("dispute", params, "/v1/disputes", **_where(params, "charge", "payment_intent"))


@route("POST", "/v1/disputes/{}/close", asked.DisputeCloseParams)
def close_dispute(params: dict[str, Any], its_id: str) -> Body:
    """To accept it is to lose it."""
    return decide_dispute(find("dispute", its_id), won=False).body


@route("GET", "/v1/setup_intents/{}", asked.SetupIntentRetrieveParams)
def retrieve_setup(params: dict[str, Any], its_id: str) -> Body:
    return find("setup_intent", its_id).body


@route("GET", "/v1/setup_intents", asked.SetupIntentListParams, f"{PAGING} customer")
def list_setups(params: dict[str, Any]) -> Body:
    return page("setup_intent", params, "/v1/setup_intents", **_where(params, "customer"))


def set_up(customer: str, method: StandInObject, metadata: dict[str, str]) -> StandInObject:
    """A card that its holder stores for later, with nothing paid now."""
    row = add(
        "setup_intent",
        "seti",
        {
            "application": None,
            "cancellation_reason": None,
            "client_secret": new_id("secret"),
            "customer": customer,
            "description": None,
            "last_setup_error": None,
            "metadata": metadata,
            "next_action": None,
            "payment_method": method.pk,
            "payment_method_types": [method.body["type"]],
            "status": "succeeded",
            "usage": "off_session",
        },
    )
    tell("setup_intent.created", row.body)
    tell("setup_intent.succeeded", row.body)
    return row


@route("GET", "/v1/payment_methods/{}", asked.PaymentMethodRetrieveParams)
def retrieve_method(params: dict[str, Any], its_id: str) -> Body:
    return find("payment_method", its_id).body


@route("GET", "/v1/payment_methods", asked.PaymentMethodListParams, f"{PAGING} customer type")
def list_methods(params: dict[str, Any]) -> Body:
    if "customer" not in params:
        raise missing("customer")
    find("customer", params["customer"], param="customer")
    return page("payment_method", params, "/v1/payment_methods", **_where(params, "customer", "type"))


@route("GET", "/v1/customers/{}/payment_methods", asked.CustomerPaymentMethodListParams, f"{PAGING} type")
def list_methods_of(params: dict[str, Any], customer: str) -> Body:
    url = f"/v1/customers/{find('customer', customer, param='customer').pk}/payment_methods"
    return page("payment_method", params, url, body__customer=customer, **_where(params, "type"))


@route("POST", "/v1/payment_methods/{}/detach", asked.PaymentMethodDetachParams)
def detach_method(params: dict[str, Any], its_id: str) -> Body:
    row = find("payment_method", its_id)
    if row.body["customer"] is None:
        raise Refusal("The payment method you provided is not attached to a customer so detachment is impossible.")
    return cards.detach(row).body


def own_method(customer: str, its_id: str, *, param: str) -> StandInObject:
    row = find("payment_method", its_id, param=param)
    if row.body["customer"] != customer:
        raise no_such("payment_method", its_id, param=param)
    return row


def _where(params: dict[str, Any], *names: str) -> dict[str, Any]:
    return {f"body__{name}": params[name] for name in names if name in params}
