from datetime import timedelta
from itertools import permutations

from touchpoint.contracts.order import Latest, newest_fields
from touchpoint.testing import factories as make

FIELDS = frozenset({"tier", "segment"})
LATER = make.NOON + timedelta(seconds=1)


def test_each_field_has_the_value_of_the_latest_event_that_gives_it_in_any_order() -> None:
    latest: Latest = {}
    later = make.customer_updated(tier="basic", time=LATER)
    earlier = make.customer_updated(tier="key", segment="smb", recorded=LATER + timedelta(days=1))
    assert newest_fields(latest, later, FIELDS) == ["tier"]
    assert newest_fields(latest, earlier, FIELDS) == ["segment"]


def test_of_events_with_equal_times_the_later_recorded_wins_then_the_greater_identity() -> None:
    events = [
        make.customer_updated(tier="a", id="1"),
        make.customer_updated(tier="b", id="2"),
        make.customer_updated(tier="c", id="3", recorded=LATER),
        make.customer_updated(tier="d", id="4", recorded=LATER),
    ]
    ends = set()
    for order in permutations(events):
        latest: Latest = {}
        tier = ""
        for event in order:
            if newest_fields(latest, event, FIELDS):
                tier = event.tier
        ends.add(tier)
    assert ends == {max(events[2:], key=lambda event: str(event.meta.identity)).tier}


def test_partitions_and_offsets_do_not_matter() -> None:
    latest: Latest = {}
    assert newest_fields(latest, make.customer_updated(tier="key", time=LATER, offset=3), FIELDS) == ["tier"]
    assert newest_fields(latest, make.customer_updated(tier="basic", partition=2, offset=9), FIELDS) == []


def test_the_same_event_again_changes_nothing() -> None:
    event = make.customer_updated(tier="key")
    latest: Latest = {}
    assert newest_fields(latest, event, FIELDS) == newest_fields(latest, event, FIELDS) == ["tier"]


def test_fields_not_requested_are_ignored() -> None:
    latest: Latest = {}
    assert newest_fields(latest, make.customer_updated(name="Nordwind"), FIELDS) == []
    assert latest == {}
