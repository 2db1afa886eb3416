"""The stand-in reads what the SDK sends by the SDK's own types, so that our mistakes fail here as they would at Stripe."""

import pytest
import stripe

from lib.db import SERVICE, scope
from tests.billing.standin.conftest import session


@pytest.mark.parametrize(
    ("params", "code", "param"),
    [
        ({"emial": "a@example.com"}, "parameter_unknown", "emial"),
        ({"idempotency_key": "k"}, "parameter_unknown", "idempotency_key"),
        ({"address": {"steet": "x"}}, "parameter_unknown", "address[steet]"),
        ({"invoice_settings": {"default_payment_methods": "pm_1"}}, "parameter_unknown", None),
        ({"balance": "lots"}, "parameter_invalid_integer", "balance"),
        ({"email": ""}, "parameter_invalid_empty", "email"),
        ({"tax_exempt": "perhaps"}, None, "tax_exempt"),
        ({"tax_exempt": "exempt"}, "stand_in_cannot", "tax_exempt"),
        ({"preferred_locales": "de"}, None, "preferred_locales"),
        ({"email": {"address": "a@example.com"}}, None, "email"),
    ],
)
def test_a_wrong_parameter_is_refused_by_its_name(api, params, code, param):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.customers.create(params)

    assert refused.value.code == code
    assert param is None or refused.value.param == param
    assert api.customers.list().data == []


@pytest.mark.parametrize(
    ("params", "param"),
    [
        ({"product": "p"}, "currency"),
        ({"currency": "usd", "unit_amount": 1}, "product"),
        (
            {"currency": "usd", "product": "p", "unit_amount": 1, "recurring": {"interval_count": 1}},
            "recurring[interval]",
        ),
    ],
)
def test_a_missing_parameter_is_refused_by_its_name(api, params, param):
    api.products.create({"id": "p", "name": "Plan"})

    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.prices.create(params)

    assert (refused.value.code, refused.value.param) == ("parameter_missing", param)


def test_a_value_of_a_closed_set_is_checked_though_the_sdk_types_it_as_open(api, shop):
    with pytest.raises(stripe.InvalidRequestError, match="must be one of payment, setup, subscription"):
        session(shop, mode="subscripton")


def test_what_stripe_takes_but_the_stand_in_ignores_is_refused_in_words(shop):
    """A parameter that is silently dropped would hide that nothing comes of it."""
    line = {"price": shop.basic, "quantity": 1, "adjustable_quantity": {"enabled": True}}

    with pytest.raises(stripe.InvalidRequestError, match=r"does not do `line_items.adjustable_quantity.enabled`"):
        session(shop, line_items=[line])


def test_a_call_it_does_not_know_is_a_refusal_and_no_silence(api):
    with pytest.raises(stripe.InvalidRequestError, match="Unrecognized request URL"):
        api.payouts.create({"amount": 1, "currency": "usd"})


def test_a_wrong_key_and_another_version_are_refused(client, db):
    from billing.standin.client import StandIn

    with pytest.raises(stripe.AuthenticationError):
        stripe.StripeClient("pk_test_public", http_client=StandIn()).v1.customers.list()
    with pytest.raises(stripe.InvalidRequestError, match="API version"):
        client.v1.customers.list(options={"stripe_version": "2020-08-27"})


def test_an_id_of_another_kind_is_no_such_object(api, shop):
    with pytest.raises(stripe.InvalidRequestError) as refused:
        api.subscriptions.retrieve(shop.customer)

    assert (refused.value.code, refused.value.http_status) == ("resource_missing", 404)


def test_a_call_inside_a_transaction_is_a_bug(api):
    """DESIGN 2: no network call inside a scope. At the real Stripe this would hold a connection for seconds."""
    with scope(SERVICE), pytest.raises(RuntimeError, match="inside a transaction"):
        api.customers.create({"email": "a@example.com"})
