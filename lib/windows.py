"""Windows of time in which a limit counts: half-open, abutting, in the brand's zone. Computed, never reset.

A day begins at the first instant whose local date is that day: where the clocks skip midnight, that is the jump; where
midnight comes twice, it is the first one.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from zoneinfo import ZoneInfo

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class WindowKind(StrEnum):
    LIFETIME = "lifetime"
    DAY = "day"
    MONTH = "month"
    NONE = "none"  # counts without a limit in time of its own: packs


@dataclass(frozen=True, slots=True)
class Window:
    """`closes_at` is exclusive; None = never."""

    opens_at: datetime
    closes_at: datetime | None


def window(kind: str, at: datetime, *, zone: str = "UTC", anchor: datetime | None = None) -> Window:
    """The window of `kind` that contains `at`.

    anchor  for a month: the start of the subscription; periods begin on its day and time (UTC), clamped to the month's
            end, as Stripe does. Without one, the calendar month in `zone`.
    """
    if kind in (WindowKind.LIFETIME, WindowKind.NONE):
        return Window(EPOCH, None)
    if kind == WindowKind.DAY:
        today = at.astimezone(ZoneInfo(zone)).date()
        return Window(_midnight(today, zone), _midnight(today + timedelta(days=1), zone))
    if anchor is None:
        first = at.astimezone(ZoneInfo(zone)).date().replace(day=1)
        return Window(_midnight(first, zone), _midnight((first + timedelta(days=32)).replace(day=1), zone))
    at, anchor = at.astimezone(UTC), anchor.astimezone(UTC)
    months = (at.year - anchor.year) * 12 + at.month - anchor.month
    while _plus_months(anchor, months) > at:
        months -= 1
    while _plus_months(anchor, months + 1) <= at:
        months += 1
    return Window(_plus_months(anchor, months), _plus_months(anchor, months + 1))


def _midnight(day: date, zone: str) -> datetime:
    return datetime.combine(day, time(), ZoneInfo(zone)).astimezone(UTC)  # fold=0: the earlier; in a gap, the jump


def _plus_months(anchor: datetime, months: int) -> datetime:
    anchor = anchor.astimezone(UTC)
    year, month = divmod(anchor.year * 12 + anchor.month - 1 + months, 12)
    return anchor.replace(year=year, month=month + 1, day=min(anchor.day, monthrange(year, month + 1)[1]))
