"""Times are accepted strictly as RFC 3339, sources as URI references."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchpoint.base import times
from touchpoint.contracts import sources


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-11-22T09:30:00Z", "2026-11-22T09:30:00+00:00"),
        ("2026-11-22t09:30:00z", "2026-11-22T09:30:00+00:00"),
        ("2026-11-22T09:30:00-00:00", "2026-11-22T09:30:00+00:00"),
        ("2026-11-22T09:30:00+23:59", "2026-11-22T09:30:00+23:59"),
        ("2026-11-22T09:30:00.1Z", "2026-11-22T09:30:00.100000+00:00"),
        ("2026-11-22T09:30:00.123456789012345Z", "2026-11-22T09:30:00.123456+00:00"),
        ("2016-12-31T23:59:60Z", "2016-12-31T23:59:59.999999+00:00"),
        ("2017-01-01T00:59:60.5+01:00", "2017-01-01T00:59:59.999999+01:00"),
    ],
)
def test_a_valid_rfc_3339_time_is_parsed(text, moment):
    assert times.read(text).isoformat() == moment


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("2026-11-22 09:30:00Z", "with T"),
        ("2026-11-22T09:30:00", "offset"),
        ("2026-11-22T09:30Z", "RFC 3339"),
        ("2026-11-22T09:30:00+0100", "RFC 3339"),
        ("2026-11-22T09:30:00+24:00", "RFC 3339"),
        ("2026-11-22T09:30:00+00:60", "RFC 3339"),
        ("2026-11-22T24:00:00Z", "RFC 3339"),
        ("2026-11-22T09:30:00,5Z", "RFC 3339"),
        ("2026-11-22T09:30:00.Z", "RFC 3339"),
        ("２０２６-11-22T09:30:00Z", "RFC 3339"),
        ("2026-02-30T09:30:00Z", "calendar"),
        ("2026-11-22T09:30:60Z", "23:59:60 in UTC"),
        ("2026-11-22T23:59:60Z", "last day of a month"),
        ("9999-12-31T23:59:60-23:59", "last day of a month"),
        ("1700000000", "RFC 3339"),
    ],
)
def test_an_invalid_time_is_refused_with_the_valid_form(text, reason):
    with pytest.raises(ValueError, match=reason):
        times.read(text)


@given(
    st.datetimes(datetime(1900, 1, 2), datetime(2199, 12, 30)),  # noqa: DTZ001 (the offset is drawn beside it)
    st.integers(-1439, 1439),
    st.integers(0, 9),
)
def test_every_time_is_parsed_as_the_instant_that_was_written(moment, minutes, digits):
    sign, away = "-" if minutes < 0 else "+", abs(minutes)
    text = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond:06}{'9' * digits}{sign}{away // 60:02}:{away % 60:02}"
    assert times.read(text) == moment.replace(tzinfo=UTC) - timedelta(minutes=minutes)


@pytest.mark.parametrize(
    "source",
    ["/crm/eu", "urn:crm:eu", "https://crm.example.com:8443/eu?x=1#y", "//host/p", "crm", "/a:b", "?q", "http://[::1]/",
     "mailto:a@b.example", "/gr%C3%B6sse", "/größe", "http://bücher.example/ä?ö#ü", "a/../b", "x" * 500],
)  # fmt: skip
def test_a_uri_reference_is_accepted_as_a_source(source):
    assert sources.wrong(source) is None


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("", "1–500"), ("x" * 501, "1–500"), ("my crm", "U+0020 as %20"), ("a\u3000b", "U+3000 as %E3%80%80"),
        ("a|b", "U+007C"),
        ("100%", "%25"), ("%zz", "%25"), ("1:2", "RFC 3986"), ("a#b#c", "RFC 3986"), ("http://a]b", "RFC 3986"),
        ("a\u202eb", "U+202E"),
    ],
)  # fmt: skip
def test_an_invalid_source_is_refused_with_the_valid_form(source, reason):
    assert reason in (sources.wrong(source) or "")
