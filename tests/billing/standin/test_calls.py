"""Each call of the API by the official SDK: what it gives, and what it refuses."""

import asyncio

import pytest
import stripe

from billing.standin import cards, payments, renewals
from billing.standin.customers import own_time
from billing.standin.models import StandInObject
from billing.standin.store import changing, find
from lib import clock
from lib.db import SERVICE, scope
from tests.billing.standin.conftest import events, pay, session, subscribe, told

DAY = 24 * 3600


def refused(call, *args, **kwargs):
    with pytest.raises(stripe.StripeError) as error:
        call(*args, **kwargs)
    return error.value


def test_a_customer_is_made_changed_and_found(api):
    made = api.customers.create({"email": "a@example.com", "metadata": {"user": "1", "brand": "act"}})

    changed = api.customers.update(made.id, {"name": "Alice", "metadata": {"user": "", "seen": "yes"}})

    assert changed.name == "Alice"
    assert changed.metadata.to_dict() == {"brand": "act", "seen": "yes"}
    assert api.customers.retrieve(made.id).email == "a@example.com"
    assert [one.id for one in api.customers.list({"email": "a@example.com"})] == [made.id]
    assert told() == ["customer.created", "customer.updated"]
    assert refused(api.customers.retrieve, "cus_none").code == "resource_missing"


def test_a_list_pages_by_itself_in_both_directions(api):
    made = [api.customers.create({"name": str(number)}).id for number in range(7)]

    newest_first = [one.id for one in api.customers.list({"limit": 3}).auto_paging_iter()]

    assert newest_first == made[::-1]
    assert [one.id for one in api.customers.list({"limit": 2, "ending_before": made[0]}).data] == [made[2], made[1]]
    assert refused(api.customers.list, {"limit": 101}).param == "limit"
    assert api.customers.list({"created": {"gt": int(clock.now().timestamp()) + 60}}).data == []


def test_a_price_is_found_by_its_lookup_key_and_the_key_moves_when_told(api, shop):
    found = api.prices.list({"lookup_keys": ["basic", "pro"], "active": True})
    assert {price.lookup_key: price.unit_amount for price in found} == {"basic": 999, "pro": 2999}
    dearer = {"product": found.data[0].product, "currency": "usd", "unit_amount": 1099, "lookup_key": "basic"}

    assert refused(api.prices.create, dearer).code == "resource_already_exists"
    new = api.prices.create({**dearer, "transfer_lookup_key": True})

    assert [price.id for price in api.prices.list({"lookup_keys": ["basic"]})] == [new.id]
    assert api.prices.retrieve(shop.basic).lookup_key is None
    assert api.prices.update(shop.basic, {"active": False}).active is False


@pytest.mark.parametrize(
    "wrong",
    [
        {"unit_amount": 1, "unit_amount_decimal": "1.5"},
        {},
        {"unit_amount": -1},
        {"unit_amount_decimal": "0.0000000000001"},
        {"unit_amount": 1, "recurring": {"interval": "month", "usage_type": "metered"}},
        {"unit_amount": 1, "recurring": {"interval": "month", "meter": "mtr_1"}},
        {"unit_amount": 1, "recurring": {"interval": "fortnight"}},
        {"unit_amount": 1, "product": "prod_none"},
    ],
)
def test_a_price_that_stripe_would_not_take(api, shop, wrong):
    product = api.prices.retrieve(shop.basic).product

    assert refused(api.prices.create, {"product": product, "currency": "usd", **wrong}).http_status in (400, 404)


def test_products_are_made_changed_and_listed(api):
    made = api.products.create({"name": "Basic", "metadata": {"code": "basic"}})

    assert api.products.update(made.id, {"name": "Basic+", "active": False}).name == "Basic+"
    assert [one.id for one in api.products.list({"active": False})] == [made.id]
    assert api.products.retrieve(made.id).metadata["code"] == "basic"


def test_a_subscription_is_bought_at_a_checkout(api, shop):
    opened = session(shop, client_reference_id="alice", subscription_data={"metadata": {"plan": "basic"}})
    assert (opened.status, opened.payment_status, opened.amount_total) == ("open", "unpaid", 999)
    assert opened.url == f"http://act.localhost:8000/stand-in/checkout/{opened.id}/"

    pay(opened.id)

    done = api.checkout.sessions.retrieve(opened.id, {"expand": ["subscription.latest_invoice", "line_items"]})
    assert (done.status, done.payment_status, done.client_reference_id) == ("complete", "paid", "alice")
    assert done.line_items.data[0].price.id == shop.basic
    assert (done.subscription.status, done.subscription.metadata["plan"]) == ("active", "basic")
    item = done.subscription["items"].data[0]
    assert 28 * DAY <= item.current_period_end - item.current_period_start <= 31 * DAY
    invoice = done.subscription.latest_invoice
    assert (invoice.status, invoice.total, invoice.amount_paid, invoice.total_taxes) == ("paid", 999, 999, [])
    assert invoice.number.endswith("-0001")
    assert invoice.hosted_invoice_url.startswith("http://act.localhost:8000/stand-in/invoice/in_")
    assert invoice.parent.subscription_details.subscription == done.subscription.id
    (payment,) = api.invoice_payments.list({"invoice": invoice.id}).data
    charge = api.charges.retrieve(api.payment_intents.retrieve(payment.payment.payment_intent).latest_charge)
    assert (charge.paid, charge.amount) == (True, 999)
    expected = {"customer.subscription.created", "invoice.paid", "invoice.payment_succeeded", "charge.succeeded"}
    assert expected <= set(told())
    assert told()[-1] == "checkout.session.completed"


def test_a_declined_card_buys_nothing_and_another_one_still_can(api, shop):
    opened = session(shop)

    with pytest.raises(Exception, match="declined"):
        pay(opened.id, "declined")

    assert api.checkout.sessions.retrieve(opened.id).status == "open"
    assert api.subscriptions.list({"customer": shop.customer, "status": "all"}).data == []
    assert pay(opened.id)["status"] == "complete"


def test_a_declined_payment_of_a_pack_leaves_a_failed_charge(api, shop):
    opened = session(shop, "payment", "pack")

    with pytest.raises(Exception, match="declined"):
        pay(opened.id, "declined")
    pay(opened.id)

    paid, failed = api.charges.list({"customer": shop.customer}).data
    assert (failed.status, failed.failure_code, paid.status) == ("failed", "card_declined", "succeeded")
    assert {"payment_intent.payment_failed", "charge.failed"} <= set(told())


def test_a_session_paid_twice_is_paid_once(api, shop):
    """S-14: the second click of two tabs."""
    opened = session(shop, "payment", "pack", invoice_creation={"enabled": True})

    first, second = pay(opened.id), pay(opened.id, "declined")

    assert first == second
    (charge,) = api.charges.list({"customer": shop.customer}).data
    assert charge.amount == 500
    (invoice,) = api.invoices.list({"customer": shop.customer}).data
    assert (invoice.id, invoice.status, invoice.total) == (first["invoice"], "paid", 500)
    assert told().count("checkout.session.completed") == 1


def test_a_payment_that_needs_a_moment_arrives_later(api, shop):
    opened = session(shop, "payment", "pack", invoice_creation={"enabled": True})

    done = pay(opened.id, "slow")
    intent = api.payment_intents.retrieve(done["payment_intent"])
    assert (done["status"], done["payment_status"], intent.status) == ("complete", "unpaid", "processing")
    with changing():
        renewals.advance(shop.customer, own_time(shop.customer) + 60)

    done = api.checkout.sessions.retrieve(opened.id, {"expand": ["payment_intent", "invoice"]})
    assert (done.payment_status, done.payment_intent.status, done.invoice.status) == ("paid", "succeeded", "paid")
    assert told()[-1] == "checkout.session.async_payment_succeeded"


@pytest.mark.parametrize("succeeds", [True, False])
def test_a_first_invoice_that_is_under_way_keeps_the_subscription_incomplete(api, shop, succeeds):
    subscription = subscribe(shop, "slow")
    assert subscription.status == "incomplete"

    with changing():
        row = StandInObject.objects.get(kind="payment_intent", body__status="processing")
        renewals.arrive(row, succeeds=succeeds)

    assert api.subscriptions.retrieve(subscription.id).status == ("active" if succeeds else "incomplete")
    assert told()[-1] == f"checkout.session.async_payment_{'succeeded' if succeeds else 'failed'}"


def test_a_card_is_stored_without_a_payment(api, shop):
    done = pay(session(shop, "setup", setup_intent_data={"metadata": {"kind": "card"}}).id)

    setup = api.setup_intents.retrieve(done["setup_intent"])
    (method,) = api.payment_methods.list({"customer": shop.customer, "type": "card"}).data
    assert (setup.status, setup.payment_method, setup.metadata["kind"]) == ("succeeded", method.id, "card")
    assert method.card.last4 == "4242"
    assert api.charges.list({"customer": shop.customer}).data == []
    assert api.payment_methods.detach(method.id).customer is None
    assert api.payment_methods.list({"customer": shop.customer}).data == []
    assert refused(api.payment_methods.detach, method.id).http_status == 400


@pytest.mark.parametrize(
    ("mode", "price", "more", "said"),
    [
        ("payment", "basic", {}, "recurring price"),
        ("subscription", "pack", {}, "one-time price"),
        ("setup", "basic", {"line_items": [{"price": "p", "quantity": 1}]}, "setup"),
        ("setup", "basic", {"currency": None}, "currency"),
        ("payment", "pack", {"subscription_data": {"trial_period_days": 3}}, "You can not pass"),
        ("subscription", "basic", {"payment_intent_data": {"description": "x"}}, "You can not pass"),
        ("subscription", "basic", {"subscription_data": {"trial_period_days": 0}}, "minimum number"),
        ("subscription", "metered", {}, "no quantity"),
        ("subscription", "basic", {"currency": "eur"}, "only supports"),
        ("subscription", "basic", {"expires_at": 1}, "30 minutes"),
        ("subscription", "basic", {"success_url": "javascript:alert(1)"}, "valid URL"),
        ("subscription", "basic", {"customer": "cus_none"}, "No such customer"),
    ],
)
def test_a_session_that_stripe_would_not_open(shop, mode, price, more, said):
    assert said in str(refused(session, shop, mode, price, **more))


def test_an_expired_session_cannot_be_paid(api, shop):
    opened = session(shop)

    assert api.checkout.sessions.expire(opened.id).status == "expired"

    with pytest.raises(Exception, match="expired"):
        pay(opened.id)
    assert refused(api.checkout.sessions.expire, opened.id).http_status == 400
    assert told()[-1] == "checkout.session.expired"


def test_a_cancelled_subscription_ends_with_its_period_or_at_once(api, shop):
    subscription = subscribe(shop)
    ends = subscription["items"].data[0].current_period_end

    leaving = api.subscriptions.update(
        subscription.id,
        {"cancel_at_period_end": True, "cancellation_details": {"feedback": "too_expensive", "comment": "Sorry"}},
    )
    assert (leaving.status, leaving.cancel_at) == ("active", ends)
    assert (leaving.cancellation_details.feedback, leaving.cancellation_details.reason) == (
        "too_expensive",
        "cancellation_requested",
    )
    staying = api.subscriptions.update(subscription.id, {"cancel_at_period_end": False})
    assert (staying.cancel_at, staying.cancellation_details.reason) == (None, None)

    over = api.subscriptions.cancel(subscription.id, {"cancellation_details": {"feedback": "unused"}})

    assert (over.status, over.cancellation_details.feedback) == ("canceled", "unused")
    assert told()[-1] == "customer.subscription.deleted"
    assert api.subscriptions.list({"customer": shop.customer}).data == []
    assert [one.id for one in api.subscriptions.list({"customer": shop.customer, "status": "canceled"})] == [over.id]
    assert refused(api.subscriptions.cancel, subscription.id).code == "resource_missing"
    assert refused(api.subscriptions.update, subscription.id, {"cancel_at_period_end": True}).http_status == 400


def test_an_upgrade_charges_the_rest_of_the_period_and_its_preview_said_so(api, shop):
    subscription = subscribe(shop)
    item = subscription["items"].data[0]
    half = (item.current_period_start + item.current_period_end) // 2
    with changing():
        renewals.advance(shop.customer, half)
    change = {"items": [{"id": item.id, "price": shop.pro}], "proration_behavior": "always_invoice"}
    preview = api.invoices.create_preview({"subscription": subscription.id, "subscription_details": change})

    changed = api.subscriptions.update(subscription.id, {**change, "expand": ["latest_invoice"]})

    amounts = [line.amount for line in changed.latest_invoice.lines.data]
    # Half of $9.99, rounded half up, and half of $29.99; on a busy machine a second may have gone since the half.
    assert amounts in ([-500, 1500], [-499, 1499])
    assert changed.latest_invoice.amount_paid == preview.amount_due == 1000
    assert [line.parent.subscription_item_details.proration for line in preview.lines.data] == [True, True]
    new = changed["items"].data[0]
    assert (new.price.id, new.current_period_end) == (shop.pro, item.current_period_end)


def test_a_refused_upgrade_changes_nothing(api, shop):
    subscription = subscribe(shop, "fails-later")
    with changing():
        declined = cards.attach(shop.customer, "declined")
    change = {
        "items": [{"id": subscription["items"].data[0].id, "price": shop.pro}],
        "proration_behavior": "always_invoice",
        "payment_behavior": "error_if_incomplete",
        "default_payment_method": declined.pk,
    }

    assert isinstance(refused(api.subscriptions.update, subscription.id, change), stripe.CardError)

    after = api.subscriptions.retrieve(subscription.id)
    assert (after.status, after["items"].data[0].price.id) == ("active", shop.basic)
    assert after.default_payment_method == subscription.default_payment_method


def test_a_downgrade_without_proration_charges_and_gives_back_nothing(api, shop):
    subscription = subscribe(shop, price="pro")
    item = subscription["items"].data[0]

    changed = api.subscriptions.update(
        subscription.id, {"items": [{"id": item.id, "price": shop.basic}], "proration_behavior": "none"}
    )

    assert changed.latest_invoice == subscription.latest_invoice
    assert api.invoices.create_preview({"subscription": subscription.id}).amount_due == 999


def test_what_a_downgrade_gives_back_waits_as_a_credit(api, shop):
    """An invoice below zero is paid by nobody: the customer has it to their credit, and the next one takes it."""
    subscription = subscribe(shop, price="pro")
    item = subscription["items"].data[0]

    changed = api.subscriptions.update(
        subscription.id,
        {
            "items": [{"id": item.id, "price": shop.basic}],
            "proration_behavior": "always_invoice",
            "expand": ["latest_invoice"],
        },
    )

    invoice = changed.latest_invoice
    assert (invoice.total, invoice.amount_due, invoice.status) == (-2000, 0, "paid")
    assert api.customers.retrieve(shop.customer).balance == -2000
    assert api.invoices.create_preview({"subscription": subscription.id}).amount_due == 0


def test_another_interval_begins_a_period_at_once(api, shop):
    subscription = subscribe(shop)
    item = subscription["items"].data[0]

    yearly = api.subscriptions.update(
        subscription.id, {"items": [{"id": item.id, "price": shop.year}], "expand": ["latest_invoice"]}
    )

    new = yearly["items"].data[0]
    assert 365 * DAY <= new.current_period_end - new.current_period_start <= 366 * DAY
    assert yearly.latest_invoice.amount_paid == 9990 - 999


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"items": [{"id": "si_none", "price": "basic"}]}, "No such subscription item"),
        ({"items": [{"price": "pack"}]}, "type=one_time"),
        ({"items": [{"price": "price_none"}]}, "No such price"),
        ({"items": [{"price": "basic"}]}, "two items with the same price"),
        ({"trial_end": 1}, "future"),
        ({"default_payment_method": "pm_none"}, "No such payment method"),
        ({"payment_behavior": "pending_if_incomplete"}, "does not do"),
    ],
)
def test_a_change_that_stripe_would_not_take(api, shop, change, said):
    subscription = subscribe(shop)
    for item in change.get("items", []):
        item["price"] = getattr(shop, item["price"], item["price"])

    assert said in str(refused(api.subscriptions.update, subscription.id, change))


def test_a_refund_in_parts_and_never_more_than_was_paid(api, shop):
    done = pay(session(shop, "payment", "pack").id)
    intent = done["payment_intent"]

    first = api.refunds.create({"payment_intent": intent, "amount": 200, "metadata": {"why": "half"}})
    charge = api.charges.retrieve(first.charge)
    assert (charge.amount_refunded, charge.refunded) == (200, False)
    assert "greater than unrefunded amount" in str(
        refused(api.refunds.create, {"payment_intent": intent, "amount": 301})
    )
    assert refused(api.refunds.create, {"payment_intent": intent, "amount": 0}).param == "amount"
    api.refunds.create({"charge": first.charge})

    assert api.charges.retrieve(first.charge).refunded is True
    assert refused(api.refunds.create, {"charge": first.charge}).code == "charge_already_refunded"
    assert [refund.amount for refund in api.refunds.list({"charge": first.charge})] == [300, 200]
    assert api.refunds.retrieve(first.id).metadata["why"] == "half"
    assert told().count("charge.refunded") == told().count("refund.created") == 2


@pytest.mark.parametrize("won", [True, False])
def test_a_dispute_takes_the_money_until_it_is_decided(api, shop, won):
    """S-15."""
    intent = api.payment_intents.retrieve(pay(session(shop, "payment", "pack").id)["payment_intent"])
    with changing():
        made = payments.dispute(find("charge", intent.latest_charge))
    assert api.charges.retrieve(intent.latest_charge).disputed is True
    assert refused(api.refunds.create, {"charge": intent.latest_charge}).code == "charge_disputed"

    with changing():
        payments.decide_dispute(find("dispute", made.pk), won=won)

    assert api.disputes.retrieve(made.pk).status == ("won" if won else "lost")
    assert [one.id for one in api.disputes.list({"charge": intent.latest_charge})] == [made.pk]
    assert ("charge.dispute.funds_reinstated" in told()) is won
    assert told()[-1] == "charge.dispute.closed"
    assert refused(api.disputes.close, made.pk).http_status == 400


def test_usage_is_counted_once_per_identifier(api, shop):
    def report(value, identifier, **more):
        payload = {"stripe_customer_id": shop.customer, "value": value}
        return api.billing.meter_events.create(
            {"event_name": "overage", "payload": payload, "identifier": identifier, **more}
        )

    at = int(clock.now().timestamp())
    report("25000", "use-1")
    report("50000", "use-2", timestamp=at - 60)

    assert "already exists" in str(refused(report, "25000", "use-1"))
    assert refused(report, "1", "old", timestamp=at - 36 * DAY).code == "timestamp_too_far_in_past"
    assert refused(report, "1", "new", timestamp=at + 3600).code == "timestamp_in_future"
    assert refused(report, "lots", "words").param == "payload[value]"
    start = (at // 60 - 5) * 60
    window = {"customer": shop.customer, "start_time": start, "end_time": start + 600}
    (summary,) = api.billing.meters.event_summaries.list(shop.meter.id, window).data
    assert summary.aggregated_value == 75_000
    assert refused(api.billing.meters.event_summaries.list, shop.meter.id, {**window, "start_time": start + 1})


def test_a_meter_has_its_name_for_itself_and_an_event_needs_one(api, shop):
    wanted = {"display_name": "Again", "event_name": "overage", "default_aggregation": {"formula": "sum"}}

    assert refused(api.billing.meters.create, wanted).code == "resource_already_exists"
    payload = {"stripe_customer_id": shop.customer, "value": "1"}
    assert "No active meter" in str(
        refused(api.billing.meter_events.create, {"event_name": "other", "payload": payload})
    )
    assert api.billing.meters.retrieve(shop.meter.id).event_name == "overage"
    assert [one.id for one in api.billing.meters.list({"status": "active"})] == [shop.meter.id]
    assert api.billing.meters.deactivate(shop.meter.id).status == "inactive"
    assert api.billing.meters.create(wanted).status == "active"


def test_a_portal_opens_for_a_customer(api, shop):
    made = api.billing_portal.sessions.create({"customer": shop.customer, "return_url": "http://act.localhost:8000/"})

    assert made.url == f"http://act.localhost:8000/stand-in/portal/{made.id}/"
    assert refused(api.billing_portal.sessions.create, {"return_url": "http://a.example/"}).param == "customer"
    other = api.customers.create({"email": "bob@example.com"})
    flow = {"type": "subscription_cancel", "subscription_cancel": {"subscription": subscribe(shop).id}}
    body = {"customer": other.id, "return_url": "http://a.example/", "flow_data": flow}
    assert "another customer" in str(refused(api.billing_portal.sessions.create, body))


def test_an_open_invoice_is_paid_or_written_off(api, shop):
    subscription = subscribe(shop, "fails-later")
    with changing():
        renewals.advance(shop.customer, subscription["items"].data[0].current_period_end)
    (invoice,) = api.invoices.list({"customer": shop.customer, "status": "open"}).data
    with changing():
        bad, good = (cards.attach(shop.customer, code) for code in ("declined", "works"))

    assert isinstance(refused(api.invoices.pay, invoice.id, {"payment_method": bad.pk}), stripe.CardError)
    assert api.invoices.retrieve(invoice.id).attempt_count == 2
    assert api.invoices.pay(invoice.id, {"payment_method": good.pk}).status == "paid"

    assert api.subscriptions.retrieve(subscription.id).status == "active"
    assert refused(api.invoices.pay, invoice.id).code == "invoice_already_paid"
    assert refused(api.invoices.void_invoice, invoice.id).http_status == 400


def test_events_are_listed_as_they_were_told(api, shop):
    api.customers.update(shop.customer, {"name": "Alice"})

    (event,) = api.events.list({"type": "customer.updated"}).data

    assert event.data.object.name == "Alice"
    assert event.data.previous_attributes.to_dict() == {"name": None}
    assert event.api_version == stripe.api_version
    assert api.events.retrieve(event.id).type == "customer.updated"
    assert [one.type for one in api.events.list({"types": ["customer.created"]})] == ["customer.created"]


@pytest.mark.django_db(transaction=True)
def test_the_async_client_asks_the_same_stripe(client):
    made = asyncio.run(client.v1.customers.create_async({"email": "a@example.com"}))

    assert client.v1.customers.retrieve(made.id).email == "a@example.com"


def test_a_thing_cannot_be_expanded_that_is_not_there(api, shop):
    assert "cannot be expanded" in str(refused(api.customers.retrieve, shop.customer, {"expand": ["wallet"]}))
    assert "cannot be expanded" in str(refused(api.subscriptions.retrieve, subscribe(shop).id, {"expand": ["status"]}))


def test_every_object_has_only_fields_and_values_that_the_sdk_knows(api, shop):
    """What we answer is checked by the SDK's own types too, so that nobody builds on a field that Stripe does not send."""
    from tests.billing.standin.shapes import faults

    subscription = subscribe(shop, "fails-later", subscription_data={"trial_period_days": 3})
    with changing():
        renewals.advance(shop.customer, own_time(shop.customer) + 70 * DAY)
    pay(session(shop, "setup").id)
    intent = pay(session(shop, "payment", "pack", invoice_creation={"enabled": True}).id)["payment_intent"]
    api.refunds.create({"payment_intent": intent, "amount": 1})
    charge = api.payment_intents.retrieve(intent).latest_charge
    with changing():
        payments.dispute(find("charge", charge))
    api.billing_portal.sessions.create({"customer": shop.customer, "return_url": "http://act.localhost:8000/"})
    payload = {"stripe_customer_id": shop.customer, "value": "1"}
    api.billing.meter_events.create({"event_name": "overage", "payload": payload})
    assert api.subscriptions.retrieve(subscription.id).status == "canceled"

    with scope(SERVICE):
        rows = StandInObject.objects.exclude(kind="billing.meter_event")
        bodies = [row.body for row in rows]

    kinds = {body["object"] for body in bodies}
    assert len(kinds) >= 16
    assert sorted({fault for body in bodies for fault in faults(body)}) == []
    assert events()
