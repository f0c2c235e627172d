from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_svc.periods import Interval, OffTheHourError, TooManyPeriodsError, hour, periods

BERLIN, KOLKATA, ZULU = ZoneInfo("Europe/Berlin"), ZoneInfo("Asia/Kolkata"), ZoneInfo("UTC")
MOST = 1_000


def at(day: int, hour: int = 0, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, tzinfo=UTC)


def test_total_is_one_period() -> None:
    assert periods(at(1), at(20), Interval.TOTAL, ZULU, MOST) == [(at(1), at(20))]


def test_days_begin_at_midnight_and_the_ends_are_cut_to_what_was_asked() -> None:
    assert periods(at(1, 18), at(3, 6), Interval.DAY, ZULU, MOST) == [
        (at(1, 18), at(2)),
        (at(2), at(3)),
        (at(3), at(3, 6)),
    ]


def test_weeks_begin_on_monday() -> None:
    # 1 November 2026 is a Sunday.
    assert [p.start for p in periods(at(1), at(16), Interval.WEEK, ZULU, MOST)] == [at(1), at(2), at(9)]


def test_months_begin_on_the_first() -> None:
    found = periods(at(31, month=1), at(15, month=4), Interval.MONTH, ZULU, MOST)
    assert [p.start for p in found] == [at(31, month=1), at(1, month=2), at(1, month=3), at(1, month=4)]


def test_days_of_a_zone_follow_its_summer_time() -> None:
    # Berlin leaves summer time on 25 October 2026: that day has 25 hours.
    found = periods(at(24, 22, month=10), at(26, 23, month=10), Interval.DAY, BERLIN, MOST)
    assert [p.end - p.start for p in found] == [timedelta(hours=25), timedelta(hours=24)]


def test_a_zone_off_the_hour_is_refused_where_its_days_would_cut_an_hour() -> None:
    with pytest.raises(OffTheHourError):
        periods(at(1), at(3), Interval.DAY, KOLKATA, MOST)
    assert len(periods(at(1), at(3), Interval.HOUR, KOLKATA, MOST)) == 48


def test_more_periods_than_allowed_are_refused_before_they_are_made() -> None:
    assert len(periods(at(1), at(1) + timedelta(hours=MOST), Interval.HOUR, ZULU, MOST)) == MOST
    with pytest.raises(TooManyPeriodsError):
        periods(at(1), at(1) + timedelta(hours=MOST + 1), Interval.HOUR, ZULU, MOST)


@given(
    st.integers(0, 20_000),
    st.integers(1, 900),
    st.sampled_from(Interval),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Pacific/Auckland"]),
)
def test_periods_tile_the_range(start: int, length: int, interval: Interval, zone: str) -> None:
    begin = datetime(1990, 1, 1, tzinfo=UTC) + timedelta(hours=start)
    end = begin + timedelta(hours=length)
    found = periods(begin, end, interval, ZoneInfo(zone), MOST)
    assert found[0].start == begin
    assert found[-1].end == end
    assert all(one.end == next_one.start for one, next_one in pairwise(found))
    assert all(one.start < one.end for one in found)


def test_the_hour_of_a_moment_is_in_utc() -> None:
    assert hour(datetime(2026, 11, 20, 1, 59, 59, 999_999, tzinfo=BERLIN)) == at(20)
