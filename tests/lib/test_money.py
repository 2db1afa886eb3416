import pytest
from hypothesis import given
from hypothesis import strategies as st

from lib.money import dollars, price


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
