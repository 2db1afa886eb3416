"""Money is an integer number of micro-dollars: 25_000 is $0.025. Cents exist only towards Stripe."""

from django.utils.translation import get_language

from lib.figures import with_decimals

MICRO = 1_000_000
SIGNS = {"USD": "$", "EUR": "€", "GBP": "£"}
SIGN_LAST = ("de",)  # languages that write 9,99 $


def dollars(microusd: int) -> str:
    """Words for a page: $0.025, $9.99, $0.000042. At least two decimals, no more than are needed."""
    return _written(microusd, "$", _decimals(microusd))


def price(micro: int, currency: str = "USD") -> str:
    """Words for a price: $5, $9.99, $0.025, €49.90, 12.50 CHF. `micro` are millionths of the currency."""
    decimals = _decimals(micro)
    return _written(micro, SIGNS.get(currency.upper(), currency.upper()), "" if decimals == "00" else decimals)


def in_field(micro: int) -> str:
    """To be typed over, in any language: 10, 7.50"""
    decimals = _decimals(micro)
    return f"{micro // MICRO}" if decimals == "00" else f"{micro // MICRO}.{decimals}"


def _decimals(micro: int) -> str:
    return f"{abs(micro) % MICRO:06d}".rstrip("0").ljust(2, "0")


def _written(micro: int, sign: str, decimals: str) -> str:
    minus, amount = "-" if micro < 0 else "", with_decimals(abs(micro) // MICRO, decimals)
    if sign not in SIGNS.values():
        return f"{minus}{amount} {sign}"
    return f"{minus}{amount}\u00a0{sign}" if get_language() in SIGN_LAST else f"{minus}{sign}{amount}"
