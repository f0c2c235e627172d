"""The contents of a dead letter, and the limits on dead letters."""

from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from touchpoint.contracts.record import encode
from touchpoint.db.dead_letters import Attempt
from touchpoint.kafka.dead_letter import DeadLetter, Limit
from touchpoint.testing.factories import feedback

DEAD, FINE = True, False
ATTEMPT = Attempt(3, datetime(2026, 11, 22, 9, 30, tzinfo=UTC))


def letter(reason="no such product", **over):
    record = replace(encode(feedback()), partition=2, offset=7)
    return DeadLetter(replace(record, **over), "handle", "PermanentError", reason)


def test_too_many_consecutive_dead_letters_exceed_the_limit():
    limit = Limit(consecutive=3)
    limit.count([DEAD, DEAD])
    assert limit.exceeded_by([DEAD]) is None
    assert "more than 3 dead letters in a row" in limit.exceeded_by([DEAD, DEAD])


def test_a_success_resets_the_count_of_consecutive_dead_letters():
    limit = Limit(consecutive=3)
    limit.count([DEAD, DEAD, FINE])
    assert limit.exceeded_by([DEAD, DEAD, DEAD]) is None


def test_too_large_a_share_of_the_last_events_exceeds_the_limit():
    limit = Limit(consecutive=100, share=0.5, window=10)
    limit.count([DEAD, FINE] * 5)
    assert limit.exceeded_by([FINE, DEAD]) is None
    assert "6 of the last 10 events" in limit.exceeded_by([DEAD, DEAD, FINE, DEAD])


def test_the_share_does_not_count_before_the_window_is_full():
    assert Limit(share=0.5, window=10).exceeded_by([DEAD] * 9) is None


def test_dead_letters_that_may_be_skipped_do_not_count_toward_the_limit():
    limit = Limit(consecutive=1, share=0.5, window=4, may_skip=5)
    assert limit.exceeded_by([DEAD, DEAD, FINE, DEAD]) is None
    limit.count([DEAD, DEAD, FINE, DEAD])
    assert limit.may_skip == 2
    assert limit.exceeded_by([DEAD, DEAD, DEAD]) is None
    assert "more than 1 dead letters in a row" in limit.exceeded_by([DEAD] * 4)
    limit.count([DEAD] * 2)
    assert limit.exceeded_by([DEAD, DEAD])


def test_equal_causes_have_equal_fingerprints_and_others_do_not():
    assert letter().fingerprint == letter().fingerprint
    assert letter().fingerprint != letter(reason="another").fingerprint


def test_a_dead_letter_keeps_key_bytes_partition_and_headers_and_names_its_offset():
    source = letter()
    record = source.to_record("ledger-svc", ATTEMPT)
    assert (record.key, record.value, record.partition) == (source.record.key, source.record.value, 2)
    assert record.headers[: len(source.record.headers)] == source.record.headers
    ours = dict(record.headers[len(source.record.headers) :])
    assert (ours["dlq_topic"], ours["dlq_partition"], ours["dlq_offset"]) == (b"touchpoints.v1", b"2", b"7")
    assert (ours["dlq_attempt"], ours["dlq_first_failed_at"]) == (b"3", b"2026-11-22T09:30:00Z")
    assert ours["dlq_consumer_version"]


def test_the_value_of_a_too_large_record_is_not_copied():
    record = letter(value=b"x" * 1_000_000).to_record("ledger-svc", ATTEMPT)
    assert record.value == b""
    assert ("dlq_value", b"too large to be copied") in record.headers


@pytest.mark.parametrize("header", [b"\xff\xfe", b"nul\x00inside"])
def test_headers_that_postgresql_cannot_store_are_cleaned_for_the_index(header):
    row = letter(headers=[("ce_type", header)]).index_row()
    assert "\x00" not in "".join(field for field in row if isinstance(field, str))


@pytest.mark.parametrize(
    ("value", "customer"),
    [
        (b'{"customer_id": "C-1", "kind": 7}', "C-1"),
        (b'{"customer_id": "C\\u0000"}', "C\ufffd"),
        (b'{"customer_id": 7}', None),
        (b"[]", None),
        (b"\xff", None),
    ],
)
def test_the_index_has_the_customer_if_it_is_readable(value, customer):
    assert letter(value=value).index_row().customer_id == customer
