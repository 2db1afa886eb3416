"""The customer's own page: cards, invoices, cancelling, changing plans."""

from typing import Any
from urllib.parse import urlsplit

from django.urls import reverse
from stripe.params import billing_portal as asked

from billing.standin.refusals import Refusal, missing
from billing.standin.routes import route
from billing.standin.store import Body, add, find, new_id

LASTS_S = 3600
FLOWS = (
    "flow_data.type flow_data.subscription_cancel.subscription flow_data.subscription_update.subscription "
    "flow_data.after_completion.type flow_data.after_completion.redirect.return_url"
)


@route("POST", "/v1/billing_portal/sessions", asked.SessionCreateParams, f"customer return_url locale {FLOWS}")
def create(params: dict[str, Any]) -> Body:
    if "customer" not in params:
        raise missing("customer")
    customer, back = find("customer", params["customer"], param="customer"), params.get("return_url")
    parts = urlsplit(back or "")
    if parts.scheme not in ("http", "https") or not parts.netloc:
        raise Refusal("Not a valid URL", code="url_invalid", param="return_url")
    flow = params.get("flow_data")
    if flow is not None:
        _check(flow, customer.pk)
    its_id = new_id("bps")
    return add(
        "billing_portal.session",
        "bps",
        {
            "id": its_id,
            "configuration": "bpc_standin",
            "customer": customer.pk,
            "flow": None if flow is None else {"after_completion": {"type": "portal_homepage"}, **flow},
            "locale": params.get("locale"),
            "on_behalf_of": None,
            "return_url": back,
            "url": f"{parts.scheme}://{parts.netloc}{reverse('stand-in:portal', args=[its_id])}",
        },
    ).body


def _check(flow: Body, customer: str) -> None:
    if flow["type"] in ("subscription_cancel", "subscription_update"):
        if flow["type"] not in flow:
            raise missing(f"flow_data[{flow['type']}]")
        row = find("subscription", flow[flow["type"]]["subscription"], param=f"flow_data[{flow['type']}][subscription]")
        if row.body["customer"] != customer:
            raise Refusal("The subscription belongs to another customer.", param="flow_data")
