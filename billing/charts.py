"""Bars of a day, stacked, as plain numbers: the template draws them as SVG, and the same numbers as a table."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date

LEFT, RIGHT, TOP, BOTTOM = 44.0, 500.0, 8.0, 186.0
GAP, HAIR = 4.0, 1.0  # between days, between the parts of a day


@dataclass(frozen=True, slots=True)
class Part:
    series: int  # 1 is the lowest
    amount: int
    y: float
    height: float


@dataclass(frozen=True, slots=True)
class Bar:
    day: date
    x: float
    width: float
    middle: float
    total: int
    amounts: list[int]
    parts: list[Part]
    is_labelled: bool


@dataclass(frozen=True, slots=True)
class Line:
    y: float
    amount: int


@dataclass(frozen=True, slots=True)
class Chart:
    series: list[str]
    lines: list[Line]
    bars: list[Bar]
    total: int
    busiest: Bar


def stacked(days: Sequence[date], series: Mapping[str, Mapping[date, int]]) -> Chart:
    """Draw `days` from left to right.

    series  by its name, the lowest first: how much on which day; a day that is missing has none
    """
    totals = [sum(amounts.get(day, 0) for amounts in series.values()) for day in days]
    step = _step(max(totals))
    top = max(step, -(-max(totals) // step) * step)
    scale = (BOTTOM - TOP) / top
    slot = (RIGHT - LEFT) / len(days)
    bars = []
    for number, day in enumerate(days):
        amounts = [by_day.get(day, 0) for by_day in series.values()]
        x = LEFT + number * slot
        bars.append(
            Bar(
                day=day,
                x=round(x + GAP / 2, 1),
                width=round(slot - GAP, 1),
                middle=round(x + slot / 2, 1),
                total=sum(amounts),
                amounts=amounts,
                parts=_parts(amounts, scale),
                is_labelled=(len(days) - 1 - number) % 7 == 0,
            )
        )
    lines = [Line(round(BOTTOM - amount * scale, 1), amount) for amount in range(0, top + 1, step)]
    return Chart(list(series), lines, bars, sum(totals), max(bars, key=lambda bar: bar.total))


def _parts(amounts: list[int], scale: float) -> list[Part]:
    parts, y = [], BOTTOM
    for number, amount in enumerate(amounts, 1):
        if amount:
            height = amount * scale
            y -= height
            hair = HAIR if y + height < BOTTOM and height > 2 * HAIR else 0
            parts.append(Part(number, amount, round(y, 1), round(height - hair, 1)))
    return parts


def _step(most: int) -> int:
    """A round distance between the lines, so that there are at most five of them."""
    step = 1
    while step * 4 < most:
        step = step * 5 // 2 if str(step)[0] == "2" else step * 2
    return step
