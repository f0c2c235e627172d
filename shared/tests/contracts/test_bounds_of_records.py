"""Every event that the gateway accepts, and every event derived from it, fits into a Kafka record."""

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
"""The longest attribute, of characters that take four bytes each in UTF-8."""


def largest(data_bytes):
    """A record with this many bytes of data, most of them blanks, and the longest attributes a consumer accepts."""
    record = encode(feedback(id=LONGEST, source=LONGEST, tenant=LONGEST, subject=LONGEST, traceparent=LONGEST))
    return replace(record, value=record.value[:-1] + b" " * (data_bytes - len(record.value)) + b"}")


def test_an_event_derived_from_the_largest_one_can_be_sent():
    event = decode(largest(MAX_DATA_BYTES), REGISTRY)
    made = encode_extended(event, FeedbackRecorded, feedback_id=LONGEST, language=LONGEST)
    assert MAX_DATA_BYTES < size(made) < MAX_RECORD_BYTES < MAX_MESSAGE_BYTES


def test_a_larger_event_is_a_dead_letter():
    with pytest.raises(DecodeError, match="data has more than"):
        decode(largest(MAX_DATA_BYTES + 1), REGISTRY)
