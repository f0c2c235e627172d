"""`touchpoint verify`: checks that every event of the log was applied exactly once and in order."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from touchpoint.base.errors import UsageError
from touchpoint.base.explain import explain
from touchpoint.db import databases
from touchpoint.db.engine import blames_database
from touchpoint.operators.reach import Database, Json, Since, dsns, kafka
from touchpoint.verify.report import MOST_CUSTOMERS, MOST_EXAMPLES, Extent, Fault, Finding, Report
from touchpoint.verify.run import Show, verify
from touchpoint.verify.subject import Subject, installed

FOUND = 1
"""Exit code when something is wrong. Exit code 2: the check could not be made."""

LINE_SECONDS = 10
"""Seconds between two lines of progress when stderr is not a terminal."""

OUTCOMES = {
    "applied": "applied",
    "ignored": "ignored (type not handled by this consumer)",
    "duplicate": "duplicates, applied once",
    "conflict": "same id, other data: not applied",
    "open": "dead letters, open",
    "redriven": "dead letters, redriven and applied",
    "discarded": "dead letters, discarded",
    "erased": "left out: customer erased",
    "sent again": "lost by Kafka, sent again",
}
"""Label of each outcome in the printed table."""

_REBUILD = 'touchpoint replay rebuild --consumer {consumer} --reason "…"'
WHAT_TO_DO = {
    Fault.MISSING: f"rebuild the tables: {_REBUILD}",
    Fault.TWICE: f"report this bug, it must never happen; then rebuild the tables: {_REBUILD}",
    Fault.CHANGED: f"rebuild the tables, if their rows follow from the log alone: {_REBUILD}",
    Fault.FORGOTTEN: 'read the decisions again: touchpoint replay fold --consumer {consumer} --reason "…"',
    Fault.GONE: "these tables hold the last copy: have the events sent again under the same ids "
    "(docs/runbooks/log-lost.md)",
    Fault.UNEXPLAINED: f"find out who wrote it; a rebuild leaves it out: {_REBUILD}",
    Fault.OUT_OF_ORDER: f"later events were applied without this one; rebuild the tables: {_REBUILD}",
    Fault.REFUSED: "an older version applied it: see the changes of {consumer}'s handlers",
    Fault.UNPUBLISHED: "report this bug, it must never happen: the event is not sent again",
}
"""Advice for each fault. `touchpoint replay rebuild` itself refuses consumers whose rows do not follow from the log."""
LAST_COPY = (
    "first have the events that Kafka has lost sent again: these rows may come from them, and a rebuild deletes them"
)
"""Advice instead of a rebuild while Kafka has lost events whose last copy is in the tables."""


def verify_command(
    *,
    since: Since = None,
    consumer: Annotated[str, typer.Option(help="Only this consumer, as `touchpoint consumer list` shows it.")] = "",
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Check that every event of the log was applied exactly once, in order, and that every total equals a recount.

    It reads the whole log and applies it with the service's handlers to temporary tables, then compares these with the
    live tables and prints the differences, with examples and what to do. It changes no data, reads one snapshot of
    each database, and can run while events flow. It may take minutes.

    \b
    Exit codes:
      0  every event was applied as it should be
      1  something is wrong: see the output
      2  the check could not be made

    \b
    Examples:
      touchpoint verify
      touchpoint verify --consumer metrics-svc --json
      touchpoint verify --since 2h
      docker compose exec feedback-svc touchpoint verify
    """
    if since and since > datetime.now(UTC):
        raise UsageError(f"--since {since:%Y-%m-%dT%H:%M:%SZ} is in the future")
    reports = asyncio.run(_verify_all(database, consumer, since))
    if as_json:
        typer.echo(json.dumps([report.as_json() for report in reports], default=str))
    else:
        _print(reports)
    if any(report.findings for report in reports):
        raise typer.Exit(FOUND)


async def _verify_all(database: str, consumer: str, since: datetime | None) -> list[Report]:
    settings = kafka()
    reports = []
    async with _showing() as show:
        for dsn in dsns(database):
            for subject in await _subjects(dsn, consumer):
                try:
                    reports.append(await verify(subject, dsn, settings, since=since, show=show(subject.consumer)))
                except Exception as error:
                    if not blames_database(error):
                        raise
                    raise UsageError(f"{subject.consumer} could not be checked: {explain(error)}") from None
    if not reports:
        raise UsageError(f"no consumer {consumer or 'has read any event'} here: see `touchpoint consumer list`")
    return reports


async def _subjects(dsn: str, consumer: str) -> list[Subject]:
    """The consumers to check in a database: those that have read events. `consumer` names one, "" means all."""
    async with databases.connected(dsn) as connection:
        rows = await connection.fetch("SELECT DISTINCT consumer FROM offsets ORDER BY consumer")
    return [installed(row["consumer"]) for row in rows if consumer in ("", row["consumer"])]


class _Shown:
    """Shows the progress: a bar for each consumer on a terminal, else a line on stderr every LINE_SECONDS."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._latest = "starting"

    def __call__(self, consumer: str) -> Show:
        task = self._bars.add_task(consumer, total=None)

        def show(step: str, done: int, total: int) -> None:
            self._bars.update(task, description=f"{consumer}: {step}", completed=done, total=total or None)
            self._latest = f"{consumer}: {step}" + (f", {done:,} of {total:,} records" if total else "")

        return show

    async def print_lines(self) -> None:
        """Without a terminal, print the current step every LINE_SECONDS until cancelled: a step may take minutes."""
        begun = time.monotonic()
        while self._bars.disable:
            await asyncio.sleep(LINE_SECONDS)
            typer.echo(f"verify: {self._latest} ({time.monotonic() - begun:.0f} s)", err=True)


@asynccontextmanager
async def _showing() -> AsyncIterator[_Shown]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bars:
        shown = _Shown(bars)
        printing = asyncio.create_task(shown.print_lines())
        try:
            yield shown
        finally:
            printing.cancel()


def _print(reports: Sequence[Report]) -> None:
    console = Console(highlight=False)
    console.print(_table(reports))
    for report in reports:
        for note in report.notes:
            console.print(f"{report.consumer}: {note}")
        for finding in report.findings:
            _print_finding(console, report, finding)
    wrong = sum(finding.count for report in reports for finding in report.findings)
    good = "Every event that was read was applied exactly once and in order."
    console.print(f"\n{wrong:,} faults: see above." if wrong else good)


def _table(reports: Sequence[Report]) -> Table:
    """The table of results, a column for each consumer: records by outcome, rows compared, faults."""
    table = Table("", *(report.consumer for report in reports), box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    counts: dict[str, Callable[[Report], int]] = {
        "records read": lambda report: report.records,
        **{name: partial(_outcome, outcome=outcome) for outcome, name in OUTCOMES.items()},
        "not read yet": lambda report: report.pending,
        "rows compared": lambda report: sum(report.rows.values()),
        "published (with dead letters)": lambda report: report.published,
    }
    for name, count in counts.items():
        table.add_row(name, *(f"{count(report):,}" for report in reports))
    table.add_section()
    for fault in Fault:
        table.add_row(fault, *(f"{report.count(fault):,}" for report in reports))
    return table


def _outcome(report: Report, outcome: str) -> int:
    return report.outcomes[outcome]


def _print_finding(console: Console, report: Report, finding: Finding) -> None:
    consumer, extent = report.consumer, finding.extent
    scope = f", {_extent(extent)}" if extent else ""
    console.print(f"\n{consumer}: {finding.count:,} {finding.fault} in {finding.where}{scope}", soft_wrap=True)
    for example in finding.examples[:MOST_EXAMPLES]:
        console.print("  " + " ".join(f"{name}={value}" for name, value in example.items()), soft_wrap=True)
    if len(finding.examples) > MOST_EXAMPLES:
        console.print("  … `touchpoint verify --json` lists all", soft_wrap=True)
    advice = WHAT_TO_DO[finding.fault].format(consumer=consumer)
    if report.count(Fault.GONE) and "rebuild" in advice:
        advice = LAST_COPY
    if extent and finding.fault is Fault.MISSING:
        advice = f"replay these events, which applies only missing ones: {_plan(consumer, extent)}"
    console.print(f"  → {advice}", soft_wrap=True)


def _extent(extent: Extent) -> str:
    """The customers of the faulty events, and when Kafka received the first and the last of these."""
    some = ", ".join(" / ".join(customer) for customer in sorted(extent.customers)[:MOST_EXAMPLES])
    count = len(extent.customers)
    owners = (
        f"of {some}" if count <= MOST_EXAMPLES else f"of {count:,} customers{' or more' * (count == MOST_CUSTOMERS)}"
    )
    if extent.first is None or extent.last is None:
        return owners
    return f"{owners}, received {extent.first:%Y-%m-%dT%H:%M:%SZ} to {extent.last:%Y-%m-%dT%H:%M:%SZ}"


def _plan(consumer: str, extent: Extent) -> str:
    """The command that plans a replay of exactly these events."""
    ends = [
        f"--from {topic}/{partition}/{begin} --to {topic}/{partition}/{end}"
        for (topic, partition), (begin, end) in sorted(extent.spans.items())
    ]
    return f"touchpoint replay plan --consumer {consumer} {' '.join(ends)}"
