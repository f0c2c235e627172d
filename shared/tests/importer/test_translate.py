import json
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchpoint.importer.mapping import Mapping, load
from touchpoint.importer.records import Records
from touchpoint.importer.translate import RecordError, Translator

EXAMPLES = Path(__file__).parents[3] / "examples" / "import"
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)

REMARK = {"type": "team_feedback.submitted", "time": "at", "data": {"team": {"constant": "support"}, "text": "text"}}
RECORD = {"id": 7, "at": "2026-11-20T10:00:00Z", "text": "fine"}


ZONE = "Europe/Berlin"
ODD = [
    "2026-03-29T02:30",
    "0001-01-01",
    "9999-12-31T23:59:59-12:00",
    "PT9999999999999H",
    "1e999",
    "1" * 400,
    1e15,
    10**400,
    "\udcff",
    "\0",
    ["\udcff"],
    {"a": float("inf")},
]
CONVERTERS = ["text", "lower", "number", "boolean", "list", "duration", "sha256_id", "time", "date"]
anything = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from(ODD)),
    lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
    max_leaves=5,
)


def translator(*events: dict[str, Any], **over: Any) -> Translator:
    return Translator(Mapping.model_validate({"source": "/t", "id": "id", "events": list(events)} | over), NOW)


def events(translate: Translator, record: Any) -> list[dict[str, Any]]:
    return [json.loads(event) for event in translate.events(record)]


def refusal(translate: Translator, record: Any) -> str:
    with pytest.raises(RecordError) as refused:
        translate.events(record)
    return str(refused.value)


class TestEvents:
    def test_are_cloudevents_marked_as_backfill(self) -> None:
        (event,) = events(translator(REMARK), RECORD)
        assert event == {
            "specversion": "1.0",
            "id": event["id"],
            "source": "/t",
            "type": "team_feedback.submitted",
            "time": "2026-11-20T10:00:00Z",
            "backfill": True,
            "data": {"team": "support", "text": "fine"},
        }

    def test_have_an_id_that_depends_only_on_source_record_and_name(self) -> None:
        first_id = events(translator(REMARK), RECORD)[0]["id"]
        assert events(translator(REMARK), RECORD | {"text": "better"})[0]["id"] == first_id
        others = [
            events(translator(REMARK, source="/u"), RECORD),
            events(translator(REMARK | {"name": "remark"}), RECORD),
            events(translator(REMARK), RECORD | {"id": 8}),
        ]
        assert len({first_id, *(made[0]["id"] for made in others)}) == 4

    def test_are_ordered_by_time_and_then_by_the_mapping(self) -> None:
        rules = [REMARK | {"name": name, "time": time} for name, time in (("a", "late"), ("b", "at"), ("c", "late"))]
        for rule, text in zip(rules, "abc", strict=True):
            rule["data"] = REMARK["data"] | {"text": {"constant": text}}
        made = events(translator(*rules), RECORD | {"late": "2026-11-21T00:00:00+02:00"})
        assert [event["data"]["text"] for event in made] == ["b", "a", "c"]

    def test_leave_out_fields_without_a_value(self) -> None:
        rule = REMARK | {"data": REMARK["data"] | {"customer_id": "customer"}}
        assert "customer_id" not in events(translator(rule), RECORD)[0]["data"]

    def test_are_created_only_if_their_condition_holds(self) -> None:
        rule = REMARK | {"when": "flag"}
        for flag in (None, False, "", [], {}):
            assert events(translator(rule), RECORD | {"flag": flag}) == []
        assert len(events(translator(rule), RECORD | {"flag": 0})) == 1

    def test_can_be_created_for_each_item_of_a_list_with_access_to_the_record(self) -> None:
        rule = REMARK | {"each": "notes", "time": "record.at", "data": {"team": "record.text", "text": "item.said"}}
        made = events(translator(rule), RECORD | {"notes": [{"said": "a"}, {"said": "b"}]})
        assert [event["data"] for event in made] == [{"team": "fine", "text": "a"}, {"team": "fine", "text": "b"}]
        assert made[0]["id"] != made[1]["id"]
        assert events(translator(rule), RECORD) == []

    def test_of_items_with_an_id_keep_it_when_the_list_changes(self) -> None:
        rule = REMARK | {"each": "notes", "id": "item.n", "time": "record.at"}
        rule["data"] = REMARK["data"] | {"text": "item.said"}
        first, second = ({"n": 1, "said": "a"}, {"n": 2, "said": "b"})
        both = events(translator(rule), RECORD | {"notes": [first, second]})
        assert events(translator(rule), RECORD | {"notes": [second]}) == both[1:]


class TestRefusals:
    @pytest.mark.parametrize(
        ("rule", "record", "reason"),
        [
            (REMARK, {"id": " "}, "id: no value; without an id, importing twice would count the record twice"),
            (REMARK, {"id": {}}, "id: {} is not a plain value but a list or an object"),
            (REMARK, {"at": None}, "team_feedback.submitted.time: no value"),
            (REMARK, {"at": "2026-11-23T00:00:00Z"}, "time: 2026-11-23 00:00:00+00:00 is in the future"),
            (REMARK, {"text": 5}, "team_feedback.submitted.text: must be a string"),
            (REMARK, {"text": "a\u0000b"}, "team_feedback.submitted.text: must not contain U+0000"),
            (REMARK, {"text": "\udcff"}, "team_feedback.submitted: contains bytes that are not valid text"),
            (REMARK, {"id": "\udcff"}, "team_feedback.submitted: contains bytes that are not valid text"),
            (REMARK | {"each": "text"}, {}, "team_feedback.submitted.each: the value is not a list"),
            (REMARK | {"when": "abs(text)"}, {}, "team_feedback.submitted.when: In function abs()"),
            (
                REMARK | {"each": "notes", "id": "item.n", "time": "record.at"},
                {"notes": [{}]},
                "team_feedback.submitted[0].id: no value",
            ),
            (
                REMARK | {"time": {"from": "at", "plus": "text"}},
                {},
                "team_feedback.submitted.time.plus: must be a number of seconds",
            ),
            (
                REMARK | {"time": {"from": "at", "plus": {"from": "text", "as": "duration"}}},
                {},
                'team_feedback.submitted.time.plus: "fine" is not a duration',
            ),
        ],
    )
    def test_name_event_field_and_reason(self, rule: dict[str, Any], record: dict[str, Any], reason: str) -> None:
        assert reason in refusal(translator(rule), RECORD | record)

    @pytest.mark.parametrize("value", ODD)
    @pytest.mark.parametrize("convert", CONVERTERS)
    def test_are_the_only_errors_that_an_unusual_value_causes(self, value: Any, convert: str) -> None:
        self.translate_with(value, convert)

    @given(anything, st.sampled_from(CONVERTERS))
    def test_are_the_only_errors_that_any_value_causes(self, value: Any, convert: str) -> None:
        self.translate_with(value, convert)

    def translate_with(self, value: Any, convert: str) -> None:
        """Translate records with the value in each of their fields in turn; every error must be a refusal."""
        time = {"from": "at", "format": "epoch_s" if convert == "number" else None}
        time["plus"] = {"from": "plus", "as": "duration", "default": 0}
        text = {"from": "text", "as": convert}
        single = {"type": "team_feedback.submitted", "time": time, "data": {"team": {"constant": "a"}, "text": text}}
        each = {"each": "notes", "id": {"from": "item", "as": convert}, "when": "item", "time": "record.at"}
        each = REMARK | each | {"name": "each", "data": {"team": "index", "text": "item"}}
        for name in ("id", "at", "text", "plus", "notes"):
            translate = translator(single, each, id={"from": "id", "as": convert} if name == "id" else "id", zone=ZONE)
            with suppress(RecordError):
                translate.events(RECORD | {name: value})

    def test_of_one_event_refuse_the_whole_record(self) -> None:
        broken = REMARK | {"name": "broken", "time": "nowhere"}
        assert refusal(translator(REMARK, broken), RECORD) == "broken.time: no value"

    @pytest.mark.parametrize("record", [None, 5, "text", [], [{}]])
    def test_include_records_that_are_not_objects(self, record: Any) -> None:
        assert refusal(translator(REMARK), record).startswith("id: ")


def translated(sample: str, mapping: str) -> tuple[list[list[dict[str, Any]]], list[str]]:
    """The events of each good record of a shipped sample, and why the others are refused."""
    loaded = load(EXAMPLES / mapping)
    made, refused = [], []
    with Records(EXAMPLES / sample, loaded) as records:
        for record in records:
            try:
                made.append(events(Translator(loaded, NOW), record.data))
            except RecordError as error:
                refused.append(f"{record.line}: {error}")
    return made, refused


class TestShippedExamples:
    def test_conversations_become_tickets_with_replies_and_a_final_status(self) -> None:
        made, refused = translated("customer-care.sample.json", "customer-care.yaml")
        types = Counter(event["type"] for record in made for event in record)
        assert types == {"ticket.opened": 6, "ticket.replied": 14, "ticket.status_changed": 6}
        assert refused == [
            '164: last-answer.time.plus: "-12:14:20." is not a duration: seconds, hh:mm:ss or ISO 8601 (PT1H30M)'
        ]

    def test_a_ticket_belongs_to_one_customer_and_is_opened_first(self) -> None:
        made, _ = translated("customer-care.sample.json", "customer-care.yaml")
        for record in made:
            assert len({(event["data"]["customer_id"], event["data"]["ticket_id"]) for event in record}) == 1
            assert record[0]["type"] == "ticket.opened"
            assert [event["time"] for event in record] == sorted(event["time"] for event in record)

    def test_a_message_is_the_agents_or_the_customers(self) -> None:
        made, _ = translated("customer-care.sample.json", "customer-care.yaml")
        replies = [event["data"] for event in made[2] if event["type"] == "ticket.replied"]
        assert [(reply["author"], reply["author_id"]) for reply in replies] == [
            ("customer", "cy"),
            ("customer", "dora"),
            ("agent", "LampCare"),
        ]

    def test_a_survey_row_becomes_one_answer_per_question_answered(self) -> None:
        made, refused = translated("nps-survey.sample.csv", "nps-survey.yaml")
        assert [[event["data"]["kind"] for event in record] for record in made] == [
            ["nps", "csat"],
            ["nps", "csat"],
            ["nps"],
            ["nps", "csat"],
            ["nps"],
            ["nps", "csat"],
        ]
        assert refused == [
            "8: recommend.score.value: score.value 11 is off its scale 0–10",
            '9: recommend.time: "31.06.2024 10:00" is not a time as %d.%m.%Y %H:%M',
        ]
        assert made[0][0]["time"] == "2024-08-03T07:12:00Z"
