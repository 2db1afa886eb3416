"""What time does: renewals, trials, payments that are tried again, usage that is billed when its period ends."""

from datetime import UTC, datetime

import pytest

from billing.standin import cards, customers, renewals
from billing.standin.cycle import period_end
from billing.standin.store import changing, find
from billing.tasks import tend_stand_in
from lib.windows import window
from tests.billing.standin.conftest import events, pay, session, subscribe, time_of, told

DAY = 24 * 3600


def advance(shop, to):
    with changing():
        return renewals.advance(shop.customer, to)


def ends(subscription):
    return subscription["items"].data[0].current_period_end


def again(shop, subscription):
    return shop.api.subscriptions.retrieve(subscription.id, {"expand": ["latest_invoice"]})


def stamp(*parts):
    return int(datetime(*parts, tzinfo=UTC).timestamp())


@pytest.mark.parametrize(
    ("anchor", "days"),
    [
        ((2027, 1, 29), [(2, 28), (3, 29), (4, 29)]),
        ((2027, 1, 30), [(2, 28), (3, 30), (4, 30)]),
        ((2027, 1, 31), [(2, 28), (3, 31), (4, 30), (5, 31)]),
        ((2028, 1, 31), [(2, 29), (3, 31)]),
        ((2028, 2, 29), [(3, 29), (4, 29)]),
        ((2027, 3, 31, 23, 59, 59), [(4, 30), (5, 31)]),
    ],
)
def test_periods_end_as_stripe_documents_and_as_our_windows_do(anchor, days):
    """Q-16: two implementations, one hand-written table."""
    start = first = stamp(*anchor)
    for month, day in days:
        end = period_end(first, start, {"interval": "month", "interval_count": 1})
        at = datetime.fromtimestamp(end, UTC)
        assert (at.month, at.day) == (month, day)
        ours = window("month", datetime.fromtimestamp(start, UTC), anchor=datetime.fromtimestamp(first, UTC))
        assert (int(ours.opens_at.timestamp()), int(ours.closes_at.timestamp())) == (start, end)
        start = end


def test_a_leap_year_subscription_ends_on_the_last_of_february():
    leap = stamp(2028, 2, 29)
    yearly = {"interval": "year", "interval_count": 1}

    first = period_end(leap, leap, yearly)

    assert datetime.fromtimestamp(first, UTC).date().isoformat() == "2029-02-28"
    fourth = period_end(leap, stamp(2031, 2, 28), yearly)
    assert datetime.fromtimestamp(fourth, UTC).date().isoformat() == "2032-02-29"


def test_a_subscription_renews_at_the_end_of_each_period(api, shop):
    subscription = subscribe(shop)

    advance(shop, ends(subscription) - 1)
    assert again(shop, subscription).latest_invoice.id == subscription.latest_invoice
    advance(shop, ends(subscription) + 65 * DAY)

    renewed = again(shop, subscription)
    invoices = api.invoices.list({"subscription": subscription.id}).data
    assert [(one.billing_reason, one.status, one.total) for one in invoices] == [
        ("subscription_cycle", "paid", 999),
        ("subscription_cycle", "paid", 999),
        ("subscription_cycle", "paid", 999),
        ("subscription_create", "paid", 999),
    ]
    assert [one.created for one in invoices[:-1]][-1] == ends(subscription), (
        "at its instant, however late somebody looks"
    )
    assert renewed["items"].data[0].current_period_start <= time_of(shop.customer) < ends(renewed)
    assert [int(one.number[-4:]) for one in invoices] == [4, 3, 2, 1]


def test_time_that_passes_in_steps_comes_to_the_same(api, shop):
    """Q-17: late, in small steps, or looked at twice."""
    subscription = subscribe(shop)
    for day in range(0, 70, 7):
        advance(shop, ends(subscription) + day * DAY)
        with changing():
            assert renewals.catch_up(shop.customer) == 0

    assert [one.total for one in api.invoices.list({"subscription": subscription.id})] == [999] * 4


def test_a_trial_is_told_of_three_days_before_it_ends_and_then_paid(api, shop):
    subscription = subscribe(shop, subscription_data={"trial_period_days": 14})
    assert (subscription.status, subscription.trial_end) == ("trialing", ends(subscription))
    free = api.invoices.retrieve(subscription.latest_invoice, {"expand": ["payments"]})
    assert (free.status, free.total, free.payments.data) == ("paid", 0, [])
    assert api.charges.list({"customer": shop.customer}).data == []

    advance(shop, subscription.trial_end - 3 * DAY)
    assert told().count("customer.subscription.trial_will_end") == 1
    advance(shop, subscription.trial_end)

    paid = again(shop, subscription)
    assert (paid.status, paid.latest_invoice.amount_paid) == ("active", 999)
    assert told().count("customer.subscription.trial_will_end") == 1


@pytest.mark.parametrize(("behavior", "status"), [("cancel", "canceled"), ("create_invoice", "past_due")])
def test_a_trial_without_a_card_ends_as_it_was_agreed(api, shop, behavior, status):
    terms = {"trial_period_days": 3, "trial_settings": {"end_behavior": {"missing_payment_method": behavior}}}
    subscription = subscribe(shop, "none", subscription_data=terms, payment_method_collection="if_required")

    advance(shop, subscription.trial_end)

    assert again(shop, subscription).status == status


def test_a_failed_renewal_is_tried_three_more_times_and_then_the_subscription_ends(api, shop):
    """S-13's facts: past_due, and what follows when nobody pays."""
    subscription = subscribe(shop, "fails-later")
    due = ends(subscription)

    advance(shop, due)
    late = again(shop, subscription)
    assert (late.status, late.latest_invoice.status, late.latest_invoice.attempt_count) == ("past_due", "open", 1)
    assert late.latest_invoice.next_payment_attempt == due + 3 * DAY
    advance(shop, due + 8 * DAY)
    assert again(shop, subscription).latest_invoice.attempt_count == 3
    advance(shop, due + 15 * DAY)

    over = again(shop, subscription)
    assert (over.status, over.cancellation_details.reason) == ("canceled", "payment_failed")
    assert over.latest_invoice.attempt_count == 4
    assert told().count("invoice.payment_failed") == 4
    assert told()[-1] == "customer.subscription.deleted"


def test_a_new_card_saves_what_was_past_due(api, shop):
    subscription = subscribe(shop, "fails-later")
    advance(shop, ends(subscription))
    with changing():
        good = cards.attach(shop.customer, "works")
    api.subscriptions.update(subscription.id, {"default_payment_method": good.pk})

    advance(shop, ends(subscription) + 3 * DAY)

    saved = again(shop, subscription)
    assert (saved.status, saved.latest_invoice.status) == ("active", "paid")


def test_a_renewal_that_is_under_way_leaves_the_subscription_active(api, shop):
    subscription = subscribe(shop, "slow")
    advance(shop, time_of(shop.customer) + 60)
    assert again(shop, subscription).status == "active"

    advance(shop, ends(subscription))
    waiting = again(shop, subscription)
    assert (waiting.status, waiting.latest_invoice.status) == ("active", "open")
    advance(shop, ends(subscription) + 60)

    paid = again(shop, subscription)
    assert (paid.status, paid.latest_invoice.status, paid.latest_invoice.attempt_count) == ("active", "paid", 1)


def test_a_cancelled_subscription_is_not_renewed(api, shop):
    subscription = subscribe(shop)
    api.subscriptions.update(subscription.id, {"cancel_at_period_end": True})

    advance(shop, ends(subscription) + 40 * DAY)

    over = again(shop, subscription)
    assert (over.status, over.ended_at) == ("canceled", ends(subscription))
    assert len(api.invoices.list({"subscription": subscription.id}).data) == 1


def test_usage_is_billed_when_its_period_ends_to_the_last_micro_dollar(api, shop):
    """Q-19: 25,000 micro-dollars a question; 0.0001 cents each."""
    lines = [{"price": shop.basic, "quantity": 1}, {"price": shop.metered}]
    subscription = subscribe(shop, line_items=lines)
    for number in range(5):
        payload = {"stripe_customer_id": shop.customer, "value": "25000"}
        api.billing.meter_events.create({"event_name": "overage", "payload": payload, "identifier": f"use-{number}"})

    preview = api.invoices.create_preview({"subscription": subscription.id})
    advance(shop, ends(subscription))

    invoice = again(shop, subscription).latest_invoice
    assert [(line.amount, line.quantity) for line in invoice.lines.data] == [(13, 125_000), (999, 1)]
    assert invoice.total == preview.total == 1012
    advance(shop, ends(again(shop, subscription)))
    assert again(shop, subscription).latest_invoice.total == 999, "each use is billed once"


def test_what_was_used_before_the_end_is_billed_with_the_end(api, shop):
    subscription = subscribe(shop, line_items=[{"price": shop.metered}])
    assert again(shop, subscription).latest_invoice.total == 0
    payload = {"stripe_customer_id": shop.customer, "value": "2500000"}
    api.billing.meter_events.create({"event_name": "overage", "payload": payload})
    api.subscriptions.update(subscription.id, {"cancel_at_period_end": True})

    advance(shop, ends(subscription))

    over = again(shop, subscription)
    assert (over.status, over.latest_invoice.total, over.latest_invoice.status) == ("canceled", 250, "paid")


def test_an_update_that_waits_is_on_the_next_invoice(api, shop):
    subscription = subscribe(shop)
    item = subscription["items"].data[0]
    advance(shop, (item.current_period_start + item.current_period_end) // 2)
    api.subscriptions.update(subscription.id, {"items": [{"id": item.id, "price": shop.pro}]})

    advance(shop, ends(subscription))

    invoice = again(shop, subscription).latest_invoice
    assert sorted(line.amount for line in invoice.lines.data) == [-500, 1500, 2999]


def test_a_first_payment_that_never_arrives_ends_the_attempt(api, shop):
    subscription = subscribe(shop, "slow")
    (intent,) = api.payment_intents.list({"customer": shop.customer}).data
    with changing():
        renewals.arrive(find("payment_intent", intent.id), succeeds=False)

    advance(shop, time_of(shop.customer) + DAY)

    expired = again(shop, subscription)
    assert (expired.status, expired.latest_invoice.status) == ("incomplete_expired", "void")


def test_a_session_closes_after_a_day(api, shop):
    opened = session(shop)

    advance(shop, time_of(shop.customer) + DAY + 1)

    assert api.checkout.sessions.retrieve(opened.id).status == "expired"


def test_everybody_has_time_of_their_own(api, shop):
    other = api.customers.create({"email": "bob@example.com"})
    before = time_of(other.id)

    advance(shop, time_of(shop.customer) + 30 * DAY)

    assert time_of(other.id) - before < DAY
    assert time_of(shop.customer) - before >= 30 * DAY
    pay(session(shop).id)
    assert events("customer.subscription.created")[0]["data"]["object"]["start_date"] >= before + 30 * DAY


def test_the_worker_looks_after_everybody_to_whom_something_may_happen(api, shop):
    pay(session(shop, "payment", "pack").id, "slow")
    api.customers.create({"email": "bob@example.com"})
    assert tend_stand_in() == 0, "a moment is not over yet"

    with changing():
        customers.advance(shop.customer, 60)

    assert tend_stand_in() == 1
    assert tend_stand_in() == 0
    assert told()[-1] == "checkout.session.async_payment_succeeded"
