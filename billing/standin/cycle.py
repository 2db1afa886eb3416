"""Periods of a subscription, counted as Stripe documents it and not by lib.windows: each proves the other (Q-16)."""

from calendar import monthrange
from datetime import UTC, datetime
from typing import Any

DAYS = {"day": 1, "week": 7}
MONTHS = {"month": 1, "year": 12}


def period_end(anchor: int, start: int, recurring: dict[str, Any]) -> int:
    """The first end of a period after `start`: whole intervals from the anchor, clamped to the month's last day."""
    interval, count = recurring["interval"], recurring["interval_count"]
    if interval in DAYS:
        step = DAYS[interval] * count * 24 * 3600
        return start + step - (start - anchor) % step
    periods = 1
    while (end := _months_after(anchor, periods * count * MONTHS[interval])) <= start:
        periods += 1
    return end


def _months_after(anchor: int, months: int) -> int:
    first = datetime.fromtimestamp(anchor, UTC)
    year, month = divmod(first.year * 12 + first.month - 1 + months, 12)
    day = min(first.day, monthrange(year, month + 1)[1])
    return int(first.replace(year=year, month=month + 1, day=day).timestamp())
