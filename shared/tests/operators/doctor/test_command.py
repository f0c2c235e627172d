"""`touchpoint doctor`: it finds problems, and the runbook pages that it names exist."""

import asyncio
import json
import re
import socket
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from typer import Exit

from touchpoint.operators.doctor import command as doctor
from touchpoint.operators.doctor.command import Finding
from touchpoint.process.heartbeat import beat
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback

RUNBOOKS = Path(__file__).parents[4] / "docs" / "runbooks"


@asynccontextmanager
async def alive(ledger, role="all", **checks):
    """A process of the service that reports its heartbeat."""
    stop = asyncio.Event()
    beating = asyncio.create_task(beat(role, checks, (), ledger.sessions, stop))
    try:
        await eventually(lambda: ledger.query("SELECT 1 FROM processes"))
        yield
    finally:
        stop.set()
        await beating


async def killed(ledger, role, seconds, not_ready=None):
    """Insert the report of a process that was killed `seconds` ago."""
    await ledger.query(
        "INSERT INTO processes (id, role, host, pid, reported_at, not_ready) VALUES "
        "(gen_random_uuid(), :role, 'box-7', 4711, now() - make_interval(secs => :seconds), :not_ready)",
        role=role, seconds=seconds, not_ready=not_ready,
    )  # fmt: skip


async def wrong(ledger):
    """The doctor's findings that something is wrong: subject, runbook page, text."""
    findings = await doctor.examine(ledger.dsn)
    return [(finding.where.split()[1], finding.page, finding.text) for finding in findings if finding.wrong]


@pytest.fixture
async def applied(log, ledger, consuming, touchpoint):
    """The consumer has applied an event."""
    async with consuming():
        await log.append(feedback())
        await eventually(ledger.ids)


async def test_the_doctor_finds_nothing_wrong_with_a_healthy_service(log, ledger, consuming, touchpoint):
    async with consuming(), alive(ledger):
        await log.append(feedback())
        await eventually(ledger.ids)
        findings = [Finding(**each) for each in json.loads(await touchpoint("doctor", "--json"))]
        assert not any(finding.wrong for finding in findings)
        assert "✓ ledger-svc processes: 1 alive and ready" in await touchpoint("doctor")


async def test_a_setting_that_risks_data_loss_is_a_warning(ledger, applied, touchpoint):
    async with alive(ledger):
        text = await touchpoint("doctor")
    assert re.search(
        r"! PostgreSQL test_\w+: fsync is off: .*\n +.*database\n  → docs/runbooks/database-settings.md", text
    )
    assert "Nothing is wrong." in text


async def test_processes_that_no_longer_report_are_found_within_35_seconds(ledger, applied):
    await killed(ledger, "consumer", 35)
    await killed(ledger, "worker", 35)
    (about, page, text), *processes = await wrong(ledger)
    assert (about, page) == ("consumer", "process-down")
    assert re.fullmatch(r"no live process; consumer lag: \d+ s", text)
    assert [(about, page, re.sub(r"3\d s", "35 s", text)) for about, page, text in processes] == [
        ("processes", "process-down", f"no {role} process has reported for 35 s (the last: pid 4711 on box-7)")
        for role in ("consumer", "worker")
    ]


async def test_a_killed_process_is_not_reported_while_another_of_its_role_runs(ledger, applied):
    await killed(ledger, "all", 35)
    async with alive(ledger):
        assert await wrong(ledger) == []


async def test_a_process_stopped_on_purpose_leaves_no_report(ledger, applied):
    async with alive(ledger):
        pass
    assert [text for _, _, text in await wrong(ledger)][1:] == [
        f"no {role} process runs: none has reported, or the last was stopped" for role in ("consumer", "worker")
    ]


async def test_a_live_process_that_is_not_ready_is_reported_with_the_reason(ledger, applied):
    async def database():
        return "PostgreSQL cannot be used: TimeoutError"

    async with alive(ledger, database=database):
        [(about, page, text)] = await wrong(ledger)
    assert (about, page) == ("processes", "process-down")
    assert text.endswith("is not ready: database: PostgreSQL cannot be used: TimeoutError")


async def test_a_paused_consumer_is_reported_once(ledger, applied):
    async def consumer():
        return "paused: a look"

    await ledger.set_state("paused", "a look")
    async with alive(ledger, consumer=consumer):
        assert [(about, page) for about, page, _ in await wrong(ledger)] == [("consumer", "consumer-paused")]


@pytest.mark.parametrize(
    ("trouble", "about", "page"),
    [
        ("UPDATE offsets SET read_through = now() - interval '2 minutes'", "consumer", "lag-grows"),
        ("INSERT INTO consumers (consumer, state) VALUES ('ledger-svc', 'halted')", "consumer", "consumer-halted"),
        ("INSERT INTO consumers (consumer, state) VALUES ('ledger-svc', 'paused')", "consumer", "consumer-paused"),
        (
            'INSERT INTO dead_letters (consumer, topic, partition, "offset", stage, error, reason, fingerprint) '
            "VALUES ('ledger-svc', 'touchpoints.v1', 0, 7, 'handle', 'E', 'r', 'f')",
            "dead",
            "dead-letters-rise",
        ),
        (
            "INSERT INTO outbox (topic, headers, created_at) VALUES ('t', '', now() - interval '2 minutes')",
            "outbox",
            "outbox-grows",
        ),
    ],
)
async def test_a_problem_is_reported_with_its_runbook_page(ledger, applied, trouble, about, page):
    await ledger.query(trouble)
    async with alive(ledger):
        assert [finding[:2] for finding in await wrong(ledger)] == [(about, page)]
        with pytest.raises(Exit):
            await asyncio.to_thread(doctor.doctor, ledger.dsn)


async def test_the_doctors_output_fits_into_80_columns(ledger, applied, capsys):
    await ledger.set_state(
        "halted", "CheckViolationError: 23514 (schema public, table ledger), at conftest:41 write_down"
    )
    await killed(ledger, "all", 3600)
    with pytest.raises(Exit):
        await asyncio.to_thread(doctor.doctor, ledger.dsn)
    assert max(map(len, capsys.readouterr().out.splitlines())) <= 80


async def test_a_database_that_was_not_migrated_is_reported_in_one_line(ledger, applied):
    await ledger.query("ALTER TABLE processes RENAME TO gone")
    [(_, page, text)] = await wrong(ledger)
    assert page == "database-settings"
    assert text.endswith(
        'UndefinedTableError: 42P01 relation "processes" does not exist; '
        "is this the right database, and has this version's `migrate` run?"
    )


async def test_a_task_that_fails_for_more_than_a_minute_is_reported_with_its_cause(ledger, applied):
    async with alive(ledger):
        for seconds, task in ((5, "measure lag"), (300, "timer")):
            await ledger.query(
                "UPDATE processes SET failing = failing || jsonb_build_object(CAST(:task AS text), jsonb_build_object("
                "'error', 'ZeroDivisionError', 'since', now() - make_interval(secs => :seconds)))",
                task=task, seconds=seconds,
            )  # fmt: skip
        [text] = [text for _, page, text in await wrong(ledger) if page == "task-fails"]
    assert text.endswith("UTC: ZeroDivisionError")


async def test_a_custom_role_without_a_live_process_is_reported(ledger, applied):
    async with alive(ledger, "consumer"), alive(ledger, "worker"):
        await killed(ledger, "deliver", 20)
        assert any("no deliver process has reported" in text for _, _, text in await wrong(ledger))


async def test_an_unreachable_database_is_reported_and_the_rest_is_checked(ledger, touchpoint):
    away = re.sub("host=[^&]*", "host=/nowhere", ledger.dsn)
    assert [finding.page for finding in await doctor.examine(away)] == [None, None, "database-down"]


async def test_an_unreachable_kafka_is_reported_and_the_rest_is_checked(ledger, touchpoint, monkeypatch):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    kafka, *rest = await doctor.examine(ledger.dsn)
    assert kafka.page == "broker-down"
    assert rest


async def test_a_hanging_kafka_is_reported_after_a_timeout(ledger, touchpoint, monkeypatch):
    monkeypatch.setattr(doctor, "KAFKA_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{silent.getsockname()[1]}")
        kafka, *rest = await doctor.examine(ledger.dsn)
    assert (kafka.text, kafka.page) == ("does not answer within 0.5 s", "broker-down")
    assert rest


def test_every_runbook_page_that_the_doctor_names_exists():
    named = set(re.findall(r'"([a-z]+-[a-z-]+)"', Path(doctor.__file__).read_text()))
    assert "consumer-halted" in named
    assert named <= {page.stem for page in RUNBOOKS.glob("*.md")}
