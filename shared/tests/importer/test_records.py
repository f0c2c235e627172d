import gzip
import io
import json
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from touchpoint.base.errors import UsageError
from touchpoint.importer import json_list
from touchpoint.importer.json_list import JsonList
from touchpoint.importer.mapping import Mapping
from touchpoint.importer.records import Record, Records


def mapping(**over: Any) -> Mapping:
    rule = {"type": "team_feedback.submitted", "time": "at", "data": {"team": "team", "text": "text"}}
    return Mapping.model_validate({"source": "/t", "id": "id", "events": [rule]} | over)


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def records(name: str, content: bytes | str, **over: Any) -> list[Record]:
        path = tmp_path / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        with Records(path, mapping(**over)) as result:
            return list(result)

    return records


class TestCsv:
    def test_rows_become_records_with_the_line_they_begin_on(self, read: Any) -> None:
        result = read("a.csv", 'id,text\r\n1,"two\nlines"\r\n\r\n2, trimmed \n3,\n')
        assert result == [
            Record(2, {"id": "1", "text": "two\nlines"}),
            Record(5, {"id": "2", "text": "trimmed"}),
            Record(6, {"id": "3", "text": None}),
        ]

    def test_a_row_of_another_width_is_a_problem_of_that_row_only(self, read: Any) -> None:
        result = read("a.csv", "id,text\n1\n2,b\n")
        assert [(each.line, each.problem) for each in result] == [
            (2, "has 1 columns, the header has 2"),
            (3, None),
        ]

    def test_delimiter_and_encoding_come_from_the_mapping_and_a_byte_order_mark_is_ignored(self, read: Any) -> None:
        assert read("a.csv", "id;n\n1;ä".encode("cp1252"), csv={"delimiter": ";", "encoding": "cp1252"})[0].data == {
            "id": "1",
            "n": "ä",
        }
        assert read("a.csv", b"\xef\xbb\xbfid\n1")[0].data == {"id": "1"}

    @pytest.mark.parametrize(
        ("content", "over", "complaint"),
        [
            ("id,id\n1,2\n", {}, "two columns are named 'id'"),
            ("id,text\n1,2\n", {"id": {"column": "Id"}}, "has no column Id; it has id, text"),
            ('id\n1\n"never closed\n', {}, "line 3 is not CSV: unexpected end of data"),
            ("id\n1\n", {"csv": {"encoding": "klingon"}}, "csv.encoding 'klingon' is unknown"),
        ],
    )
    def test_a_broken_file_is_refused_as_a_whole(self, read: Any, content: str, over: Any, complaint: str) -> None:
        with pytest.raises(UsageError, match=complaint):
            read("a.csv", content, **over)


class TestJsonLines:
    def test_lines_become_records_and_a_broken_one_is_a_problem_of_that_line_only(self, read: Any) -> None:
        result = read("a.jsonl", '\ufeff{"id": 1}\n\n{"id": \n[2]\n')
        assert [(each.line, each.data) for each in result] == [(1, {"id": 1}), (3, '{"id":'), (4, [2])]
        assert [each.problem is None for each in result] == [True, False, True]

    @pytest.mark.parametrize("line", [b'{"a": "\xff"}', b"[" * 100_000, b"1" * 5000])
    def test_a_broken_line_does_not_stop_the_import(self, read: Any, line: bytes) -> None:
        broken, after = read("a.ndjson", line + b'\n{"id": 2}')
        assert broken.problem is not None
        assert after.data == {"id": 2}

    def test_nan_is_read_as_text(self, read: Any) -> None:
        assert read("a.jsonl", '{"a": NaN}')[0].data == {"a": "NaN"}


class TestJson:
    def test_items_become_records_with_the_line_they_begin_on(self, read: Any) -> None:
        assert read("a.json", '[\n {"id": 1},\n\n {"id":\n 2}, 3]') == [
            Record(2, {"id": 1}),
            Record(4, {"id": 2}),
            Record(5, 3),
        ]

    def test_the_list_may_be_nested(self, read: Any) -> None:
        content = '{"meta": {"items": [9]}, "data": {"total": 2,\n "items": [1, 2], "next": null}}'
        assert read("a.json", content, records="data.items") == [Record(2, 1), Record(2, 2)]

    @pytest.mark.parametrize(
        ("content", "over", "complaint"),
        [
            ('{"a": [1]}', {}, "line 1: the file is not a list; name the list in the mapping"),
            ('{"a": 1}', {"records": "a"}, "a is not a list"),
            ('{"a": 1}', {"records": "b"}, "there is no 'b'"),
            ("[]", {"records": "b"}, "'{' was expected, not '\\['"),
            ("[1,\n{]", {}, "line 2: the value that begins here is not JSON: Expecting property name"),
            ("[1 2]", {}, "',' was expected, not '2'"),
            ("[1, ", {}, "line 1: the value that begins here is not JSON"),
            ("", {}, "the file is not a list"),
        ],
    )
    def test_a_broken_file_is_refused_naming_the_line(self, read: Any, content: str, over: Any, complaint: str) -> None:
        with pytest.raises(UsageError, match=complaint):
            read("a.json", content, **over)

    json_values = st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
        lambda inner: st.one_of(st.lists(inner), st.dictionaries(st.text(), inner)),
        max_leaves=10,
    )

    @given(st.lists(json_values, max_size=8), st.integers(1, 40), st.sampled_from([None, 0, 2]), st.booleans())
    def test_any_list_is_read_whatever_the_size_of_the_chunks(
        self, items: list[Any], chunk: int, indent: int | None, nested: bool
    ) -> None:
        text = json.dumps({"a": 1, "list": items} if nested else items, indent=indent, ensure_ascii=False)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(json_list, "_CHUNK", chunk)
            result = list(JsonList(io.StringIO(text), "text", "list" if nested else None))
        assert [value for _, value in result] == items
        assert [line for line, _ in result] == sorted(line for line, _ in result)

    def test_an_endless_item_stops_the_import_before_it_fills_the_memory(
        self, read: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(json_list, "MAX_RECORD", 10_000)
        monkeypatch.setattr(json_list, "_CHUNK", 100)
        with pytest.raises(UsageError, match="line 1: the value that begins here is not JSON: Unterminated string"):
            read("a.json", '["' + "x" * 50_000)


LONG = b"x" * 1000
CONTENTS = {
    "a.csv": b"id,text\n" + b"1,%b\n" % LONG * 6000,
    "a.jsonl": b'{"text": "%b"}\n' % LONG * 6000,
    "a.json": b"[" + b",\n".join([b'{"text": "%b"}' % LONG] * 6000) + b"]",
}


class TestEveryFormat:
    @pytest.mark.parametrize("name", CONTENTS)
    @pytest.mark.parametrize("gzipped", [False, True])
    def test_uses_bounded_memory_and_reports_its_progress(self, tmp_path: Path, name: str, gzipped: bool) -> None:
        content = CONTENTS[name]
        path = tmp_path / (f"{name}.gz" if gzipped else name)
        path.write_bytes(gzip.compress(content, 1) if gzipped else content)
        tracemalloc.start()
        with Records(path, mapping()) as records:
            assert sum(1 for _ in records) == 6000
            assert records.position == records.size == path.stat().st_size
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert len(content) > 6_000_000
        assert peak < 3_000_000

    def test_a_gzip_is_recognised_by_its_content(self, read: Any) -> None:
        assert read("a.jsonl", gzip.compress(b'{"id": 1}\n')) == [Record(1, {"id": 1})]

    def test_a_truncated_gzip_is_refused_after_its_readable_records(self, tmp_path: Path) -> None:
        lines = b"".join(b'{"id": %d}\n' % number for number in range(50_000))
        (tmp_path / "a.jsonl.gz").write_bytes(gzip.compress(lines)[:-2000])
        with Records(tmp_path / "a.jsonl.gz", mapping()) as records:
            result = iter(records)
            assert next(result) == Record(1, {"id": 0})
            with pytest.raises(UsageError, match="damaged or cut off after line"):
                list(result)

    def test_the_format_comes_from_the_name_or_the_mapping(self, read: Any) -> None:
        assert read("export.txt", '{"id": 1}', format="jsonl") == [Record(1, {"id": 1})]
        with pytest.raises(UsageError, match=r"export\.txt: not \.csv, \.json or \.jsonl"):
            read("export.txt", "")

    def test_a_missing_file_is_refused_in_one_line(self, tmp_path: Path) -> None:
        with pytest.raises(UsageError, match="cannot be read: No such file"):
            Records(tmp_path / "nowhere.csv", mapping())

    @pytest.mark.parametrize(
        ("name", "content"), [("a.csv", ""), ("a.csv", "id\n"), ("a.jsonl", ""), ("a.json", "[ ]")]
    )
    def test_an_empty_file_has_no_records(self, read: Any, name: str, content: str) -> None:
        assert read(name, content) == []
