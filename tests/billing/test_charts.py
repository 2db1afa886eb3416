"""Bars of a day: no number is lost between the drawing and its table."""

from datetime import date, timedelta

from hypothesis import given
from hypothesis import strategies as st

from billing import charts

DAYS = [date(2026, 11, 1) + timedelta(days=number) for number in range(30)]
AMOUNTS = st.dictionaries(st.sampled_from(DAYS), st.integers(0, 3000), max_size=30)


@given(plan=AMOUNTS, pack=AMOUNTS, extra=AMOUNTS)
def test_bars_stand_on_each_other_and_stay_within_the_drawing(plan, pack, extra):
    chart = charts.stacked(DAYS, {"plan": plan, "pack": pack, "extra": extra})

    assert chart.total == sum(plan.values()) + sum(pack.values()) + sum(extra.values())
    assert len(chart.lines) <= 6
    assert chart.lines[0].amount == 0
    for bar in chart.bars:
        assert bar.amounts == [plan.get(bar.day, 0), pack.get(bar.day, 0), extra.get(bar.day, 0)]
        assert [part.amount for part in bar.parts] == [amount for amount in bar.amounts if amount]
        floor = charts.BOTTOM
        for part in bar.parts:
            assert part.y + part.height <= floor + 0.11
            assert part.y >= charts.TOP - 0.11
            assert part.height >= 0
            floor = part.y
        assert charts.LEFT <= bar.x < bar.x + bar.width <= charts.RIGHT


def test_a_month_without_anything_is_drawn_as_nothing():
    chart = charts.stacked(DAYS, {"plan": {}})

    assert (chart.total, chart.busiest.total) == (0, 0)
    assert not any(bar.parts for bar in chart.bars)
    assert chart.bars[-1].is_labelled
