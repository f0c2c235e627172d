from datetime import timedelta
from typing import Any

import pytest

from feedback_svc.feedback import service
from touchpoint.contracts.base import REGISTRY, Meta
from touchpoint.contracts.feedback import FeedbackRecorded
from touchpoint.contracts.record import decode
from touchpoint.contracts.touchpoints import FeedbackSubmitted
from touchpoint.testing import factories as make


def test_the_recorded_event_carries_all_fields_of_the_submitted_one() -> None:
    event = make.feedback(
        language="pt-BR", survey_id="s", question_id="q", submission_id="a", journey_stage="delivery", product="desk"
    )
    recorded = _recorded(event)
    assert recorded.feedback_id == event.meta.identity
    assert recorded.model_dump(exclude={"feedback_id"}) == event.model_dump()


def test_the_recorded_event_inherits_times_backfill_and_trace() -> None:
    event = make.feedback(backfill=True, recorded=make.NOON + timedelta(hours=1), traceparent="00-a-b-01")
    meta = _recorded(event).meta
    assert (meta.time, meta.recorded, meta.backfill) == (make.NOON, make.NOON + timedelta(hours=1), True)
    assert meta.traceparent == "00-a-b-01"


def test_the_same_submission_always_makes_the_same_recorded_event() -> None:
    event = make.feedback()
    assert service.recorded(event) == service.recorded(event)
    assert _recorded(event).meta.id != event.meta.id


@pytest.mark.parametrize("about", [{}, {"customer_id": None, "submission_id": "s"}, {"customer_id": None}])
def test_the_recorded_event_has_the_partition_key_of_the_submitted_one(about: dict[str, Any]) -> None:
    event = make.feedback(**about)
    assert service.recorded(event).key.decode() == _recorded(event).partition_key


def test_an_unknown_kind_of_a_newer_gateway_is_kept() -> None:
    event = _read('{"kind": "emoji", "channel": "watch", "customer_id": "c-1", "text": "🙂"}')
    recorded = _recorded(event)
    assert (recorded.kind, recorded.channel) == ("emoji", "watch")


def _recorded(event: FeedbackSubmitted) -> FeedbackRecorded:
    """The `feedback.recorded` event as another service decodes it."""
    read = decode(service.recorded(event), REGISTRY)
    assert isinstance(read, FeedbackRecorded)
    return read


def _read(data: str, **meta: Any) -> FeedbackSubmitted:
    attributes = {"id": "1", "source": "/s", "tenant": "acme", "time": make.NOON, "recorded": make.NOON} | meta
    return FeedbackSubmitted.read_tolerantly(data.encode()).with_meta(Meta(**attributes))
