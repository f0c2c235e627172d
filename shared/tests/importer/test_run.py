"""The whole command against a fake gateway that is served over HTTP in this process."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner, Result

from touchpoint.base.errors import UsageError
from touchpoint.importer import command, gateway, run
from touchpoint.testing.gateway import Answer, Batch, FakeGateway, busy, taken

APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(command.import_file)

MAPPING = """
source: /imports/remarks
id: id
events:
  - type: team_feedback.submitted
    time: {constant: 2026-11-20T10:00:00Z, as: time}
    data: {team: {constant: support}, text: text, customer_id: customer}
"""


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    with FakeGateway().serving() as serving:
        yield serving


@pytest.fixture
def files(tmp_path: Path) -> Path:
    (tmp_path / "mapping.yaml").write_text(MAPPING)
    return tmp_path


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "BATCH_EVENTS", 10)


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Replace waits: record their seconds and return at once."""
    noted: list[float] = []

    class NoWait:
        def wait(self, seconds: float) -> bool:
            noted.append(seconds)
            return False

        def is_set(self) -> bool:
            return False

    monkeypatch.setattr(command, "Event", NoWait)
    return noted


def remarks(path: Path, count: int, **special: dict[str, Any]) -> Path:
    """Records in JSON Lines; `special` replaces fields of the record with that number, `_3`."""
    records = [{"id": n, "text": f"remark {n}", "customer": f"c{n % 3}"} for n in range(count)]
    for number, fields in special.items():
        records[int(number[1:])] |= fields
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def arguments(fake: FakeGateway, file: Path, *more: str) -> list[str]:
    options = ["--mapping", str(file.parent / "mapping.yaml"), "--gateway", fake.url, "--key", fake.key]
    return [str(file), *options, *more]


def imported(fake: FakeGateway, file: Path, *more: str) -> Result:
    return CliRunner().invoke(APP, arguments(fake, file, *more))


def texts(events: Batch) -> list[str]:
    return [event["data"]["text"] for event in events]


def rejects(file: Path) -> list[dict[str, Any]]:
    path = file.with_name(f"{file.name}.rejects.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_every_record_arrives_in_the_files_order_in_batches(fake: FakeGateway, files: Path) -> None:
    result = imported(fake, remarks(files / "a.jsonl", 25))
    assert result.exit_code == 0, result.output
    assert texts(fake.events) == [f"remark {n}" for n in range(25)]
    assert [len(batch) for batch in fake.batches] == [10, 10, 5]
    assert result.stdout.startswith("Imported 25 records as 25 events.")


def test_importing_twice_sends_the_same_events_again(fake: FakeGateway, files: Path) -> None:
    file = remarks(files / "a.jsonl", 12)
    imported(fake, file)
    once = list(fake.events)
    assert imported(fake, file).exit_code == 0
    assert fake.events == once + once
    assert len({event["id"] for event in once}) == 12


def test_a_complete_import_leaves_no_other_files(fake: FakeGateway, files: Path) -> None:
    imported(fake, remarks(files / "a.jsonl", 12))
    assert sorted(path.name for path in files.iterdir()) == ["a.jsonl", "mapping.yaml"]


def test_a_record_with_many_events_is_split_into_requests_within_the_gateways_limits(
    fake: FakeGateway, files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gateway, "REQUEST_EVENTS", 8)
    monkeypatch.setattr(gateway, "REQUEST_BYTES", 2000)
    rule = "each: notes\n    data: {team: {constant: support}, text: item}"
    (files / "mapping.yaml").write_text(MAPPING.partition("data:")[0] + rule)
    notes = [f"note {n}" for n in range(20)] + ["x" * 1500, "y" * 1500, "z" * 1900]
    (files / "a.jsonl").write_text(json.dumps({"id": 1, "notes": notes}))
    fake.answers = [taken, lambda batch: taken(batch, {0: {"status": 422, "detail": "no"}})]
    assert imported(fake, files / "a.jsonl").exit_code == command.REFUSED
    assert [event["data"]["text"] for event in fake.events] == notes
    assert [len(batch) for batch in fake.batches] == [8, 8, 4, 1, 1, 1]
    assert [reject["reason"] for reject in rejects(files / "a.jsonl")] == ["gateway: no"]


class TestRefusals:
    def test_go_to_the_rejects_file_with_line_and_reason_and_other_records_are_sent(
        self, fake: FakeGateway, files: Path
    ) -> None:
        file = remarks(files / "a.jsonl", 12, _3={"text": ""}, _5={"id": None})
        result = imported(fake, file)
        assert result.exit_code == command.REFUSED
        assert len(fake.events) == 10
        assert [(reject["line"], reject["reason"]) for reject in rejects(file)] == [
            (4, "team_feedback.submitted.text: must not be empty"),
            (6, "id: no value; without an id, importing twice would count the record twice"),
        ]
        assert rejects(file)[0]["record"] == {"id": 3, "text": "", "customer": "c0"}
        assert "2 refused, see" in result.stdout

    def test_of_the_gateway_go_to_the_rejects_file(self, fake: FakeGateway, files: Path) -> None:
        problem = {"status": 422, "detail": "no", "errors": [{"field": "data.text", "reason": "too rude"}]}
        fake.answers = [lambda batch: taken(batch, {1: problem})]
        file = remarks(files / "a.jsonl", 12)
        assert imported(fake, file).exit_code == command.REFUSED
        assert rejects(file) == [
            {
                "line": 2,
                "reason": "gateway: data.text: too rude",
                "record": {"id": 1, "text": "remark 1", "customer": "c1"},
            }
        ]

    def test_of_a_whole_batch_are_refusals_of_each_item(self, fake: FakeGateway, files: Path) -> None:
        problem = {"status": 413, "detail": "too large"}
        fake.answers = [lambda batch: taken(batch, dict.fromkeys(range(len(batch)), problem))]
        file = remarks(files / "a.jsonl", 12)
        assert imported(fake, file).exit_code == command.REFUSED
        assert [reject["reason"] for reject in rejects(file)] == ["gateway: too large"] * 10

    def test_of_an_earlier_import_are_deleted_by_the_next(self, fake: FakeGateway, files: Path) -> None:
        file = remarks(files / "a.jsonl", 3, _1={"text": ""})
        imported(fake, file)
        imported(fake, remarks(file, 3))
        assert rejects(file) == []


class TestBusyGateways:
    def test_are_retried_after_their_retry_after(self, fake: FakeGateway, files: Path, waits: list[float]) -> None:
        fake.answers = [lambda _: busy(503, "7"), lambda _: busy(429, "3")]
        assert imported(fake, remarks(files / "a.jsonl", 12)).exit_code == 0
        assert waits == [7, 3]
        assert [len(batch) for batch in fake.batches] == [10, 10, 10, 2]

    def test_without_retry_after_are_retried_at_growing_intervals(
        self, fake: FakeGateway, files: Path, waits: list[float]
    ) -> None:
        fake.answers = [lambda _: Answer(502, {})] * 8
        assert imported(fake, remarks(files / "a.jsonl", 1)).exit_code == 0
        longest = [0.5, 1, 2, 4, 8, 16, 30, 30]
        assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True))

    def test_get_only_the_events_again_that_they_answered_with_503_and_in_order(
        self, fake: FakeGateway, files: Path, waits: list[float]
    ) -> None:
        away = {"status": 503, "title": "Unavailable"}
        fake.answers = [lambda batch: taken(batch, {2: away, 5: away, 7: {"status": 422, "detail": "no"}})]
        file = remarks(files / "a.jsonl", 12)
        assert imported(fake, file).exit_code == command.REFUSED
        assert texts(fake.batches[1]) == ["remark 2", "remark 5"]
        assert texts(fake.batches[2]) == ["remark 10", "remark 11"]
        assert [reject["line"] for reject in rejects(file)] == [8]

    def test_that_stay_unavailable_end_the_import_and_the_next_one_continues(
        self, fake: FakeGateway, files: Path, waits: list[float]
    ) -> None:
        fake.answers = [taken, *[lambda _: busy(503, "100")] * 4]
        file = remarks(files / "a.jsonl", 12)
        result = imported(fake, file)
        assert result.exit_code == command.UNAVAILABLE
        assert "the gateway accepted no event for 300 seconds: 503 Unavailable" in result.stderr
        assert sum(waits) == gateway.GIVE_UP_SECONDS
        result = imported(fake, file, "--json")
        assert texts(fake.batches[-1]) == ["remark 10", "remark 11"]
        assert {"records": 12, "resumed_after": 10, "events": 12}.items() <= json.loads(result.stdout).items()

    def test_that_cannot_be_reached_end_the_import(self, fake: FakeGateway, files: Path, waits: list[float]) -> None:
        fake.url = "http://127.0.0.1:9"
        result = imported(fake, remarks(files / "a.jsonl", 1))
        assert result.exit_code == command.UNAVAILABLE
        assert "it does not answer" in result.stderr


class TestUsageErrors:
    @pytest.mark.parametrize(
        ("options", "complaint"),
        [
            (["--key", ""], "an API key is needed"),
            (["--key", "wrong"], "the gateway does not take these events: 401 This API key is not known."),
            (["--gateway", "http://[::"], "--gateway or --key is invalid"),
            (["--mapping", "nowhere.yaml"], "the mapping nowhere.yaml cannot be read"),
        ],
    )
    def test_are_reported_in_one_line(self, fake: FakeGateway, files: Path, options: list[str], complaint: str) -> None:
        result = imported(fake, remarks(files / "a.jsonl", 1), *options)
        assert isinstance(result.exception, UsageError)
        assert complaint in str(result.exception)

    def test_of_a_broken_file_come_after_its_readable_records(self, fake: FakeGateway, files: Path) -> None:
        records = ",\n".join(json.dumps({"id": n, "text": "a"}) for n in range(25))
        (files / "a.json").write_text(f"[{records}, oops]")
        result = imported(fake, files / "a.json")
        assert "a.json: line 25: the value that begins here is not JSON" in str(result.exception)
        assert len(fake.events) == 25
        assert "line 25" in str(imported(fake, files / "a.json").exception)
        assert len(fake.events) == 25


class TestDryRuns:
    def test_show_the_first_events_and_every_refused_record_and_send_nothing(
        self, fake: FakeGateway, files: Path
    ) -> None:
        file = remarks(files / "a.jsonl", 40, _0={"text": ""}, _39={"text": ""})
        result = imported(fake, file, "--dry-run")
        assert result.exit_code == command.REFUSED
        assert fake.batches == []
        assert [line.split(":")[0] for line in result.stdout.splitlines()[:-1]] == [f"line {n}" for n in range(2, 12)]
        assert result.stdout.splitlines()[-1].startswith("Would import 40 records as 38 events; 2 refused.")
        assert [line.split(" refused")[0] for line in result.stderr.splitlines()] == ["line 1", "line 40"]
        assert sorted(path.name for path in files.iterdir()) == ["a.jsonl", "mapping.yaml"]

    def test_need_neither_key_nor_gateway_and_can_print_json(self, fake: FakeGateway, files: Path) -> None:
        file = remarks(files / "a.jsonl", 12)
        result = imported(fake, file, "--dry-run", "--json", "--key", "", "--gateway", "http://127.0.0.1:9")
        summary = json.loads(result.stdout)
        assert {"dry_run": True, "records": 12, "events": 12, "refused": 0}.items() <= summary.items()
        assert texts(summary["first_events"]) == [f"remark {n}" for n in range(10)]


class TestKills:
    """The import runs in a process of its own and is killed by the gateway it talks to, at an exact moment."""

    @pytest.fixture
    def start(self, fake: FakeGateway, files: Path) -> Callable[[Path], "subprocess.Popen[str]"]:
        program = "import typer; from touchpoint.importer import command, run; run.BATCH_EVENTS = 10; "
        program += "typer.run(command.import_file)"

        def started(file: Path) -> "subprocess.Popen[str]":
            return subprocess.Popen(
                [sys.executable, "-c", program, *arguments(fake, file, "--json")],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )

        return started

    def kill_during(self, request: int, fake: FakeGateway, start: Any, file: Path, number: int) -> tuple[str, str]:
        """Run until that request arrives, send the signal, let the gateway answer, wait for the end."""
        process: subprocess.Popen[str]

        def kill(batch: Batch) -> Answer:
            os.kill(process.pid, number)
            return taken(batch)

        fake.answers = [*[taken] * (request - 1), kill]
        process = start(file)
        try:
            return process.communicate(timeout=60)
        finally:
            process.kill()

    @pytest.mark.parametrize("request_number", [1, 2, 4])
    def test_lose_nothing_and_repeat_at_most_one_batch(
        self, fake: FakeGateway, files: Path, start: Any, request_number: int
    ) -> None:
        file = remarks(files / "a.jsonl", 55, _2={"text": ""}, _17={"text": ""}, _54={"text": ""})
        self.kill_during(request_number, fake, start, file, signal.SIGKILL)
        before = len(fake.batches)
        assert before == request_number
        summary = json.loads(start(file).communicate(timeout=60)[0])
        assert (summary["records"], summary["events"], summary["refused"]) == (55, 52, 3)
        assert fake.batches[before] == fake.batches[before - 1]
        once = {event["id"]: event["data"]["text"] for event in fake.events}
        assert sorted(once.values()) == sorted(f"remark {n}" for n in range(55) if n not in (2, 17, 54))
        assert [reject["line"] for reject in rejects(file)] == [3, 18, 55]

    def test_after_a_change_of_the_file_or_the_mapping_restart_from_the_beginning(
        self, fake: FakeGateway, files: Path, start: Any
    ) -> None:
        for change in (
            lambda: remarks(files / "a.jsonl", 31),
            lambda: (files / "mapping.yaml").write_text(f"{MAPPING}\n# changed"),
        ):
            fake.batches.clear()
            self.kill_during(3, fake, start, remarks(files / "a.jsonl", 30), signal.SIGKILL)
            change()
            assert imported(fake, files / "a.jsonl").exit_code == 0
            assert texts(fake.batches[3])[0] == "remark 0"

    def test_by_ctrl_c_end_at_once_during_a_wait_for_the_gateway(
        self, fake: FakeGateway, files: Path, start: Any
    ) -> None:
        file = remarks(files / "a.jsonl", 15)
        process: subprocess.Popen[str]

        def kill(_: Batch) -> Answer:
            os.kill(process.pid, signal.SIGINT)
            return busy(503, "1000")

        fake.answers = [taken, kill]
        process = start(file)
        assert "Stopped after 10 records" in process.communicate(timeout=30)[1]
        assert process.returncode == command.INTERRUPTED

    @pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
    def test_by_ctrl_c_or_sigterm_finish_the_current_request_and_say_how_to_continue(
        self, fake: FakeGateway, files: Path, start: Any, number: int
    ) -> None:
        file = remarks(files / "a.jsonl", 55)
        _, output = self.kill_during(2, fake, start, file, number)
        assert "Stopped after 20 records; the same command resumes there." in output
        result = imported(fake, file, "--json")
        assert json.loads(result.stdout)["events"] == 55
        assert texts(fake.batches[2])[0] == "remark 20"
        assert len(fake.events) == 55
