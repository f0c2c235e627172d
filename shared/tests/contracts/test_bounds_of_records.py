"""Whatever the gateway takes, and whatever a service makes of it, is small enough for Kafka."""

import pytest
from msgspec.structs import replace

from touchpoint.contracts.base import REGISTRY
from touchpoint.contracts.feedback import FeedbackRecorded
from touchpoint.contracts.record import (
    MAX_ATTRIBUTE_CHARACTERS,
    MAX_DATA_BYTES,
    DecodeError,
    decode,
    encode,
    encode_extended,
)
from touchpoint.kafka.packing import MAX_RECORD_BYTES, size
from touchpoint.kafka.requirements import MAX_MESSAGE_BYTES
from touchpoint.testing.factories import feedback

LONGEST = "\U0001f600" * MAX_ATTRIBUTE_CHARACTERS
"""Four bytes each in UTF-8."""


def largest(data_bytes):
    """An event with that much data, most of it blanks, and the longest attributes a consumer reads."""
    record = encode(feedback(id=LONGEST, source=LONGEST, tenant=LONGEST, subject=LONGEST, traceparent=LONGEST))
    return replace(record, value=record.value[:-1] + b" " * (data_bytes - len(record.value)) + b"}")


def test_what_is_made_of_the_largest_event_that_is_read_can_be_sent():
    event = decode(largest(MAX_DATA_BYTES), REGISTRY)
    made = encode_extended(event, FeedbackRecorded, feedback_id=LONGEST, language=LONGEST)
    assert MAX_DATA_BYTES < size(made) < MAX_RECORD_BYTES < MAX_MESSAGE_BYTES


def test_a_larger_event_is_a_dead_letter():
    with pytest.raises(DecodeError, match="data has more than"):
        decode(largest(MAX_DATA_BYTES + 1), REGISTRY)
