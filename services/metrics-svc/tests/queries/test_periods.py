from datetime import UTC, datetime, timedelta
from itertools import pairwise
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metrics_svc.catalogue.service import quarter
from metrics_svc.queries.periods import Interval, OffTheQuarterError, TooManyPeriodsError, periods

BERLIN, ZULU = ZoneInfo("Europe/Berlin"), ZoneInfo("UTC")
KOLKATA, KATHMANDU, LORD_HOWE = ZoneInfo("Asia/Kolkata"), ZoneInfo("Asia/Kathmandu"), ZoneInfo("Australia/Lord_Howe")
MOST = 1_000


def at(day: int, hour: int = 0, minute: int = 0, *, month: int = 11) -> datetime:
    return datetime(2026, month, day, hour, minute, tzinfo=UTC)


def test_total_is_one_period() -> None:
    assert periods(at(1), at(20), Interval.TOTAL, ZULU, MOST) == [(at(1), at(20))]


def test_days_begin_at_midnight_and_the_first_and_last_are_cut_to_the_range() -> None:
    assert periods(at(1, 18), at(3, 6), Interval.DAY, ZULU, MOST) == [
        (at(1, 18), at(2)),
        (at(2), at(3)),
        (at(3), at(3, 6)),
    ]


def test_weeks_begin_on_monday() -> None:
    # 1 November 2026 is a Sunday.
    assert [p.start for p in periods(at(1), at(16), Interval.WEEK, ZULU, MOST)] == [at(1), at(2), at(9)]


def test_months_begin_on_the_first() -> None:
    result = periods(at(31, month=1), at(15, month=4), Interval.MONTH, ZULU, MOST)
    assert [p.start for p in result] == [at(31, month=1), at(1, month=2), at(1, month=3), at(1, month=4)]


def test_days_of_a_zone_follow_its_summer_time() -> None:
    # Berlin leaves summer time on 25 October 2026: that day has 25 hours.
    result = periods(at(24, 22, month=10), at(26, 23, month=10), Interval.DAY, BERLIN, MOST)
    assert [p.end - p.start for p in result] == [timedelta(hours=25), timedelta(hours=24)]


def test_days_and_hours_follow_a_zone_whose_offset_is_not_a_whole_hour() -> None:
    assert periods(at(1), at(3), Interval.DAY, KOLKATA, MOST) == [
        (at(1), at(1, 18, 30)),
        (at(1, 18, 30), at(2, 18, 30)),
        (at(2, 18, 30), at(3)),
    ]
    assert [p.start for p in periods(at(1), at(1, 3), Interval.HOUR, KATHMANDU, MOST)] == [
        at(1), at(1, 0, 15), at(1, 1, 15), at(1, 2, 15),
    ]  # fmt: skip


def test_hours_follow_a_summer_time_of_half_an_hour() -> None:
    # Lord Howe goes from 02:00 (+10:30) to 02:30 (+11) on 4 October 2026, at 15:30 UTC of the day before, and from
    # 02:00 (+11) back to 01:30 (+10:30) on 5 April 2026, at 15:00 UTC of the day before.
    forward = periods(at(3, 14, 30, month=10), at(3, 17, month=10), Interval.HOUR, LORD_HOWE, MOST)
    assert [p.start for p in forward] == [at(3, 14, 30, month=10), at(3, 15, 30, month=10), at(3, 16, month=10)]
    back = periods(at(4, 14, month=4), at(4, 16, 30, month=4), Interval.HOUR, LORD_HOWE, MOST)
    assert [p.start for p in back] == [at(4, 14, month=4), at(4, 15, month=4), at(4, 15, 30, month=4)]


def test_a_day_that_a_zone_skipped_is_left_out() -> None:
    begin, end = datetime(2011, 12, 29, 10, tzinfo=UTC), datetime(2012, 1, 1, 10, tzinfo=UTC)
    result = periods(begin, end, Interval.DAY, ZoneInfo("Pacific/Apia"), MOST)
    assert [p.start.astimezone(ZoneInfo("Pacific/Apia")).day for p in result] == [29, 31, 1]
    assert {p.end - p.start for p in result} == {timedelta(days=1)}


def test_a_day_whose_midnight_was_skipped_begins_at_the_first_moment_after_it() -> None:
    # Toronto went from 23:30 of 30 March 1919 to 00:30 of the 31st.
    begin, end = datetime(1919, 3, 30, 5, tzinfo=UTC), datetime(1919, 4, 1, 4, tzinfo=UTC)
    result = periods(begin, end, Interval.DAY, ZoneInfo("America/Toronto"), MOST)
    assert [p.start for p in result] == [begin, datetime(1919, 3, 31, 4, 30, tzinfo=UTC)]


def test_a_zone_is_refused_where_its_days_begin_within_a_quarter_of_an_hour() -> None:
    begin = datetime(1930, 1, 1, tzinfo=UTC)
    with pytest.raises(OffTheQuarterError):
        periods(begin, begin + timedelta(days=2), Interval.DAY, ZoneInfo("Africa/Monrovia"), MOST)
    assert len(periods(begin, begin + timedelta(days=2), Interval.TOTAL, ZoneInfo("Africa/Monrovia"), MOST)) == 1


@pytest.mark.parametrize("interval", [Interval.DAY, Interval.WEEK, Interval.MONTH])
def test_zones_with_unusual_offsets_have_periods_for_all_days_from_1980_on(interval: Interval) -> None:
    begin, end = datetime(1980, 1, 1, tzinfo=UTC), datetime(2040, 1, 1, tzinfo=UTC)
    zones = (
        "Asia/Kolkata Asia/Kathmandu Australia/Lord_Howe America/St_Johns Pacific/Chatham Pacific/Kwajalein "
        "Pacific/Kiritimati Pacific/Apia America/Sao_Paulo Asia/Beirut Asia/Gaza"
    )
    for zone in zones.split():
        result = periods(begin, end, interval, ZoneInfo(zone), 30_000)
        assert all(p.start < p.end for p in result), zone


def test_more_periods_than_allowed_are_refused() -> None:
    assert len(periods(at(1), at(1) + timedelta(hours=MOST), Interval.HOUR, ZULU, MOST)) == MOST
    with pytest.raises(TooManyPeriodsError):
        periods(at(1), at(1) + timedelta(hours=MOST + 1), Interval.HOUR, ZULU, MOST)


@given(
    st.integers(0, 1_000_000),
    st.integers(1, 900),
    st.sampled_from(Interval),
    st.sampled_from(
        ["UTC", "Europe/Berlin", "America/Sao_Paulo", "Asia/Kathmandu", "Australia/Lord_Howe", "America/St_Johns"]
    ),
)
def test_periods_tile_the_range(start: int, length: int, interval: Interval, zone: str) -> None:
    begin = datetime(1990, 1, 1, tzinfo=UTC) + timedelta(minutes=15 * start)
    end = begin + timedelta(minutes=15 * length)
    result = periods(begin, end, interval, ZoneInfo(zone), MOST)
    assert result[0].start == begin
    assert result[-1].end == end
    assert all(period.end == next_one.start for period, next_one in pairwise(result))
    assert all(period.start < period.end for period in result)


def test_the_quarter_of_a_moment_is_in_utc() -> None:
    assert quarter(datetime(2026, 11, 20, 1, 59, 59, 999_999, tzinfo=BERLIN)) == at(20, 0, 45)
