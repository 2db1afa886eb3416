"""The pages of the stand-in for Stripe, for everybody: light and dark, on a phone, by axe."""

import re

import pytest
import stripe
from playwright.sync_api import expect

from billing.standin.client import StandIn
from tests.browser.test_looks import LOOKS

pytestmark = [pytest.mark.browser, pytest.mark.xdist_group("browser")]


@pytest.mark.parametrize("look", LOOKS)
def test_axe_finds_nothing_where_one_pays_and_looks_after_what_was_paid(look, site, visitors):
    member = visitors.open(site.person(), **LOOKS[look])
    api = stripe.StripeClient("sk_test_standin", http_client=StandIn()).v1
    customer = api.customers.create({"email": "bob@example.com"}).id
    price = api.prices.create(
        {
            "product_data": {"name": "Basic"},
            "currency": "usd",
            "unit_amount": 999,
            "recurring": {"interval": "month"},
        }
    )
    opened = api.checkout.sessions.create(
        {
            "mode": "subscription",
            "customer": customer,
            "line_items": [{"price": price.id, "quantity": 1}],
            "success_url": f"{member.origin}/pricing/",
            "cancel_url": f"{member.origin}/pricing/",
        }
    )
    portal = api.billing_portal.sessions.create({"customer": customer, "return_url": f"{member.origin}/pricing/"})

    member.page.goto(opened.url)
    expect(member.page.get_by_role("note")).to_contain_text("no money moves")
    assert member.findings() == [], "to pay"
    member.page.get_by_label("Visa that is declined").check()
    member.page.get_by_role("button", name="Pay $9.99").press("Enter")
    expect(member.page.get_by_role("alert")).to_contain_text("Your card was declined. Nothing was charged.")
    assert member.findings() == [], "declined"
    assert member.sideways() == 0
    member.page.get_by_role("button", name="Pay $9.99").press("Enter")
    expect(member.page).to_have_url(re.compile("/pricing/$"))
    member.page.goto(opened.url or f"{member.origin}/stand-in/checkout/{opened.id}/")
    assert member.findings() == [], "paid"

    member.page.goto(portal.url)
    expect(member.page.get_by_role("button", name="Cancel at the end of the period")).to_be_visible()
    assert member.findings() == [], "portal"
    assert member.sideways() == 0
    member.page.get_by_role("region", name="Invoices").get_by_role("link").first.press("Enter")
    expect(member.page.get_by_role("heading", level=1)).to_contain_text("Invoice")
    assert member.findings() == [], "invoice"
    assert member.sideways() == 0
