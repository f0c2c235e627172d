"""Reading CloudEvents in all three modes. Any bytes give an event or a `ProblemError`, never another exception."""

import base64
import json
from functools import partial

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.ingest import cloudevents
from gateway.ingest.cloudevents import Mode
from touchpoint.http.errors import ProblemError

NAMES = st.text(st.sampled_from("abcdefghijklmnopqrstuvwxyz0123456789"), min_size=1, max_size=20)
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=10,
)


def problem_status(read, *arguments):
    """The status of the `ProblemError` that `read` raises; None if it raises none."""
    try:
        read(*arguments)
    except ProblemError as error:
        return error.problem.status
    return None


@pytest.mark.parametrize(
    ("content_type", "expected"),
    [
        ("application/cloudevents+json", Mode.STRUCTURED),
        ("Application/CloudEvents+JSON; charset=UTF-8", Mode.STRUCTURED),
        ('application/cloudevents-batch+json;charset="utf-8"', Mode.BATCH),
        ("application/json", Mode.BINARY),
        ("application/vnd.acme+json", Mode.BINARY),
        (None, Mode.BINARY),
    ],
)
def test_the_content_type_determines_the_mode(content_type, expected):
    assert cloudevents.mode(content_type, [(b"ce-id", b"1")]) is expected


@pytest.mark.parametrize(
    ("content_type", "headers"),
    [
        ("application/json", []),
        (None, []),
        ("text/xml", [(b"ce-id", b"1")]),
        ("application/cloudevents+xml", []),
        ("application/cloudevents+json; charset=latin-1", []),
    ],
)
def test_a_request_without_a_readable_cloudevent_is_415_and_the_problem_says_what_to_send(content_type, headers):
    with pytest.raises(ProblemError, match=r"Content-Type|UTF-8") as caught:
        cloudevents.mode(content_type, headers)
    assert caught.value.problem.status == 415


def test_a_structured_event_gives_its_attributes_as_text_and_its_data_byte_for_byte():
    raw = b'{"id": "1", "backfill": true, "sequence": 7, "subject": null, "data": {"a" : 1.50,\n"b":"\\u00e9"}}'

    parsed = cloudevents.structured(raw)

    assert parsed.attributes == {"id": "1", "backfill": "true", "sequence": "7"}
    assert parsed.data == b'{"a" : 1.50,\n"b":"\\u00e9"}'


def test_base64_data_is_decoded():
    raw = json.dumps({"id": "1", "data_base64": base64.b64encode(b'{"a":1}').decode()}).encode()
    assert cloudevents.structured(raw).data == b'{"a":1}'


@pytest.mark.parametrize(
    ("member", "value", "reason"),
    [
        ("id", 1.5, "string"),
        ("id", {"x": 1}, "string"),
        ("no-dash", "x", "name"),
        ("UPPER", "x", "name"),
        ("x" * 51, "x", "name"),
        ("id", 4711, "must be a string"),
        ("data_base64", "&&&", "Base64"),
        ("data_base64", 5, "Base64"),
    ],
)
def test_an_invalid_member_is_named_with_the_reason(member, value, reason):
    with pytest.raises(ProblemError) as caught:
        cloudevents.structured(json.dumps({member: value}).encode())
    assert caught.value.problem.status == 422
    [error] = caught.value.problem.errors
    assert error.field == member[:60]
    assert reason in error.reason


def test_an_event_with_data_and_data_base64_is_refused():
    with pytest.raises(ProblemError, match="not valid") as caught:
        cloudevents.structured(b'{"data": {}, "data_base64": "e30="}')
    assert caught.value.problem.errors[0].field == "data_base64"


@pytest.mark.parametrize("raw", [b"", b"{", b"nul", b'{"a":\xff}', b'{"a":1}x', b'{"\xff":1}', b"\xff\xfe{\x00}\x00"])
def test_a_body_that_is_not_json_is_400(raw):
    with pytest.raises(ProblemError) as caught:
        cloudevents.structured(raw)
    assert caught.value.problem.status == 400


@pytest.mark.parametrize("raw", [b"[]", b"1", b'"x"', b"null"])
def test_json_that_is_not_an_object_is_422(raw):
    with pytest.raises(ProblemError) as caught:
        cloudevents.structured(raw)
    assert caught.value.problem.status == 422


@pytest.mark.parametrize("read", [cloudevents.structured, partial(cloudevents.batch, most=10)])
@pytest.mark.parametrize("opening", [b"[", b'{"data":'])
def test_deeply_nested_json_is_a_problem_and_not_a_crash(read, opening):
    with pytest.raises(ProblemError, match=r"nested too deeply|must be|not JSON|not valid"):
        read(opening * 100_000)


def test_in_binary_mode_ce_headers_are_the_attributes_and_the_body_is_the_data():
    headers = [(b"ce-id", b"1"), (b"ce-source", b"/crm"), (b"host", b"x"), (b"ce-customerref", b'"a \\"b\\" 100%25"')]

    parsed = cloudevents.binary("application/json", headers, b'{"a":1}')

    assert parsed.attributes == {
        "id": "1",
        "source": "/crm",
        "customerref": 'a "b" 100%',
        "datacontenttype": "application/json",
    }
    assert parsed.data == b'{"a":1}'


@pytest.mark.parametrize(
    ("headers", "field"),
    [
        ([(b"ce-id", b"1"), (b"ce-id", b"2")], "id"),
        ([(b"ce-id", b"%ff")], "id"),
        ([(b"ce-my-field", b"1")], "my-field"),
        ([(b"ce-data", b"1")], "data"),
    ],
)
def test_an_invalid_ce_header_is_named(headers, field):
    with pytest.raises(ProblemError) as caught:
        cloudevents.binary(None, headers, b"")
    assert caught.value.problem.errors[0].field == field


@given(st.dictionaries(NAMES.filter(lambda name: name != "data"), TEXTS), VALUES)
def test_attributes_and_data_are_read_as_a_json_parser_reads_them(attributes, data):
    parsed = cloudevents.structured(json.dumps(attributes | {"data": data}).encode())

    assert parsed.attributes == attributes
    assert json.loads(parsed.data) == data


@given(st.lists(VALUES, max_size=20))
def test_a_batch_is_split_into_its_items(items):
    assert [json.loads(bytes(raw)) for raw in cloudevents.batch(json.dumps(items).encode(), 20)] == items


@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_give_an_event_or_a_problem(raw):
    assert problem_status(cloudevents.structured, raw) in (None, 400, 422)
    assert problem_status(cloudevents.batch, raw, 20) in (None, 400)


@given(st.lists(st.tuples(st.binary(max_size=20).map(lambda name: b"ce-" + name.lower()), st.binary(max_size=50))))
def test_any_headers_give_an_event_or_a_problem(headers):
    assert problem_status(cloudevents.binary, "application/json", headers, b"{}") in (None, 422)


@given(
    st.dictionaries(st.sampled_from([*cloudevents._NAMES, "data", "data_base64", "partitionkey"]), VALUES, max_size=8)
)
def test_both_decoders_of_a_structured_event_give_the_same_result(given):
    """A null attribute counts as absent. `other` is no field of the fast decoder, so that the slow one reads it."""
    first, other = ({**given, **more} for more in ({}, {"other": None}))
    assert _read(first) == _read(other)


def _read(given):
    try:
        return cloudevents.structured(json.dumps(given).encode())
    except ProblemError as error:
        return error.problem


@pytest.mark.parametrize(
    ("value", "taken"), [(2**31 - 1, True), (-(2**31), True), (2**31, False), (-(2**31) - 1, False)]
)
def test_a_number_in_an_extension_must_be_an_integer_of_32_bits(value, taken):
    raw = msgspec.json.encode({"specversion": "1.0", "id": "1", "source": "/a", "type": "x", "sequence": value})
    if taken:
        assert cloudevents.structured(raw).attributes["sequence"] == str(value)
        return
    with pytest.raises(ProblemError) as caught:
        cloudevents.structured(raw)
    assert [error.field for error in caught.value.problem.errors] == ["sequence"]
