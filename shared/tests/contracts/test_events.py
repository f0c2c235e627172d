import json
from collections.abc import Iterator
from random import Random
from typing import Any, ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from pydantic import ValidationError

from touchpoint.contracts import topics
from touchpoint.contracts.base import REGISTRY, Event, PartialUpdate, identity
from touchpoint.contracts.feedback import FeedbackRecorded
from touchpoint.contracts.schema import json_schema
from touchpoint.contracts.touchpoints import (
    Channel,
    CustomerUpdated,
    FeedbackKind,
    FeedbackSubmitted,
    SubscriptionChanged,
    UsageReported,
)
from touchpoint.testing import factories

EVERY = pytest.mark.parametrize("event", REGISTRY.values(), ids=REGISTRY.keys())


def example_of(event: type[Event]) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(json.dumps(json_schema(event)["examples"][0]))
    return data


def refusals(event: type[Event], data: dict[str, Any] | str) -> dict[str, str]:
    """The reasons, by field, for which the gateway refuses the data; empty if it accepts it."""
    try:
        read = event.read((data if isinstance(data, str) else json.dumps(data)).encode())
    except ValidationError as error:
        return {".".join(map(str, item["loc"])): item["msg"] for item in error.errors()}
    return {broken.field: broken.reason for broken in read.broken_rules()}


def feedback(**fields: Any) -> dict[str, Any]:
    return {"kind": "nps", "channel": "email", "score": {"value": 9, "min": 0, "max": 10}} | fields


def score(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": value, "min": low, "max": high}


class TestEveryContract:
    @EVERY
    def test_has_a_docstring_of_one_line(self, event: type[Event]) -> None:
        assert event.__doc__
        assert "\n" not in event.__doc__.strip()

    @EVERY
    def test_has_an_example_the_gateway_accepts(self, event: type[Event]) -> None:
        assert refusals(event, example_of(event)) == {}

    @EVERY
    def test_describes_every_field(self, event: type[Event]) -> None:
        assert [name for name, field in event.model_fields.items() if not field.description] == []

    @EVERY
    def test_bounds_every_field(self, event: type[Event]) -> None:
        assert list(unbounded(json_schema(event))) == []

    @EVERY
    def test_refuses_nul_in_every_text(self, event: type[Event]) -> None:
        example = example_of(event)
        texts = [name for name, value in example.items() if isinstance(value, str)]
        for name in texts:
            assert name in refusals(event, example | {name: "a\u0000b"})

    @EVERY
    def test_unknown_fields_are_refused_by_the_gateway_and_ignored_by_consumers(self, event: type[Event]) -> None:
        data = example_of(event) | {"not_yet_invented": 1}
        assert list(refusals(event, data)) == ["not_yet_invented"]
        assert event.read_tolerantly(json.dumps(data).encode()) == event.model_validate_json(
            json.dumps(example_of(event))
        )

    @EVERY
    def test_reads_what_it_writes(self, event: type[Event]) -> None:
        made = event.model_validate_json(json.dumps(example_of(event)))
        assert event.model_validate_json(made.data()) == made

    def test_is_declared_under_one_type_only(self) -> None:
        with pytest.raises(TypeError, match=r"two contracts declare the event type 'feedback\.submitted'"):

            class Impostor(Event):
                type: ClassVar[str] = "feedback.submitted"
                topic: ClassVar[str] = topics.TOUCHPOINTS

        assert REGISTRY["feedback.submitted"] is FeedbackSubmitted


def unbounded(schema: dict[str, Any], place: str = "data") -> Iterator[str]:
    """The paths of a schema that accept values of unlimited size."""
    limits = {"string": {"maxLength", "enum", "format"}, "array": {"maxItems"}}
    fixed_length = {"^[A-Z]{3}$"}
    kind = schema.get("type")
    if kind in ("number", "integer") and not ("minimum" in schema and schema.keys() & {"maximum", "exclusiveMaximum"}):
        yield place
    if kind in limits and not schema.keys() & limits[kind]:
        digits = schema.get("pattern", "").startswith("^[0-9]{1,")
        if not digits and schema.get("pattern") not in fixed_length:
            yield place
    parts = schema.get("properties", {}) | schema.get("$defs", {})
    for name, part in parts.items():
        yield from unbounded(part, f"{place}.{name}")
    for part in [*schema.get("anyOf", []), *([schema["items"]] if "items" in schema else [])]:
        yield from unbounded(part, place)


class TestScores:
    @pytest.mark.parametrize("value", [11, -1, 10.5])
    def test_off_their_scale_are_refused_naming_value_and_scale(self, value: float) -> None:
        reasons = refusals(FeedbackSubmitted, feedback(score=score(value, 0, 10)))
        assert reasons == {"score.value": f"score.value {value:g} is off its scale 0–10"}

    def test_need_a_scale_that_is_a_range(self) -> None:
        reasons = refusals(FeedbackSubmitted, feedback(kind="rating", score=score(5, 5, 5)))
        assert reasons == {"score.max": "score.max 5 must be greater than score.min 5"}

    @given(st.floats(-1000, 1000), st.floats(-1000, 1000), st.floats(-1000, 1000))
    def test_are_accepted_exactly_when_they_are_within_their_scale(self, value: float, low: float, high: float) -> None:
        accepted = refusals(FeedbackSubmitted, feedback(kind="rating", score=score(value, low, high))) == {}
        assert accepted == (low < high and low <= value <= high)

    @given(st.sampled_from(["csat", "ces"]), st.integers(-20, 20), st.integers(1, 30), st.data())
    def test_of_a_question_have_2_to_11_points(self, kind: str, low: int, width: int, data: st.DataObject) -> None:
        value = data.draw(st.integers(low, low + width))
        reasons = refusals(FeedbackSubmitted, feedback(kind=kind, score=score(value, low, low + width)))
        assert (reasons == {}) == (width <= 10)

    @pytest.mark.parametrize(
        ("kind", "given_score", "reason"),
        [
            ("nps", score(3, 1, 5), "score.min and score.max must be 0 and 10 for nps, not 1 and 5"),
            ("nps", score(8.5, 0, 10), "score.value, score.min and score.max must be whole numbers for nps"),
            ("csat", score(4.5, 1, 5), "score.value, score.min and score.max must be whole numbers for csat"),
            ("ces", score(4, 0.5, 7), "score.value, score.min and score.max must be whole numbers for ces"),
            (
                "csat",
                score(80, 0, 100),
                "the scale of csat has 2–11 points, not 101: set score.min and score.max to the scale as asked",
            ),
        ],
    )
    def test_fit_their_kind(self, kind: str, given_score: dict[str, float], reason: str) -> None:
        assert refusals(FeedbackSubmitted, feedback(kind=kind, score=given_score)) == {"score": reason}

    @pytest.mark.parametrize("kind", ["nps", "csat", "ces", "rating"])
    def test_are_required_by_these_kinds(self, kind: str) -> None:
        reasons = refusals(FeedbackSubmitted, {"kind": kind, "channel": "web", "text": "fine"})
        assert reasons == {"score": f"kind {kind} needs score: its value, min and max"}

    @pytest.mark.parametrize("kind", ["text", "review", "call"])
    def test_or_text_are_required_by_the_other_kinds(self, kind: str) -> None:
        silent = {"kind": kind, "channel": "web", "text": "  "}
        assert refusals(FeedbackSubmitted, silent) == {"text": f"kind {kind} needs text or score"}
        assert refusals(FeedbackSubmitted, silent | {"text": "fine"}) == {}
        assert refusals(FeedbackSubmitted, silent | {"score": score(4.5, 1, 5)}) == {}

    @pytest.mark.parametrize("number", ["NaN", "Infinity", "1e400", "1" + "0" * 400, '"9"', "true", "null"])
    def test_are_finite_json_numbers(self, number: str) -> None:
        raw = json.dumps(feedback()).replace("9", number)
        assert list(refusals(FeedbackSubmitted, raw)) == ["score.value"]


class TestOtherRules:
    def test_a_revenue_needs_its_currency(self) -> None:
        data = {"customer_id": "c", "annual_recurring_revenue": 1200}
        assert refusals(CustomerUpdated, data) == {"currency": "annual_recurring_revenue needs currency, such as EUR"}
        assert refusals(CustomerUpdated, data | {"currency": "EUR"}) == {}
        assert refusals(CustomerUpdated, {"customer_id": "c", "annual_recurring_revenue": None}) == {}

    @pytest.mark.parametrize("amount", ["-1", "1.005", "NaN", "true", '"1e3"', '"1_000"', "1e17", '"1e17"'])
    def test_amounts_are_plain_numbers_of_two_decimals(self, amount: str) -> None:
        raw = json.dumps(example_of(SubscriptionChanged)).replace('"60000.00"', amount)
        assert list(refusals(SubscriptionChanged, raw)) == ["annual_amount"]

    def test_a_churned_subscription_has_no_revenue(self) -> None:
        data = example_of(SubscriptionChanged) | {"change": "churned"}
        reason = "annual_amount 60000.00 must be 0 when change is churned"
        assert refusals(SubscriptionChanged, data) == {"annual_amount": reason}
        assert refusals(SubscriptionChanged, data | {"annual_amount": 0}) == {}

    def test_a_period_must_end_after_it_begins(self) -> None:
        subscription = example_of(SubscriptionChanged) | {"period_end": "2026-11-30"}
        assert list(refusals(SubscriptionChanged, subscription)) == ["period_end"]
        usage = example_of(UsageReported)
        assert list(refusals(UsageReported, usage | {"period_end": usage["period_start"]})) == ["period_end"]

    @pytest.mark.parametrize(
        "moment",
        [
            "2026-11-01T00:00:00",
            "2026-11-01",
            "2026-11-01 00:00:00Z",
            1_793_000_000,
            "1793000000",
            "2",
            "1899-12-31T23:59:59Z",
        ],
    )
    def test_times_need_an_offset_and_a_year_in_range(self, moment: str | int) -> None:
        assert "period_start" in refusals(UsageReported, example_of(UsageReported) | {"period_start": moment})

    @pytest.mark.parametrize("language", ["english please", "", "de_DE"])
    def test_languages_are_bcp_47(self, language: str) -> None:
        assert list(refusals(FeedbackSubmitted, feedback(language=language))) == ["language"]
        assert refusals(FeedbackSubmitted, feedback(language="zh-Hant-TW")) == {}


class TestConsumers:
    def test_do_not_check_rules_between_fields_again(self) -> None:
        off_scale = json.dumps(feedback(score=score(11, 0, 5))).encode()
        read = FeedbackSubmitted.read_tolerantly(off_scale)
        assert read.score is not None
        assert read.score.value == 11
        assert FeedbackSubmitted.read_tolerantly(b'{"kind": "text", "channel": "web"}').text is None

    def test_ignore_unknown_fields_at_any_depth(self) -> None:
        raw = json.dumps(feedback(score=score(9, 0, 10) | {"weight": 2}, mood="fine")).encode()
        assert FeedbackSubmitted.read_tolerantly(raw) == FeedbackSubmitted.model_validate(feedback())

    @pytest.mark.filterwarnings("error")
    def test_keep_an_unknown_enum_value_and_write_it_unchanged(self) -> None:
        raw = json.dumps(feedback(kind="emoji", channel="hologram")).encode()
        read = FeedbackSubmitted.read_tolerantly(raw)
        assert (read.kind, read.kind.value, f"{read.channel}") == ("emoji", "emoji", "hologram")
        assert read.kind not in set(FeedbackKind)
        recorded = FeedbackRecorded(
            feedback_id=identity("t", "s", "1"), kind=read.kind, channel=read.channel, score=read.score
        )
        assert json.loads(recorded.data())["kind"] == "emoji"
        assert json.loads(read.data()) == json.loads(raw)

    def test_read_a_known_enum_value_as_its_member(self) -> None:
        read = FeedbackSubmitted.read_tolerantly(json.dumps(feedback()).encode())
        assert read.kind is FeedbackKind.NPS
        assert read.channel is Channel.EMAIL

    @pytest.mark.parametrize("kind", [None, 5, {"a": 1}, "", "two words", "n\u0000s", "x" * 101])
    def test_refuse_enum_values_that_are_not_words(self, kind: object) -> None:
        with pytest.raises(ValidationError):
            FeedbackSubmitted.read_tolerantly(json.dumps(feedback(kind=kind)).encode())

    @pytest.mark.parametrize("broken", [{"customer_id": "a\u0000"}, {"score": 9}, {"channel": None}, {"text": 5}])
    def test_refuse_invalid_fields(self, broken: dict[str, Any]) -> None:
        with pytest.raises(ValidationError):
            FeedbackSubmitted.read_tolerantly(json.dumps(feedback(**broken)).encode())


PARTIAL = [event for event in REGISTRY.values() if issubclass(event, PartialUpdate)]


@pytest.mark.parametrize("kind", PARTIAL)
class TestPartialUpdates:
    @pytest.mark.parametrize("read", ["read", "read_tolerantly"])
    @given(chosen=st.randoms())
    def test_have_exactly_the_fields_that_were_given_and_keep_their_nulls(
        self, kind: type[PartialUpdate], read: str, chosen: Random
    ) -> None:
        whole = example_of(kind)
        key = {name for name, field in kind.model_fields.items() if field.is_required()}
        fields = {name: chosen.choice([value, None]) for name, value in whole.items() if chosen.random() < 0.5}
        fields |= {name: whole[name] for name in key}
        event = getattr(kind, read)(json.dumps(fields).encode())
        assert event.given == fields.keys() - key
        assert json.loads(event.data()) == fields

    def test_leave_out_any_field_but_their_key(self, kind: type[PartialUpdate]) -> None:
        assert {field.default for field in kind.model_fields.values() if not field.is_required()} == {None}


class TestData:
    def test_of_other_events_leaves_nulls_out(self) -> None:
        assert "language" not in json.loads(factories.feedback(language=None).data())


class TestAttributes:
    def test_derived_events_have_one_id_per_cause_and_key_and_inherit_the_rest(self) -> None:
        cause = factories.feedback(backfill=True, topic="touchpoints.v1", partition=2, offset=7).meta
        first, again = (factories.escalation_opened().caused_by(cause, "policy-a").meta for _ in range(2))
        other_key = factories.escalation_opened().caused_by(cause, "policy-b").meta
        other_type = factories.sla_breached().caused_by(cause, "policy-a").meta
        assert first == again
        assert len({first.id, other_key.id, other_type.id}) == 3
        assert first == replace(
            cause, id=first.id, source="/touchpoint/escalation-svc", topic="", partition=-1, offset=-1
        )

    def test_an_event_without_attributes_raises_an_error_that_names_the_remedy(self) -> None:
        with pytest.raises(ValueError, match=r"with_meta\(\) or caused_by\(\)"):
            _ = FeedbackSubmitted.model_validate(feedback()).meta

    @given(st.sets(st.tuples(*[st.text(st.characters(exclude_categories=["C"]), max_size=3)] * 3), max_size=20))
    def test_identities_differ_when_any_part_differs(self, parts: set[tuple[str, str, str]]) -> None:
        assert len({identity(*each) for each in parts}) == len(parts)

    def test_one_customers_events_share_a_key(self) -> None:
        events = [factories.feedback(), factories.ticket_replied(), factories.customer_updated()]
        assert {event.partition_key for event in events} == {"acme:customer-1"}

    def test_without_a_customer_the_submission_and_then_the_event_is_the_key(self) -> None:
        assert factories.feedback(customer_id=None, submission_id="s-1").partition_key == "acme:s-1"
        assert factories.feedback(customer_id=None, id="e-1").partition_key == "acme:e-1"
