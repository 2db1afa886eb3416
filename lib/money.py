"""Money is an integer number of micro-dollars: 25_000 is $0.025. Cents exist only towards Stripe."""

MICRO = 1_000_000


def dollars(microusd: int) -> str:
    """Words for a page: $0.025, $9.99, $0.000042. At least two decimals, no more than are needed."""
    whole, micro = divmod(abs(microusd), MICRO)
    decimals = f"{micro:06d}".rstrip("0").ljust(2, "0")
    return f"{'-' if microusd < 0 else ''}${whole:,}.{decimals}"
