"""The start and end of replay windows, refused windows, and the pace of replays, without Kafka or a database."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from touchpoint.base.errors import UsageError
from touchpoint.contracts.record import encode
from touchpoint.replay.pace import FREE_LAG, LONGEST_PAUSE, Pace
from touchpoint.replay.selection import Bound, Selection
from touchpoint.replay.window import First, Standing, end_of, start_of
from touchpoint.testing.factories import feedback, ticket_opened

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


def log(begin=0, end=1000, following=900, inbox_from=0):
    return Standing(("touchpoints.v1", 3), begin, end, following, inbox_from)


class TestStart:
    def test_is_the_offset_asked_for(self):
        assert start_of(log(), 120, First(7, NOON)) == 120

    def test_is_the_first_record_since_a_time(self):
        assert start_of(log(), None, First(7, NOON)) == 7

    def test_is_the_logs_end_if_no_record_is_newer(self):
        assert start_of(log(), None, None) == 1000

    def test_may_be_the_beginning_of_a_complete_log(self):
        assert start_of(log(begin=0), None, First(0, NOON)) == 0

    def test_after_the_beginning_of_a_truncated_log_is_accepted(self):
        assert start_of(log(begin=50), None, First(51, NOON)) == 51

    def test_that_retention_may_have_deleted_is_refused(self):
        with pytest.raises(UsageError, match=r"before 50 are gone.*2026-11-22T12:00:00Z.*--from touchpoints.v1/3/50"):
            start_of(log(begin=50), None, First(50, NOON))

    def test_in_an_empty_log_that_had_records_is_refused(self):
        with pytest.raises(UsageError, match="all its records are gone"):
            start_of(log(begin=1000), None, None)

    def test_before_the_log_begins_is_refused(self):
        with pytest.raises(UsageError, match="records 49 to 49 are gone"):
            start_of(log(begin=50), 49, None)
        assert start_of(log(begin=50), 50, None) == 50

    def test_after_the_logs_end_is_refused(self):
        with pytest.raises(UsageError, match="ends at 1000, before 1001"):
            start_of(log(), 1001, None)

    @pytest.mark.parametrize("first", [None, First(299, NOON)])
    def test_before_the_inboxs_first_offset_is_refused(self, first):
        with pytest.raises(UsageError, match=r"before offset 300 is no longer known.*--from touchpoints.v1/3/300"):
            start_of(log(inbox_from=300), None if first else 299, first)
        assert start_of(log(inbox_from=300), 300, None) == 300


class TestEnd:
    def test_is_never_past_what_the_live_consumer_has_read(self):
        assert end_of(log(), None, None) == (900, 100)
        assert end_of(log(), 950, None) == (900, 50)
        assert end_of(log(), None, First(940, NOON)) == (900, 40)

    def test_is_the_offset_or_time_asked_for(self):
        assert end_of(log(), 800, First(2, NOON)) == (800, 0)
        assert end_of(log(), None, First(700, NOON)) == (700, 0)

    def test_after_the_end_of_the_log_is_refused(self):
        with pytest.raises(UsageError, match="ends at 1000, before 1001"):
            end_of(log(), 1001, None)


class TestBounds:
    def test_consist_of_a_time_and_offsets(self):
        bound = Bound.of(["touchpoints.v1/3/1200", "2026-11-22T12:00:00Z", "escalations.v1/0/7"])
        assert bound.moment == NOON
        assert bound.places == {("touchpoints.v1", 3): 1200, ("escalations.v1", 0): 7}
        assert bound == Bound.of(bound.as_texts)

    def test_have_at_most_one_time(self):
        with pytest.raises(UsageError, match="two times"):
            Bound.of(["2026-11-22", "2026-11-23"])


class TestSelection:
    def test_matches_by_the_given_types_tenant_and_customer(self):
        record = encode(feedback(tenant="acme", customer_id="c:1"))
        assert Selection().matches(record)
        assert Selection(("feedback.submitted", "ticket.opened"), "acme", "c:1").matches(record)
        assert not Selection(("ticket.opened",)).matches(record)
        assert not Selection(tenant="globex").matches(record)
        assert not Selection(customer="1").matches(record)
        assert Selection(("ticket.opened",)).matches(encode(ticket_opened()))

    def test_accepts_a_record_with_invalid_headers(self):
        stranger = replace(encode(feedback()), headers=[("ce_type", b"\xff"), ("ce_tenant", b"\xff")], key=b"\xff")
        assert Selection().matches(stranger)
        assert not Selection(types=("feedback.submitted",)).matches(stranger)
        assert not Selection(customer="c").matches(stranger)


class TestPace:
    def test_without_a_rate_does_not_pause(self):
        assert Pace(None).seconds(4000, 0.1) == 0

    def test_with_a_rate_pauses_until_the_next_batch_is_due(self):
        assert Pace(100).seconds(50, 0.1) == pytest.approx(0.4)
        assert Pace(100).seconds(5, 0.1) == 0
        assert Pace(100).records(4000) == 100

    def test_pauses_longer_while_the_live_consumers_lag_grows(self):
        pace, rests = Pace(None), []
        for lag in range(FREE_LAG + 1, FREE_LAG + 20):
            pace.take_in(lag)
            rests.append(pace.seconds(4000, 0.1))
        assert rests[0] > 0
        assert rests == sorted(rests)
        assert rests[-1] == LONGEST_PAUSE

    def test_pauses_less_as_soon_as_the_lag_shrinks(self):
        pace = Pace(None, pause=LONGEST_PAUSE)
        pace.take_in(50_000)
        before = pace.pause
        pace.take_in(40_000)
        assert pace.pause < before
        for _ in range(20):
            pace.take_in(0)
        assert pace.pause == 0

    def test_ignores_a_lag_of_less_than_a_batch(self):
        pace = Pace(None)
        for lag in range(0, FREE_LAG, 10):
            pace.take_in(lag)
        assert pace.pause == 0
