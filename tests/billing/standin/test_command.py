"""manage.py standin: what no button does."""

import json

import pytest
from django.core.management import CommandError, call_command

from tests.billing.standin.conftest import pay, session, subscribe, told


@pytest.fixture
def standin(capsys):
    def run(do, **options):
        call_command("standin", do, json=True, **{"customer": "alice@example.com", **options})
        return json.loads(capsys.readouterr().out)

    return run


def test_a_month_passes_and_the_plan_renews(api, shop, standin):
    subscribe(shop)

    assert standin("advance", to="+1 month")["done"] == 1

    assert [one.billing_reason for one in api.invoices.list()] == ["subscription_cycle", "subscription_create"]


def test_a_charge_is_refunded_disputed_and_decided(api, shop, standin):
    pay(session(shop, "payment", "pack").id)

    standin("refund", cents=100)
    standin("dispute")
    assert standin("lose")["status"] == "lost"

    (charge,) = api.charges.list().data
    assert (charge.amount_refunded, charge.disputed) == (100, True)
    assert [one for one in told() if "dispute" in one] == [
        "charge.dispute.created",
        "charge.dispute.funds_withdrawn",
        "charge.dispute.closed",
    ]


@pytest.mark.parametrize(("do", "status"), [("arrive", "succeeded"), ("fail", "requires_payment_method")])
def test_a_payment_under_way_arrives_or_fails(api, shop, standin, do, status):
    done = pay(session(shop, "payment", "pack").id, "slow")

    standin(do)

    assert api.payment_intents.retrieve(done["payment_intent"]).status == status


@pytest.mark.parametrize(
    ("do", "options", "said"),
    [
        ("advance", {"to": "yesterday"}, "--to is"),
        ("advance", {"to": "2001-01-01"}, "forward"),
        ("advance", {"customer": "nobody@example.com", "to": "+1 day"}, "nobody with this address"),
        ("advance", {"customer": "cus_none", "to": "+1 day"}, "No such customer"),
        ("refund", {}, "has no charge"),
        ("win", {}, "has no charge"),
    ],
)
def test_what_cannot_be_is_refused_in_words(shop, standin, do, options, said):
    with pytest.raises(CommandError, match=said):
        standin(do, **options)


def test_with_a_key_of_stripes_there_is_no_stand_in_to_play(shop, standin, settings):
    settings.STRIPE_STAND_IN = False

    with pytest.raises(CommandError, match="not in use"):
        standin("advance", to="+1 day")
