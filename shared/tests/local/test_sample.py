"""The sample data: valid events in order of time, the same whenever they are loaded."""

from datetime import UTC, datetime, timedelta

from touchpoint.contracts import touchpoints  # noqa: F401 # registers the contracts
from touchpoint.contracts.base import REGISTRY
from touchpoint.local import sample

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)


def test_every_event_of_the_sample_is_valid_by_its_contract() -> None:
    for event in sample.events(NOW):
        REGISTRY[event["type"]].model_validate(event["data"])


def test_the_sample_is_in_order_and_ends_within_the_last_ten_minutes() -> None:
    times = [datetime.fromisoformat(event["time"]) for event in sample.events(NOW)]
    assert times == sorted(times)
    assert NOW - timedelta(minutes=10) < times[-1] <= NOW


def test_loading_the_sample_later_gives_the_same_events_with_other_times() -> None:
    def without_times(now: datetime) -> list[object]:
        return [event | {"time": None} for event in sample.events(now)]

    assert without_times(NOW) == without_times(NOW + timedelta(days=3))
    assert len({(event["source"], event["id"]) for event in sample.events(NOW)}) == len(sample.events(NOW))


def test_the_sample_has_scores_key_accounts_urgent_and_resolved_tickets() -> None:
    events = sample.events(NOW)
    assert {event["data"].get("kind") for event in events} >= {"nps", "csat", "ces"}
    assert any(event["data"].get("tier") == "key" for event in events)
    assert any(event["data"].get("priority") == "urgent" for event in events)
    assert any(event["data"].get("status") == "resolved" for event in events)
