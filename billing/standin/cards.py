"""The cards one may pay with at the stand-in: what each does is written on it."""

from dataclasses import dataclass
from typing import Any, Literal

from billing.standin.models import StandInObject
from billing.standin.store import add, change, find, tell

Outcome = Literal["succeeded", "failed", "processing"]


@dataclass(frozen=True, slots=True)
class Card:
    """A card (or a bank account) and its fate.

    at_once, later   how the payment ends that its holder confirms, and those that are taken without asking
    """

    label: str
    help: str
    brand: str
    last4: str
    at_once: Outcome
    later: Outcome
    type: Literal["card", "us_bank_account"] = "card"


CARDS = {
    "works": Card("Visa that works", "Every payment goes through.", "visa", "4242", "succeeded", "succeeded"),
    "fails-later": Card(
        "Visa that stops working",
        "This payment goes through; renewals and everything taken later fail.",
        "visa",
        "0341",
        "succeeded",
        "failed",
    ),
    "slow": Card(
        "Bank account that needs a moment",
        "The payment is under way for some seconds, then it goes through.",
        "STRIPE TEST BANK",
        "6789",
        "processing",
        "processing",
        "us_bank_account",
    ),
    "declined": Card("Visa that is declined", "The bank says no; nothing is paid.", "visa", "0002", "failed", "failed"),
}
NO_ADDRESS = dict.fromkeys(("city", "country", "line1", "line2", "postal_code", "state"))


def attach(customer: str, code: str) -> StandInObject:
    """The card in the customer's wallet, as the default if there is none."""
    owner, card = find("customer", customer).body, CARDS[code]
    body: dict[str, Any] = {
        "allow_redisplay": "always",
        "billing_details": billing_details(owner),
        "customer": customer,
        "metadata": {},
        "type": card.type,
        card.type: _face(card),
    }
    row = add("payment_method", "pm", body, code=code)
    tell("payment_method.attached", row.body)
    return row


def make_default(customer: str, method: str) -> None:
    row = find("customer", customer)
    if row.body["invoice_settings"]["default_payment_method"] != method:
        settings = {**row.body["invoice_settings"], "default_payment_method": method}
        change(row, "customer.updated", invoice_settings=settings)


def detach(row: StandInObject) -> StandInObject:
    customer = find("customer", row.body["customer"])
    if customer.body["invoice_settings"]["default_payment_method"] == row.pk:
        settings = {**customer.body["invoice_settings"], "default_payment_method": None}
        change(customer, "customer.updated", invoice_settings=settings)
    return change(row, "payment_method.detached", customer=None)


def of(method: StandInObject) -> Card:
    return CARDS[method.inside["code"]]


def billing_details(customer: dict[str, Any]) -> dict[str, Any]:
    return {
        "address": NO_ADDRESS,
        "email": customer["email"],
        "name": customer["name"],
        "phone": None,
        "tax_id": None,
    }


def _face(card: Card) -> dict[str, Any]:
    if card.type == "us_bank_account":
        return {
            "account_holder_type": "individual",
            "account_type": "checking",
            "bank_name": card.brand,
            "financial_connections_account": None,
            "fingerprint": f"standin{card.last4}",
            "last4": card.last4,
            "networks": None,
            "routing_number": "110000000",
            "status_details": None,
        }
    return {
        "brand": card.brand,
        "checks": {"address_line1_check": None, "address_postal_code_check": None, "cvc_check": "pass"},
        "country": "US",
        "display_brand": card.brand,
        "exp_month": 12,
        "exp_year": 2034,
        "fingerprint": f"standin{card.last4}",
        "funding": "credit",
        "generated_from": None,
        "last4": card.last4,
        "networks": {"available": [card.brand], "preferred": None},
        "regulated_status": "unregulated",
        "three_d_secure_usage": {"supported": True},
        "wallet": None,
    }
