"""The rules that an event must keep, and the Kafka record made of it."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest import decisions
from gateway.ingest.cloudevents import Parsed
from touchpoint.contracts.base import REGISTRY
from touchpoint.contracts.record import decode
from touchpoint.http.errors import ProblemError

NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
DATA = {"kind": "nps", "channel": "email", "customer_id": "C-1", "score": {"value": 3, "min": 0, "max": 10}}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def parsed(data=DATA, **over):
    attributes = {"specversion": "1.0", "id": "e-1", "source": "/crm", "type": "feedback.submitted"} | over
    raw = data if isinstance(data, bytes) else json.dumps(data).encode()
    return Parsed({name: value for name, value in attributes.items() if value is not None}, raw)


def refused(event, **kwargs):
    with pytest.raises(ProblemError) as caught:
        decisions.accept(event, "acme", NOW, **kwargs)
    assert caught.value.problem.status == 422
    return {error.field: error.reason for error in caught.value.problem.errors}


def test_a_consumer_reads_an_accepted_event_from_its_record_with_all_attributes():
    event = parsed(time="2026-11-22T10:15:00.5+01:00", subject="C-1", backfill="true")

    meta, record = decisions.accept(event, "acme", NOW, TRACE)

    read = decode(record, REGISTRY)
    assert read.model_dump(mode="json", exclude_none=True) == json.loads(event.data)
    assert read.meta.id == meta.id == "e-1"
    assert (read.meta.source, read.meta.tenant, read.meta.subject) == ("/crm", "acme", "C-1")
    assert read.meta.time == datetime(2026, 11, 22, 9, 15, 0, 500_000, tzinfo=UTC)
    assert (read.meta.recorded, read.meta.backfill, read.meta.traceparent) == (NOW, True, TRACE)


def test_the_record_holds_the_data_byte_for_byte():
    raw = b'{ "kind":"text", "channel":"web",\n "text":"caf\\u00e9", "customer_id":null}'
    _, record = decisions.accept(parsed(raw), "acme", NOW)
    assert record.value == raw


@pytest.mark.parametrize(
    ("data", "key"),
    [
        (DATA, b"acme:C-1"),
        (DATA | {"customer_id": None, "submission_id": "S-1"}, b"acme:S-1"),
        (DATA | {"customer_id": None}, b"acme:e-1"),
    ],
)
def test_the_record_key_holds_the_customer_else_the_submission_else_the_event_id(data, key):
    assert decisions.accept(parsed(data), "acme", NOW)[1].key == key


def test_an_event_without_a_time_gets_the_time_of_its_receipt():
    assert decisions.accept(parsed(), "acme", NOW)[0].time == NOW


@pytest.mark.parametrize(
    "time",
    ["2026-11-22T09:30", "2026-11-22T09:30:00", "2026-11-22", "1700000000", "2026-13-01T00:00:00Z", "", "now",
     "2026-11-22T09:30:00+99:00", "२०२६-11-22T09:30:00Z", "1850-01-01T00:00:00Z", "2026-11-22T09:35:01Z"],
)  # fmt: skip
def test_an_invalid_time_or_one_over_five_minutes_ahead_is_refused(time):
    assert refused(parsed(time=time)).keys() == {"time"}


@pytest.mark.parametrize(
    "time", ["2026-11-22T09:35:00Z", "2026-11-22t08:00:00.123456789z", "1999-01-01T00:00:00-08:00"]
)
def test_a_time_up_to_five_minutes_ahead_or_long_ago_is_accepted(time):
    decisions.accept(parsed(time=time), "acme", NOW)


@pytest.mark.parametrize(
    ("attribute", "value", "reason"),
    [
        ("specversion", "0.3", "1.0"),
        ("specversion", None, "1.0"),
        ("id", None, "required"),
        ("id", "", "1–200"),
        ("id", "x" * 201, "1–200"),
        ("id", "a\x1fb", "control"),
        ("source", None, "required"),
        ("source", "has blank", "U+0020 as %20"),
        ("type", None, "required"),
        ("type", "feedback.invented", "must be one of"),
        ("type", "feedback.recorded", "feedback-svc only"),
        ("subject", "", "1–500"),
        ("tenant", "other", "API key"),
        ("recordedtime", "2026-11-22T09:30:00Z", "stamps"),
        ("datakeyid", "k", "reserved"),
        ("dataschema", "urn:touchpoint:feedback.submitted:2", "urn:touchpoint:feedback.submitted:1"),
        ("datacontenttype", "text/xml", "application/json"),
        ("backfill", "yes", "true or false"),
        ("traceparent", "nonsense", "W3C"),
        ("myextension", "x" * 1001, "1000"),
        ("myextension", "a\nb", "control"),
    ],
)
def test_an_attribute_that_breaks_a_rule_is_named_with_the_rule(attribute, value, reason):
    errors = refused(parsed(**{attribute: value}))
    assert errors.keys() == {attribute}
    assert reason in errors[attribute]


def test_the_dataschema_of_the_contract_and_json_content_types_are_accepted():
    for content_type in ("application/json", "application/json; charset=utf-8", "Application/JSON"):
        decisions.accept(
            parsed(dataschema="urn:touchpoint:feedback.submitted:1", datacontenttype=content_type), "a", NOW
        )


def test_one_problem_names_all_errors_of_an_event():
    errors = refused(parsed(DATA | {"score": {"value": 11, "min": 0, "max": 10}, "colour": "red"}, id="", time="now"))
    assert errors.keys() == {"id", "time", "data.score.value", "data.colour"}


@pytest.mark.parametrize("data", [b"", b"null", b"[]", b"{", b'"text"', b"{" * 300])
def test_data_that_is_not_a_json_object_is_refused(data):
    assert refused(parsed(data)).keys() == {"data"}


def test_a_nul_character_in_a_text_is_refused():
    assert refused(parsed({"kind": "text", "channel": "web", "text": "a\u0000b"})).keys() == {"data.text"}


def test_a_problem_does_not_repeat_values_of_the_event():
    errors = refused(parsed(DATA | {"text": "secret" * 10_000, "language": "secret"}))
    assert "secret" not in str(errors)


def test_unknown_extension_attributes_are_passed_on_and_their_number_is_limited():
    _, record = decisions.accept(parsed(orderref="Ä-7", sequence="12"), "acme", NOW)
    assert dict(record.headers)["ce_orderref"] == "Ä-7".encode()
    assert dict(record.headers)["ce_sequence"] == b"12"

    many = {f"ext{n}": "x" for n in range(decisions.MAX_EXTENSIONS + 1)}
    assert "20 extension attributes" in refused(parsed(**many))["body"]


def test_the_traceparent_of_an_event_has_precedence_over_that_of_the_request():
    own = TRACE.replace("0a", "0b")
    assert decisions.accept(parsed(traceparent=own), "acme", NOW, TRACE)[0].traceparent == own


def test_a_malformed_traceparent_of_a_request_is_ignored():
    assert decisions.usable_traceparent("00-zz") is None
    assert decisions.usable_traceparent(None) is None
    assert decisions.usable_traceparent(TRACE) == TRACE


@given(
    st.dictionaries(
        st.sampled_from(["specversion", "id", "source", "type", "time", "subject", "dataschema", "datacontenttype",
                         "backfill", "tenant", "traceparent", "other"]),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=30) | st.sampled_from(["1.0", *REGISTRY]),
    ),
    st.binary(max_size=100) | st.just(json.dumps(DATA).encode()),
)  # fmt: skip
def test_any_event_becomes_a_record_of_the_callers_tenant_or_a_problem_with_reasons(attributes, data):
    try:
        _, record = decisions.accept(Parsed(attributes, data), "acme", NOW)
    except ProblemError as problem:
        outcome = problem.problem.status, bool(problem.problem.errors)
    else:
        outcome = dict(record.headers)["ce_tenant"], record.key.startswith(b"acme:")
    assert outcome in ((422, True), (b"acme", True))


@given(st.datetimes(datetime(1900, 1, 2), datetime(2026, 11, 22)), st.integers(-1439, 1439), st.integers(0, 9))  # noqa: DTZ001 # `minutes` is the offset
def test_a_time_with_any_offset_is_converted_to_utc(naive, minutes, digits):
    offset = timedelta(minutes=minutes)
    sign, hours, rest = "-" if minutes < 0 else "+", *divmod(abs(minutes), 60)
    text = f"{naive:%H:%M:%S}" + (f".{naive.microsecond:06d}000"[: digits + 1] if digits else "")
    moment = decisions.accept(
        parsed(time=f"{naive.year:04d}-{naive:%m-%dT}{text}{sign}{hours:02d}:{rest:02d}"), "acme", NOW
    )[0].time

    expected = naive.replace(tzinfo=UTC) - offset
    assert abs(moment - expected) < timedelta(seconds=1)
    if digits >= 6:
        assert moment == expected
