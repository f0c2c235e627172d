from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchpoint.base.errors import UsageError
from touchpoint.importer import converters
from touchpoint.importer.mapping import load

BERLIN = ZoneInfo("Europe/Berlin")

GOOD = """
source: /imports/test
id: id
events:
  - type: team_feedback.submitted
    time: at
    data: {team: {constant: support}, text: text}
"""


@pytest.fixture
def mapping(tmp_path: Path) -> Any:
    def write(text: str) -> Path:
        (tmp_path / "mapping.yaml").write_text(text)
        return tmp_path / "mapping.yaml"

    return write


def test_a_valid_mapping_is_loaded(mapping: Any) -> None:
    loaded = load(mapping(GOOD))
    assert loaded.events[0].name == "team_feedback.submitted"


@pytest.mark.parametrize(
    ("wrong", "right", "complaint"),
    [
        ("id: id", "id: 'a..b'", "id.from[0]: 'a..b' is not JMESPath"),
        ("id: id", "id: {}", "id: needs exactly one of from, column and constant"),
        ("id: id", "id: {from: id, column: id}", "id: needs exactly one of from, column and constant"),
        ("id: id", "id: {from: id, as: sha1}", "id.as: must be one of: 'text'"),
        ("id: id", "id: {from: id, format: iso}", "id: format and zone belong to `as: time` or `as: date`"),
        ("id: id", "id: id\nid: other", "'id' is given twice"),
        ("id: id", "id: id\nzone: Berlin", "zone: 'Berlin' is not a time zone"),
        ("id: id", "", "id: is required"),
        ("time: at", "tiem: at", "events[0].tiem: unknown key"),
        ("time: at", "time: {from: at, plus: {}}", "events[0].time.plus: needs exactly one of"),
        ("time: at", "time: at\n    id: x", "events[0]: id belongs to an event with each"),
        ("team_feedback.submitted", "ticket.exploded", "events[0]: type 'ticket.exploded' is unknown; one of customer"),
        ("team_feedback.submitted", "feedback.recorded", "events[0]: type 'feedback.recorded' is unknown"),
        ("text: text", "txt: text", "events[0]: data.txt is not in team_feedback.submitted; it has team, text,"),
        ("text: text", "text.value: text", "events[0]: data.text.value is not in team_feedback.submitted"),
        (", text: text", "", "events[0]: team_feedback.submitted needs data.text"),
        ("source: /imports/test", "source: has blanks", "source: must be a URI reference: write U+0020 as %20"),
        (GOOD, "[", "is not YAML: while parsing"),
        (GOOD, "just text", "the file: must be an object"),
        (
            "events:",
            "events:\n  - {type: team_feedback.submitted, time: at, data: {team: {constant: a}, text: text}}",
            "the file: two events are named team_feedback.submitted",
        ),
    ],
)
def test_an_invalid_mapping_is_refused_with_the_place_of_the_error(
    mapping: Any, wrong: str, right: str, complaint: str
) -> None:
    assert wrong in GOOD
    with pytest.raises(UsageError) as refused:
        load(mapping(GOOD.replace(wrong, right)))
    assert complaint in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_missing_mapping_is_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        load(tmp_path / "nowhere.yaml")


def test_words_that_yaml_reads_as_booleans_or_dates_stay_texts(mapping: Any) -> None:
    rule = load(mapping(GOOD.replace("text: text", "text: {from: text, map: {no: No, Yes: 2026-01-01, 1: true}}")))
    assert rule.events[0].data["text"].map == {"no": "No", "Yes": "2026-01-01", "1": True}


class TestRules:
    @pytest.fixture
    def value(self, mapping: Any) -> Any:
        def result(rule: str, record: Any) -> Any:
            return load(mapping(GOOD.replace("id: id", f"id: {rule}"))).id.value(record, None)

        return result

    def test_the_first_source_that_is_not_null_is_used(self, value: Any) -> None:
        assert value("{from: [a, b.c]}", {"a": None, "b": {"c": 0}}) == 0

    def test_a_column_is_taken_literally(self, value: Any) -> None:
        assert value('{column: "a.b c?"}', {"a.b c?": "x"}) == "x"

    def test_null_becomes_the_default_also_after_conversion(self, value: Any) -> None:
        assert value("{from: a, default: 7}", {}) == 7
        assert value("{from: a, as: text, default: none}", {"a": "  "}) == "none"

    def test_a_map_translates_after_conversion_and_may_have_a_default(self, value: Any) -> None:
        rule = '{from: a, as: lower, map: {gold: key, "*": standard}}'
        assert value(rule, {"a": "GOLD"}) == "key"
        assert value(rule, {"a": "brass"}) == "standard"
        assert value(rule, {}) is None

    def test_a_map_refuses_what_it_does_not_list(self, value: Any) -> None:
        with pytest.raises(ValueError, match="'brass' is not in the map: gold"):
            value("{from: a, map: {gold: key}}", {"a": "brass"})

    def test_a_constant_is_used_unchanged(self, value: Any) -> None:
        assert value("{constant: {a: [1]}}", {}) == {"a": [1]}

    def test_an_expression_that_fails_on_a_record_is_an_error(self, value: Any) -> None:
        with pytest.raises(ValueError, match="invalid type for value: 5"):
            value("starts_with(a, 'x')", {"a": 5})


class TestConverters:
    @pytest.mark.parametrize(
        ("convert", "given_value", "made"),
        [
            (converters.text, 7, "7"),
            (converters.text, True, "true"),
            (converters.text, " ", None),
            (converters.number, "8", 8),
            (converters.number, " 7.5 ", 7.5),
            (converters.number, 3, 3),
            (converters.boolean, "Yes", True),
            (converters.boolean, 0, False),
            (converters.texts, "a; b,,c ", ["a", "b", "c"]),
            (converters.texts, ["a", 1, ""], ["a", "1"]),
            (converters.duration, "01:26:55.0", 5215.0),
            (converters.duration, "100:00:01", 360001.0),
            (converters.duration, 90, 90.0),
            (converters.duration, "P1DT1H30M0.5S", 91800.5),
        ],
    )
    def test_convert_values_as_contracts_require(self, convert: Any, given_value: Any, made: Any) -> None:
        assert convert(given_value) == made

    @pytest.mark.parametrize(
        ("convert", "given_value"),
        [
            (converters.text, {"a": 1}),
            (converters.number, "8,5"),
            (converters.number, "nan"),
            (converters.number, "٣"),
            (converters.boolean, "perhaps"),
            (converters.duration, "-12:14:20."),
            (converters.duration, "PT"),
            (converters.duration, "90 min"),
        ],
    )
    def test_refuse_other_values_and_show_them(self, convert: Any, given_value: Any) -> None:
        with pytest.raises(ValueError, match=" is n"):
            convert(given_value)

    def test_hash_to_the_same_id_whatever_the_order_of_the_keys(self) -> None:
        assert converters.sha256_id({"a": 1, "b": 2}) == converters.sha256_id({"b": 2, "a": 1})
        assert converters.sha256_id("a") != converters.sha256_id("b")

    @pytest.mark.parametrize(
        ("given_value", "form", "moment"),
        [
            ("2026-11-22T09:30:00Z", None, datetime(2026, 11, 22, 9, 30, tzinfo=UTC)),
            ("2026-11-22 09:30", "iso", datetime(2026, 11, 22, 8, 30, tzinfo=UTC)),
            ("22.06.2026 09:30", "%d.%m.%Y %H:%M", datetime(2026, 6, 22, 7, 30, tzinfo=UTC)),
            (1_790_000_000, "epoch_s", datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)),
            ("1790000000500", "epoch_ms", datetime(2026, 9, 21, 14, 13, 20, 500_000, tzinfo=UTC)),
        ],
    )
    def test_read_times_with_their_zone(self, given_value: Any, form: str | None, moment: datetime) -> None:
        assert converters.moment(given_value, form, BERLIN) == moment

    def test_read_an_ambiguous_local_time_as_the_first(self) -> None:
        made = converters.moment("2026-10-25T02:30", None, BERLIN)
        assert made is not None
        assert made.astimezone(UTC) == datetime(2026, 10, 25, 0, 30, tzinfo=UTC)

    @pytest.mark.parametrize(
        ("given_value", "form", "zone", "complaint"),
        [
            ("2026-03-29T02:30", None, BERLIN, "does not exist in Europe/Berlin"),
            ("2026-11-22T09:30", None, None, "has no offset from UTC: set `zone` in the mapping"),
            ("yesterday", None, BERLIN, '"yesterday" is not a time as ISO 8601'),
            ("31.02.2026", "%d.%m.%Y", BERLIN, "is not a time as %d"),
            ("1e400", "epoch_s", None, "is not a time as epoch_s"),
        ],
    )
    def test_refuse_invalid_times(self, given_value: str, form: str, zone: ZoneInfo, complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            converters.moment(given_value, form, zone)

    def test_read_dates(self) -> None:
        assert converters.day("2026-11-22", None) == "2026-11-22"
        assert converters.day("22/11/26", "%d/%m/%y") == "2026-11-22"
        with pytest.raises(ValueError, match="is not a date"):
            converters.day("22/11/26", None)

    @given(
        st.datetimes().map(lambda any_year: any_year.replace(year=2000 + any_year.year % 90, day=any_year.day % 28 + 1))
    )
    def test_any_local_time_is_refused_or_converted_without_loss(self, local: datetime) -> None:
        try:
            made = converters.moment(local.isoformat(), None, BERLIN)
        except ValueError:
            assert (local.month, local.hour) == (3, 2)  # when clocks go forward in Berlin
            return
        assert made is not None
        assert made.astimezone(UTC).astimezone(BERLIN).replace(tzinfo=None) == local
