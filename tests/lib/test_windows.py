"""Windows abut without gap or overlap, wherever the clocks jump."""

from calendar import isleap
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lib.windows import EPOCH, Window, window

ZONES = [
    "UTC",
    "America/Toronto",
    "Africa/Cairo",
    "America/Havana",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Pacific/Kiritimati",
]
FIRST, LAST = datetime(2024, 1, 1, tzinfo=UTC), datetime(2030, 12, 31, tzinfo=UTC)
SECOND = timedelta(seconds=1)
any_speed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # a busy machine is no finding
instants = st.datetimes(FIRST.replace(tzinfo=None), LAST.replace(tzinfo=None)).map(lambda at: at.replace(tzinfo=UTC))


def local_date(at, zone):
    return at.astimezone(ZoneInfo(zone)).date()


def first_instant_of(day, zone):
    """By search, not by arithmetic: the first second whose local date is `day`."""
    low = datetime(day.year, day.month, day.day, tzinfo=UTC) - timedelta(hours=30)
    high = low + timedelta(hours=60)
    while high - low > SECOND:
        middle = low + (high - low) // 2
        if local_date(middle, zone) < day:
            low = middle
        else:
            high = middle
    return high.replace(microsecond=0)


@pytest.mark.parametrize("zone", ZONES)
def test_every_day_of_seven_years_opens_when_its_date_begins(zone):
    """Q-14: -1 s, 0, +1 s around each local midnight; consecutive days abut."""
    at, before = FIRST, None
    while at < LAST:
        day = window("day", at, zone=zone)
        if before:
            assert day.opens_at == before.closes_at
        assert window("day", day.opens_at - SECOND, zone=zone).closes_at == day.opens_at
        assert window("day", day.opens_at, zone=zone) == day
        assert window("day", day.opens_at + SECOND, zone=zone) == day
        assert window("day", day.closes_at - SECOND, zone=zone) == day
        assert local_date(day.opens_at, zone) > local_date(day.opens_at - SECOND, zone)
        at, before = day.closes_at, day


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("America/Toronto", date(2026, 11, 1), 25),
        ("America/Toronto", date(2026, 3, 8), 23),
        ("Australia/Lord_Howe", date(2026, 4, 5), 24.5),
        ("Africa/Cairo", date(2026, 4, 24), 23),  # 00:00 does not exist
        ("America/Havana", date(2026, 3, 8), 23),  # nor here
        ("America/Havana", date(2026, 11, 1), 25),  # 00:00 comes twice
        ("Asia/Almaty", date(2024, 2, 29), 25),  # the zone itself was moved, at midnight
        ("America/Nuuk", date(2024, 3, 30), 23),  # 23:00 jumps to the next day
        ("UTC", date(2028, 2, 29), 24),
    ],
)
def test_a_day_is_as_long_as_its_clocks_make_it(zone, day, hours):
    """Q-14, M13"""
    opens_at, closes_at = first_instant_of(day, zone), first_instant_of(day + timedelta(days=1), zone)

    assert window("day", opens_at, zone=zone) == Window(opens_at, closes_at)
    assert closes_at - opens_at == timedelta(hours=hours)


@any_speed
@given(at=instants, zone=st.sampled_from(ZONES), kind=st.sampled_from(["day", "month"]))
def test_each_instant_is_in_exactly_one_window(at, zone, kind):
    """Q-14"""
    found = window(kind, at, zone=zone)

    assert found.opens_at <= at < found.closes_at
    assert window(kind, found.opens_at, zone=zone) == found
    assert window(kind, found.closes_at, zone=zone).opens_at == found.closes_at, "a gap or an overlap after it"
    assert window(kind, found.opens_at - SECOND, zone=zone).closes_at == found.opens_at, "or before it"


@any_speed
@given(at=instants, zone=st.sampled_from(ZONES))
def test_a_calendar_month_is_its_days(at, zone):
    month, today = window("month", at, zone=zone), local_date(at, zone)

    assert local_date(month.opens_at, zone) == today.replace(day=1)
    assert local_date(month.closes_at - SECOND, zone).month == today.month
    assert window("day", month.opens_at, zone=zone).opens_at == month.opens_at


@any_speed
@given(at=instants, anchor=instants)
def test_months_from_any_anchor_abut_and_open_on_its_day_and_time(at, anchor):
    """Q-16"""
    found = window("month", at, anchor=anchor, zone="America/Toronto")

    assert found.opens_at <= at < found.closes_at
    assert window("month", found.closes_at, anchor=anchor).opens_at == found.closes_at
    assert window("month", found.opens_at - SECOND, anchor=anchor).closes_at == found.opens_at
    assert found.opens_at.timetz() == anchor.timetz()
    tomorrow = found.opens_at + timedelta(days=1)
    assert found.opens_at.day == anchor.day or (found.opens_at.day < anchor.day and tomorrow.day == 1)


@pytest.mark.parametrize("day", [29, 30, 31])
@pytest.mark.parametrize("year", [2027, 2028])
def test_an_anchor_at_the_end_of_january_comes_back_to_its_day(day, year):
    """Q-16: as Stripe does; February ends it early and the months after do not forget the day."""
    anchor = datetime(year, 1, day, 9, 30, tzinfo=UTC)
    february = min(day, 29 if isleap(year) else 28)
    april = min(day, 30)

    opened, at = [], anchor
    for _ in range(5):
        found = window("month", at, anchor=anchor)
        opened.append((found.opens_at.month, found.opens_at.day))
        at = found.closes_at

    assert opened == [(1, day), (2, february), (3, day), (4, april), (5, day)]
    assert found.opens_at.hour == 9


def test_an_anchor_on_the_leap_day_keeps_its_months():
    """Q-16"""
    anchor = datetime(2028, 2, 29, tzinfo=UTC)

    assert window("month", datetime(2029, 2, 28, 12, tzinfo=UTC), anchor=anchor).opens_at.day == 28
    assert window("month", datetime(2029, 3, 29, tzinfo=UTC), anchor=anchor).opens_at.day == 29
    assert window("month", datetime(2032, 2, 29, tzinfo=UTC), anchor=anchor).opens_at.day == 29


def test_what_never_resets_is_one_window_for_good():
    for kind in ("lifetime", "none"):
        assert window(kind, FIRST, zone="Africa/Cairo") == window(kind, LAST) == Window(EPOCH, None)
