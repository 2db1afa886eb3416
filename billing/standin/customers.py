"""Customers, and the cards they left."""

from typing import Any

from stripe import params as asked

from billing.standin.refusals import no_such
from billing.standin.routes import PAGING, route
from billing.standin.store import Body, add, change, find, merge_metadata, new_id, page, seconds, tell
from lib import clock

DETAILS = "email name description phone metadata invoice_settings.default_payment_method"


@route("POST", "/v1/customers", asked.CustomerCreateParams, DETAILS)
def create(params: dict[str, Any]) -> Body:
    settings = params.pop("invoice_settings", {})
    metadata = merge_metadata({}, params.pop("metadata", {}))
    blank = dict.fromkeys(("address", "currency", "default_source", "discount", "shipping"))
    details = {name: params.get(name) or None for name in ("description", "email", "name", "phone")}
    row = add(
        "customer",
        "cus",
        {
            **blank,
            **details,
            "balance": 0,
            "delinquent": False,
            "invoice_prefix": new_id("p")[-8:].upper(),
            "invoice_settings": _settings(settings.get("default_payment_method")),
            "metadata": metadata,
            "next_invoice_sequence": 1,
            "preferred_locales": [],
            "tax_exempt": "none",
            "test_clock": None,
        },
    )
    tell("customer.created", row.body)
    return row.body


@route("GET", "/v1/customers", asked.CustomerListParams, f"{PAGING} email")
def find_all(params: dict[str, Any]) -> Body:
    where = {"body__email": params["email"]} if "email" in params else {}
    return page("customer", params, "/v1/customers", **where)


@route("GET", "/v1/customers/{}", asked.CustomerRetrieveParams)
def retrieve(params: dict[str, Any], its_id: str) -> Body:
    return find("customer", its_id).body


@route("POST", "/v1/customers/{}", asked.CustomerUpdateParams, DETAILS)
def update(params: dict[str, Any], its_id: str) -> Body:
    row = find("customer", its_id)
    values = {name: value or None for name, value in params.items() if name not in ("metadata", "invoice_settings")}
    if "metadata" in params:
        values["metadata"] = merge_metadata(row.body["metadata"], params["metadata"])
    if card := params.get("invoice_settings", {}).get("default_payment_method"):
        values["invoice_settings"] = _settings(_own_card(its_id, card))
    return change(row, "customer.updated", **values).body


def _settings(card: str | None) -> Body:
    return {"custom_fields": None, "default_payment_method": card, "footer": None, "rendering_options": None}


def _own_card(customer: str, card: str) -> str:
    found = find("payment_method", card, param="invoice_settings[default_payment_method]")
    if found.body["customer"] != customer:
        raise no_such("payment_method", card, param="invoice_settings[default_payment_method]")
    return card


def own_time(customer: str, moment: int | None = None) -> int:
    """The customer's time at a moment of the house's (now): the same, until `standin advance` let more of it pass.

    As with a test clock of Stripe's, every customer has its own. Seconds since 1970.
    """
    at = seconds(clock.now()) if moment is None else moment
    advances = find("customer", customer, param="customer").inside.get("advances", [])
    return at + max((ahead_s for since, ahead_s in advances if since <= at), default=0)


def advance(customer: str, seconds_more: int) -> None:
    """From now on this customer's time is so much further."""
    row = find("customer", customer)
    now = seconds(clock.now())
    ahead_s = own_time(customer) - now + seconds_more
    row.inside = {**row.inside, "advances": [*row.inside.get("advances", []), [now, ahead_s]]}
    row.save()
