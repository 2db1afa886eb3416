"""The stand-in's pages: pay, be declined, go back; cards, invoices and plans in the portal. Without JavaScript."""

import re

import pytest
from django.test import Client

from billing.standin import renewals
from billing.standin.store import changing
from tests.billing.standin.conftest import session, subscribe, told

HOST = "act.localhost:8000"


@pytest.fixture
def browser(world):
    return Client(headers={"host": HOST})


def path(url):
    assert url.startswith(f"http://{HOST}/stand-in/")
    return url.removeprefix(f"http://{HOST}")


def portal(shop):
    return path(
        shop.api.billing_portal.sessions.create(
            {"customer": shop.customer, "return_url": f"http://{HOST}/settings/plan/"}
        ).url
    )


def test_a_plan_is_bought_with_one_press(browser, shop):
    opened = session(shop)
    page = browser.get(path(opened.url))
    assert page.status_code == 200
    text = page.content.decode()
    assert "Local stand-in for Stripe: no money moves." in text
    assert "Pay $9.99" in text
    assert 'href="http://act.localhost:8000/pricing/"' in text

    answer = browser.post(path(opened.url), {"card": "works"})

    assert answer.status_code == 303
    assert answer["Location"] == f"http://act.localhost:8000/billing/return/?session={opened.id}"
    assert shop.api.checkout.sessions.retrieve(opened.id).payment_status == "paid"


def test_a_declined_card_says_so_and_another_one_pays(browser, shop):
    opened = session(shop, "payment", "pack")

    declined = browser.post(path(opened.url), {"card": "declined"})
    assert declined.status_code == 402
    assert "Your card was declined." in declined.content.decode()
    assert "payment_intent.payment_failed" in told(), "that a card was asked stays on record"
    assert browser.post(path(opened.url), {"card": "works"}).status_code == 303

    assert [one.status for one in shop.api.charges.list({"customer": shop.customer})] == ["succeeded", "failed"]


def test_a_second_press_pays_nothing_more(browser, shop):
    opened = session(shop, "payment", "pack")

    answers = [browser.post(path(opened.url), {"card": "works"}).status_code for _ in range(2)]

    assert answers == [303, 303]
    assert len(shop.api.charges.list({"customer": shop.customer}).data) == 1
    assert "This is done" in browser.get(f"/stand-in/checkout/{opened.id}/").content.decode()


@pytest.mark.parametrize("card", ["", "diamond", "none"])
def test_a_card_that_is_none_is_refused_and_nothing_is_bought(browser, shop, card):
    opened = session(shop, "payment", "pack")

    assert browser.post(path(opened.url), {"card": card}).status_code in (402, 422)

    assert shop.api.checkout.sessions.retrieve(opened.id).status == "open"


def test_a_trial_is_begun_without_a_card_where_it_may(browser, shop):
    terms = {"subscription_data": {"trial_period_days": 14}, "payment_method_collection": "if_required"}
    opened = session(shop, **terms)
    text = browser.get(path(opened.url)).content.decode()
    assert "Free for 14 days, then the price above." in text

    browser.post(path(opened.url), {"card": "none"})

    (subscription,) = shop.api.subscriptions.list({"customer": shop.customer}).data
    assert (subscription.status, subscription.default_payment_method) == ("trialing", None)


def test_a_session_that_is_over_says_what_to_do(browser, shop):
    opened = session(shop)
    shop.api.checkout.sessions.expire(opened.id)

    page = browser.get(path(opened.url))

    assert "This page is over" in page.content.decode()
    assert browser.post(path(opened.url), {"card": "works"}).status_code == 402


@pytest.mark.parametrize("kind", ["checkout", "portal", "invoice"])
def test_a_link_that_nobody_was_given_leads_nowhere(browser, shop, kind):
    assert browser.get(f"/stand-in/{kind}/{shop.customer}/").status_code == 404


def test_a_link_that_is_no_id_leads_nowhere(browser, world):
    for link in ("checkout/%00", "portal/a%00b", "invoice/%00"):
        assert browser.get(f"/stand-in/{link}/").status_code == 404


def test_nothing_is_there_when_stripe_is(browser, shop, settings, monkeypatch):
    """Nor is anything locked or looked for, whoever asks how often."""
    opened, page = session(shop), portal(shop)
    settings.STRIPE_STAND_IN = False
    for name in ("asking", "changing"):
        monkeypatch.setattr(f"billing.standin.pages.{name}", lambda: pytest.fail("it went to the database"))

    for link in (path(opened.url), page):
        assert browser.get(link).status_code == 404
        assert browser.post(link, {"card": "works", "do": "pay"}).status_code == 404
    assert browser.get("/stand-in/invoice/in_1/").status_code == 404


def test_a_form_of_another_site_pays_nothing(shop, world):
    opened = session(shop)
    strict = Client(enforce_csrf_checks=True, headers={"host": HOST})

    assert strict.post(path(opened.url), {"card": "works"}).status_code == 403


def test_the_portal_changes_to_nothing_that_the_page_does_not_offer(browser, shop):
    """Another brand's price, or one by hand, which our books would set aside."""
    subscription = subscribe(shop)
    foreign = shop.api.prices.create(
        {
            "product": shop.api.products.create({"name": "Of another brand"}).id,
            "currency": "usd",
            "unit_amount": 50,
            "recurring": {"interval": "month"},
            "metadata": {"brand": "another"},
        }
    )

    answer = browser.post(portal(shop), {"do": "change", "id": subscription.id, "price": foreign.id})

    assert answer.status_code == 402
    assert "Choose from the page." in answer.content.decode()


def test_the_portal_cancels_resumes_and_changes_the_plan(browser, shop):
    subscription = subscribe(shop)
    page = portal(shop)
    assert "Renews on" in browser.get(page).content.decode()

    browser.post(page, {"do": "cancel", "id": subscription.id})
    assert shop.api.subscriptions.retrieve(subscription.id).cancel_at_period_end is True
    assert "Ends on" in browser.get(page).content.decode()
    browser.post(page, {"do": "resume", "id": subscription.id})
    assert shop.api.subscriptions.retrieve(subscription.id).cancel_at_period_end is False
    browser.post(page, {"do": "change", "id": subscription.id, "price": shop.pro})

    changed = shop.api.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})
    assert changed["items"].data[0].price.id == shop.pro
    assert changed.latest_invoice.amount_paid == 2000


def test_a_new_card_in_the_portal_pays_what_is_past_due(browser, shop):
    subscription = subscribe(shop, "fails-later")
    with changing():
        renewals.advance(shop.customer, subscription["items"].data[0].current_period_end)
    page = portal(shop)
    assert "past_due" in browser.get(page).content.decode()

    assert browser.post(page, {"do": "card", "card": "declined"}).status_code == 402
    assert shop.api.subscriptions.retrieve(subscription.id).status == "past_due"
    browser.post(page, {"do": "card", "card": "works"})

    assert shop.api.subscriptions.retrieve(subscription.id).status == "active"
    assert shop.api.customers.retrieve(shop.customer).invoice_settings.default_payment_method


@pytest.mark.parametrize("do", ["cancel", "pay", "change"])
def test_the_portal_touches_nothing_of_somebody_else(browser, shop, do):
    theirs = subscribe(shop)
    bob = shop.api.customers.create({"email": "bob@example.com"})
    made = shop.api.billing_portal.sessions.create({"customer": bob.id, "return_url": f"http://{HOST}/"})
    target = theirs.latest_invoice if do == "pay" else theirs.id

    answer = browser.post(path(made.url), {"do": do, "id": target, "price": shop.pro})

    assert answer.status_code == 402
    after = shop.api.subscriptions.retrieve(theirs.id)
    assert (after.cancel_at_period_end, after["items"].data[0].price.id) == (False, shop.basic)


def test_an_invoice_shows_its_lines_and_its_sum(browser, shop):
    invoice = shop.api.invoices.retrieve(subscribe(shop).latest_invoice)

    text = browser.get(path(invoice.hosted_invoice_url)).content.decode()

    assert invoice.number in text
    assert len(re.findall(r"\$9\.99", text)) == 3  # the line, the total, what is paid
