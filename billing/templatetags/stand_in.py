"""Sums on the stand-in's pages."""

from decimal import Decimal

from django import template

register = template.Library()


@register.filter
def sum_of(cents: int | None, currency: str | None) -> str:
    """$9.99; other currencies by their code."""
    amount = Decimal(cents or 0) / 100
    sign = "-" if amount < 0 else ""
    return f"{sign}${abs(amount):,.2f}" if currency in (None, "usd") else f"{amount:,.2f} {(currency or '').upper()}"
