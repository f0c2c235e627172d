import json
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, computed_field, field_validator

from touchpoint.contracts import quick
from touchpoint.contracts.base import REGISTRY, Event
from touchpoint.contracts.schema import json_schema
from touchpoint.contracts.touchpoints import FeedbackSubmitted, TicketOpened

FREQUENT = [
    REGISTRY[name]
    for name in (
        "feedback.submitted",
        "interaction.recorded",
        "team_feedback.submitted",
        "ticket.opened",
        "ticket.replied",
        "ticket.status_changed",
    )
]

EXAMPLES: dict[type[Event], dict[str, Any]] = {event: json_schema(event)["examples"][0] for event in REGISTRY.values()}

LENGTHS = (0, 1, 35, 36, 100, 101, 200, 201, 50_000, 50_001)
TEXTS = (
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    | st.sampled_from(LENGTHS).map(lambda length: "ü" * length)
    | st.sampled_from(["nps", "email", "agent", "high", "de-DE", "de-DE\n", "\x7f", " ", "null"])
)
NUMBERS = (
    st.integers(-1001, 1001) | st.integers() | st.floats(allow_nan=False) | st.sampled_from([-0.0, 1e308, 10**400])
)
SCALARS = st.none() | st.booleans() | TEXTS | NUMBERS
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=22) | st.dictionaries(st.sampled_from(["min", "max", "value", "x"]), inner),
    max_leaves=6,
)


@st.composite
def written(draw: st.DrawFn) -> tuple[type[Event], bytes]:
    """A contract, and JSON similar to one of its events: fields changed, removed, added, repeated or escaped."""
    event = draw(st.sampled_from(list(EXAMPLES)))
    data: dict[str, Any] = {**EXAMPLES[event]}
    for name in draw(st.lists(st.sampled_from(sorted(event.model_fields)), max_size=3)):
        data[name] = draw(VALUES)
    for name in draw(st.lists(st.sampled_from(sorted(data)), max_size=2)):
        data.pop(name, None)
    if draw(st.integers(0, 9)) == 0:
        data["not_yet_invented"] = draw(SCALARS)
    raw = json.dumps(data, ensure_ascii=draw(st.booleans()), indent=draw(st.sampled_from([None, None, 1]))).encode()
    if draw(st.integers(0, 9)) == 0:  # a repeated field: the last value counts
        raw = (
            raw[:-1] + b"," + json.dumps({draw(st.sampled_from(sorted(event.model_fields))): draw(VALUES)}).encode()[1:]
        )
    if draw(st.integers(0, 9)) == 0:
        place = draw(st.integers(0, len(raw)))
        raw = raw[:place] + draw(st.binary(max_size=2)) + raw[place + draw(st.integers(0, 2)) :]
    return event, raw


@given(written())
@example((FeedbackSubmitted, b'{"kind":"text","channel":"web","text":"a\x01"}'))
@example((FeedbackSubmitted, b'{"kind":"text","channel":"web","text":"\xff"}'))
@example((FeedbackSubmitted, b'{"kind":"text","channel":"web","text":"a","text":"b"}'))
@example((FeedbackSubmitted, b'{"kind":"text","channel":"web"} '))
@example((FeedbackSubmitted, b'{"kind":"text","channel":"web"}}'))
@example((TicketOpened, b'{"ticket_id":"t","customer_id":"c","channel":"web"}'))
def test_reads_as_pydantic_does_or_leaves_it_to_pydantic(case: tuple[type[Event], bytes]) -> None:
    event, raw = case
    read = quick.reader(event)(raw)
    if read is not None:
        expected = event.model_validate_json(raw)
        assert read == expected
        assert repr(read) == repr(expected)  # compares types, too: 9 and 9.0, enum members and strings
        assert json.loads(event.read(raw).data()) == json.loads(expected.data())


@pytest.mark.parametrize("event", FREQUENT, ids=[event.type for event in FREQUENT])
def test_reads_the_frequent_contracts(event: type[Event]) -> None:
    assert quick.reader(event)(msgspec.json.encode(EXAMPLES[event])) is not None


@pytest.mark.parametrize(
    "reason",
    [b'"text":"a\\u0000b"', b'"text":"two\\nlines"', b'"text":"a\x7f"', b'"text":null', b'"kind":"emoji"', b'"mood":1'],
)
def test_leaves_json_that_is_not_plain_or_not_valid_to_pydantic(reason: bytes) -> None:
    plain = b'{"kind":"text","channel":"web","customer_id":"c"}'
    assert quick.reader(FeedbackSubmitted)(plain) is not None
    assert quick.reader(FeedbackSubmitted)(plain[:-1] + b"," + reason + b"}") is None


def test_leaves_unsupported_models_to_pydantic() -> None:
    class Checked(BaseModel):
        name: str

        @field_validator("name")
        @classmethod
        def _short(cls, name: str) -> str:
            return name[:3]

    class Computed(BaseModel):
        name: str

        @computed_field
        def length(self) -> int:
            return len(self.name)

    class Renamed(BaseModel):
        name: str = Field(validation_alias="title")

    class Lenient(BaseModel):
        share: float

    class Stripped(BaseModel):
        name: str = Field()
        model_config = {"str_strip_whitespace": True}

    for model in (Checked, Computed, Renamed, Lenient, Stripped):
        assert quick.reader(model)(b'{"name":"a","share":1}') is None
        assert quick.reader(model)(b'{"share":1}') is None
        assert quick.reader(model)(b'{"name":"abcdef"}') is None


class TestReadEvent:
    RAW = b'{"kind":"text", "channel":"web","text":"fine","customer_id":"c"}'

    def test_is_written_with_its_original_bytes(self) -> None:
        assert FeedbackSubmitted.read(self.RAW).data() == self.RAW
        assert FeedbackSubmitted.read_tolerantly(self.RAW).data() == self.RAW

    def test_is_encoded_again_after_a_change(self) -> None:
        changed = FeedbackSubmitted.read(self.RAW).model_copy(update={"customer_id": None})
        assert json.loads(changed.data()) == {"kind": "text", "channel": "web", "text": "fine"}
