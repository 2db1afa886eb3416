"""Lines of an invoice: a period that begins, usage of one that ends, and the rest of one that changes."""

from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

from billing.standin import catalogue, meters
from billing.standin.store import Body, find


@dataclass(frozen=True, slots=True)
class Line:
    """Cents for a time. Negative for what is given back."""

    description: str
    cents: int
    price: Body
    start: int
    end: int
    quantity: int | None = 1
    item: str | None = None  # of the subscription
    is_proration: bool = False


def charges(items: list[Body], *, is_free: bool = False) -> list[Line]:
    """The period of the items, for what is paid in advance. A trial stands on the invoice as nothing."""
    lines = []
    for item in items:
        if "quantity" in item:
            words = f"Trial period for {_name(item)}" if is_free else f"{item['quantity']} × {_name(item)}"
            cents = 0 if is_free else catalogue.money(item["price"], item["quantity"])
            period = (item["current_period_start"], item["current_period_end"])
            lines.append(Line(words, cents, item["price"], *period, quantity=item["quantity"], item=item["id"]))
    return lines


def usage(customer: str, items: list[Body], *, until: int | None = None) -> list[Line]:
    """What the customer used of metered prices in the period of the items."""
    lines = []
    for item in items:
        if "quantity" not in item:
            start, end = item["current_period_start"], until or item["current_period_end"]
            used = max(0, int(meters.usage(item["price"]["recurring"]["meter"], customer, start, end)))
            cents = catalogue.money(item["price"], used)
            words = f"{used:,} × {_name(item)}"
            lines.append(Line(words, cents, item["price"], start, end, quantity=used, item=item["id"]))
    return lines


def shares(items: list[Body], at: int, *, sign: int) -> list[Line]:
    """The rest of the period, to the second, of what is paid in advance: to give back (-1) or to charge (1)."""
    lines = []
    for item in items:
        if "quantity" in item:
            start, end = item["current_period_start"], item["current_period_end"]
            full = Decimal(item["price"]["unit_amount_decimal"]) * item["quantity"]
            cents = int((full * (end - at) / (end - start)).quantize(Decimal(1), ROUND_HALF_UP)) * sign
            words = f"{'Unused' if sign < 0 else 'Remaining'} time on {_name(item)}"
            lines.append(Line(words, cents, item["price"], at, end, item["quantity"], item["id"], is_proration=True))
    return lines


def _name(item: Body) -> str:
    name: str = find("product", item["price"]["product"]).body["name"]
    return name
