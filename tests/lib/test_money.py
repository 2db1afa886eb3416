import pytest
from django.utils import translation
from hypothesis import given
from hypothesis import strategies as st

from lib.figures import grouped
from lib.money import dollars, in_field, price


def test_dollars_shows_what_is_needed_and_at_least_two_decimals():
    assert [dollars(microusd) for microusd in (0, 25_000, 9_990_000, 42, 1_000_000, 1_234_567_890_000, -500_000)] == [
        "$0.00",
        "$0.025",
        "$9.99",
        "$0.000042",
        "$1.00",
        "$1,234,567.89",
        "-$0.50",
    ]


@given(st.integers(-(2**62), 2**62))
def test_dollars_loses_no_micro_dollar(microusd):
    shown = dollars(microusd)

    whole, decimals = shown.replace("-", "").replace("$", "").replace(",", "").split(".")
    assert (-1 if shown.startswith("-") else 1) * int(whole + decimals.ljust(6, "0")) == microusd


@pytest.mark.parametrize(
    ("micro", "currency", "words"),
    [
        (0, "USD", "$0"),
        (5_000_000, "USD", "$5"),
        (9_990_000, "USD", "$9.99"),
        (25_000, "usd", "$0.025"),
        (1_250_000_000, "EUR", "€1,250"),
        (-2_500_000, "GBP", "-£2.50"),
        (49_900_000, "CHF", "49.90 CHF"),
    ],
)
def test_a_price_is_written_in_its_currency_without_empty_decimals(micro, currency, words):
    assert price(micro, currency) == words


def test_german_readers_find_it_as_they_write_it_and_fields_are_the_same_for_all():
    with translation.override("de"):
        assert (dollars(1_234_567_890_000), dollars(-25_000)) == ("1.234.567,89\u00a0$", "-0,025\u00a0$")
        assert (price(9_990_000), price(1_250_000_000, "EUR"), price(49_900_000, "CHF")) == (
            "9,99\u00a0$",
            "1.250\u00a0€",
            "49,90 CHF",
        )
        assert (in_field(10_000_000), in_field(1_250_500_000)) == ("10", "1250.50")
        assert grouped(1_234_567) == "1.234.567"
    assert grouped(1_234_567) == "1,234,567"
