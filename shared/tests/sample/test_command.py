"""`touchpoint sample`: to a file, to standard output, through a gateway of this process."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event

import httpx
import pytest
import typer
from typer.testing import CliRunner, Result

from touchpoint import cli
from touchpoint.base.errors import UsageError
from touchpoint.importer import gateway
from touchpoint.importer.gateway import Gateway, StoppedError
from touchpoint.sample import command, output
from touchpoint.testing.gateway import FakeGateway, busy, taken

APP = typer.Typer(pretty_exceptions_enable=False)
APP.command()(command.sample)

SMALL = ("--customers", "8", "--days", "60")


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    with FakeGateway().serving() as serving:
        yield serving


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(APP, [str(each) for each in arguments])


def test_it_is_a_command_whose_help_teaches_with_examples() -> None:
    shown = CliRunner().invoke(cli.commands("sample"), ["sample", "--help"]).output
    assert "Examples:" in shown
    assert "touchpoint sample --out year.jsonl --truths truths.json" in shown


def test_the_file_and_standard_output_have_the_same_lines_as_before(tmp_path: Path) -> None:
    result = run(*SMALL, "--out", tmp_path / "a.jsonl")
    assert result.exit_code == 0, result.output
    written = (tmp_path / "a.jsonl").read_bytes()
    assert run(*SMALL).stdout.encode() == written
    assert f"Wrote {written.count(10):,} events." in result.stderr
    assert hashlib.sha256(written).hexdigest() == "1c135dacbb5019cf09c0dc40f367fc892413f9bb8530a79676fe7e66a74c7449"


def test_the_default_world_is_the_year_2025(tmp_path: Path) -> None:
    run("--customers", "5", "--out", tmp_path / "year.jsonl")
    times = [json.loads(line)["time"] for line in (tmp_path / "year.jsonl").read_bytes().splitlines()]
    assert (times[0], times[-1][:7]) == ("2024-12-30T00:00:00Z", "2025-12")


def test_a_reader_that_has_enough_ends_it_quietly() -> None:
    command_line = [sys.executable, "-m", "touchpoint.cli", "sample", "--customers", "100"]
    with subprocess.Popen(command_line, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=os.environ) as process:
        assert process.stdout
        assert process.stderr
        assert json.loads(process.stdout.readline())["specversion"] == "1.0"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_the_truths_are_written_beside(tmp_path: Path) -> None:
    run(*SMALL, "--out", tmp_path / "a.jsonl", "--truths", tmp_path / "truths.json")
    described = json.loads((tmp_path / "truths.json").read_text())
    assert described["world"]["events"] == len((tmp_path / "a.jsonl").read_bytes().splitlines())


def test_until_now_ends_now_and_the_last_day_is_live() -> None:
    lines = run("--customers", "60", "--days", "20", "--until", "now", "--live", "1").stdout.splitlines()
    events = [json.loads(line) for line in lines]
    last, now = datetime.fromisoformat(events[-1]["time"]), datetime.now(UTC)
    assert now - timedelta(days=1) < last <= now
    live = [event["time"] for event in events if "backfill" not in event]
    assert live
    assert datetime.fromisoformat(live[0]) > now - timedelta(days=1, minutes=5)


def test_a_world_that_ends_later_on_the_same_day_begins_equally() -> None:
    short, longer = (run("--customers", "80", "--until", f"2026-03-03T{hour}:00:00Z").stdout for hour in ("09", "21"))
    assert len(short) < len(longer)
    assert longer.startswith(short)


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("--until", "yesterday"), r"--until must be a time as in RFC 3339.*; or a date such as 2026-11-22; or now"),
        (("--out", "a", "--to", "http://127.0.0.1:1"), "give one of them"),
        (("--to", "http://127.0.0.1:1"), "an API key is needed: TOUCHPOINT_API_KEY"),
        (("--to", "http://[::", "--key", "k"), "--to or TOUCHPOINT_API_KEY is invalid"),
        (("--out", "/nowhere/a.jsonl"), "cannot write to /nowhere/a.jsonl: No such file or directory"),
    ],
)
def test_what_cannot_work_is_a_line(arguments: tuple[str, ...], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TOUCHPOINT_API_KEY", raising=False)
    result = run("--customers", "5", "--days", "2", *arguments)
    assert isinstance(result.exception, UsageError)
    with pytest.raises(UsageError, match=reason):
        raise result.exception


def test_the_gateway_gets_all_in_order_as_history(fake: FakeGateway) -> None:
    result = run("--customers", "30", "--days", "300", "--to", fake.url, "--key", fake.key)
    assert result.exit_code == 0, result.output
    expected = [json.loads(line) for line in run("--customers", "30", "--days", "300").stdout.splitlines()]
    assert fake.events == expected
    assert len(fake.batches) > 1
    assert all(event["backfill"] for event in fake.events)
    assert f"Sent {len(expected):,} events." in result.stderr


def test_a_busy_gateway_gets_the_same_again(fake: FakeGateway) -> None:
    fake.answers = [lambda _: busy(retry_after="0"), taken]
    result = run(*SMALL, "--to", fake.url, "--key", fake.key)
    assert result.exit_code == 0
    assert fake.batches[0] == fake.batches[1]


def test_refused_events_are_named_and_counted(fake: FakeGateway) -> None:
    problem = {"status": 422, "title": "Invalid", "errors": [{"field": "data.kind", "reason": "unknown"}]}
    fake.answers = [lambda batch: taken(batch, {2: problem})]
    result = run(*SMALL, "--to", fake.url, "--key", fake.key)
    assert result.exit_code == 1
    assert "event 3 refused: data.kind: unknown" in result.stderr
    assert "; 1 refused." in result.stderr


def test_a_gateway_that_stays_away_ends_it_with_code_3(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gateway, "GIVE_UP_SECONDS", 0)
    result = run(*SMALL, "--to", "http://127.0.0.1:1", "--key", "k")
    assert result.exit_code == 3
    assert "later, the same command sends all again" in result.stderr


def test_a_stop_completes_the_current_block() -> None:
    stop, sent = Event(), list[int]()

    class Client:
        def post(self, _: str, *, content: bytes, headers: object) -> httpx.Response:
            sent.append(len(json.loads(content)))
            stop.set()
            return httpx.Response(202, json={"refused": []})

    client: httpx.Client = Client()  # type: ignore[assignment] # what the sender uses of it
    with pytest.raises(StoppedError):
        output.send((b"{}" for _ in range(5000)), Gateway(client, stop.wait), stop, lambda _: None)
    assert sent == [1000]
