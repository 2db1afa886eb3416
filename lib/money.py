"""Money is an integer number of micro-dollars: 25_000 is $0.025. Cents exist only towards Stripe."""

MICRO = 1_000_000


def dollars(microusd: int) -> str:
    """Words for a page: $0.025, $9.99, $0.000042. At least two decimals, no more than are needed."""
    whole, micro = divmod(abs(microusd), MICRO)
    decimals = f"{micro:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if microusd < 0 else ''}${whole:,}.{decimals}"


SIGNS = {"USD": "$", "EUR": "€", "GBP": "£"}


def price(micro: int, currency: str = "USD") -> str:
    """Words for a price: $5, $9.99, $0.025, €49.90, 12.50 CHF. `micro` are millionths of the currency."""
    amount = dollars(micro).replace("$", "").removesuffix(".00")
    sign = SIGNS.get(currency.upper())
    if sign is None:
        return f"{amount} {currency.upper()}"
    return f"-{sign}{amount[1:]}" if amount.startswith("-") else sign + amount
