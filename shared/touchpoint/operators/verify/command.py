"""`touchpoint verify`: whether every event of the log has its effects, once and in order."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from importlib.metadata import entry_points
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
from touchpoint.verify.subject import Subject

SUBJECTS_GROUP = "touchpoint.verify"
FOUND = 1
"""Exit code: something is not as it should be. 2 is a check that could not be made."""

LINE_SECONDS = 10
"""Between two lines about the progress where there is no terminal."""

OUTCOMES = {
    "applied": "applied",
    "ignored": "ignored (no type of this consumer's)",
    "duplicate": "sent again, applied once",
    "conflict": "sent again with other data, not applied",
    "open": "dead letters, open",
    "redriven": "dead letters, redriven and applied",
    "discarded": "dead letters, discarded",
    "erased": "left out: customer to be forgotten",
    "sent again": "lost by Kafka, sent again",
}

_REBUILD = 'touchpoint replay rebuild --consumer {consumer} --reason "…"'
WHAT_TO_DO = {
    Fault.MISSING: f"make the tables anew: {_REBUILD}",
    Fault.TWICE: f"report it, this must never happen; then {_REBUILD}",
    Fault.CHANGED: f"where rows follow from the log alone, make them anew: {_REBUILD}",
    Fault.GONE: "these tables are their last copy: have them sent again under the same ids (docs/runbooks/log-lost.md)",
    Fault.UNEXPLAINED: f"look who wrote it; a rebuild leaves it out: {_REBUILD}",
    Fault.OUT_OF_ORDER: f"later events were judged without this one: {_REBUILD}",
    Fault.REFUSED: "an older version took it: see the changes of {consumer}'s handlers",
    Fault.UNPUBLISHED: "report it, this must never happen: nothing sends it again",
}
"""A rebuild is for consumers whose rows follow from the log alone; of the others the command says so."""
LAST_COPY = (
    "first have the events that are gone from Kafka sent again: these rows may be theirs, and a rebuild deletes them"
)
"""What to do in the place of a rebuild."""


def verify_command(
    *,
    since: Since = None,
    consumer: Annotated[str, typer.Option(help="Only this one, as `touchpoint consumer list` shows it.")] = "",
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Check that every event of the log has its effects once, in order, and that every sum equals a recount.

    Reads the topics and the services' databases as they are at one moment, so it may run while events flow; changes
    nothing. The service's own handlers make its tables anew in temporary ones; what differs is shown, with examples
    and what to do. Exit code: 0 all is well, 1 something is not, 2 it could not be checked.

    \b
    Examples:
      touchpoint verify
      touchpoint verify --consumer metrics-svc --json
      touchpoint verify --since 2h
      docker compose exec feedback-svc touchpoint verify
    """
    if since and since > datetime.now(UTC):
        raise UsageError(f"nothing was read since {since:%Y-%m-%dT%H:%M:%SZ}: that lies ahead")
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
        raise UsageError(f"no consumer {consumer or 'has read anything'} here: see `touchpoint consumer list`")
    return reports


async def _subjects(dsn: str, consumer: str) -> list[Subject]:
    """What can be checked in a database: the consumers that have read something."""
    async with databases.connected(dsn) as connection:
        rows = await connection.fetch("SELECT DISTINCT consumer FROM offsets ORDER BY consumer")
    return [_subject(row["consumer"]) for row in rows if consumer in ("", row["consumer"])]


def _subject(consumer: str) -> Subject:
    for found in entry_points(group=SUBJECTS_GROUP, name=consumer):
        subject: Subject = found.load()()
        return subject
    raise UsageError(f"{consumer} is not installed here: run `touchpoint verify` where it is, in its own container")


class _Shown:
    """How far it is: a bar for each consumer on a terminal, elsewhere a line on stderr now and then."""

    def __init__(self, bars: Progress) -> None:
        self._bars = bars
        self._latest = "begins"

    def __call__(self, consumer: str) -> Show:
        task = self._bars.add_task(consumer, total=None)

        def show(step: str, done: int, total: int) -> None:
            self._bars.update(task, description=f"{consumer}: {step}", completed=done, total=total or None)
            self._latest = f"{consumer}: {step}" + (f", {done:,} of {total:,} records" if total else "")

        return show

    async def keep_saying(self) -> None:
        """Without a terminal, say every ten seconds what it is at: a comparison may take minutes. Until cancelled."""
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
        saying = asyncio.create_task(shown.keep_saying())
        try:
            yield shown
        finally:
            saying.cancel()


def _print(reports: Sequence[Report]) -> None:
    console = Console(highlight=False)
    console.print(_table(reports))
    for report in reports:
        for note in report.notes:
            console.print(f"{report.consumer}: {note}")
        for finding in report.findings:
            _print_finding(console, report, finding)
    wrong = sum(finding.count for report in reports for finding in report.findings)
    said = "Every event that was read has its effects, once and in order."
    console.print(f"\n{wrong:,} things are wrong: see above." if wrong else said)


def _table(reports: Sequence[Report]) -> Table:
    """A column for each consumer: what became of the records, what was compared, and what is wrong."""
    table = Table("", *(report.consumer for report in reports), box=None)
    for column in table.columns[1:]:
        column.justify = "right"
    counts: dict[str, Callable[[Report], int]] = {
        "records read": lambda report: report.records,
        **{name: partial(_outcome, outcome=outcome) for outcome, name in OUTCOMES.items()},
        "not read yet": lambda report: report.pending,
        "rows compared": lambda report: sum(report.rows.values()),
        "published, dead letters too": lambda report: report.published,
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
    whose = f", {_extent(extent)}" if extent else ""
    console.print(f"\n{consumer}: {finding.count:,} {finding.fault} in {finding.where}{whose}", soft_wrap=True)
    for example in finding.examples[:MOST_EXAMPLES]:
        console.print("  " + " ".join(f"{name}={value}" for name, value in example.items()), soft_wrap=True)
    if len(finding.examples) > MOST_EXAMPLES:
        console.print("  … `touchpoint verify --json` names all", soft_wrap=True)
    advice = WHAT_TO_DO[finding.fault].format(consumer=consumer)
    if report.count(Fault.GONE) and "rebuild" in advice:
        advice = LAST_COPY
    if extent and finding.fault is Fault.MISSING:
        advice = f"read them again, it fills gaps only: {_plan(consumer, extent)}"
    console.print(f"  → {advice}", soft_wrap=True)


def _extent(extent: Extent) -> str:
    """Whose they are, and from when."""
    some = ", ".join(" / ".join(customer) for customer in sorted(extent.customers)[:MOST_EXAMPLES])
    count = len(extent.customers)
    whose = (
        f"of {some}" if count <= MOST_EXAMPLES else f"of {count:,} customers{' or more' * (count == MOST_CUSTOMERS)}"
    )
    if extent.first is None or extent.last is None:
        return whose
    return f"{whose}, taken in {extent.first:%Y-%m-%dT%H:%M:%SZ} to {extent.last:%Y-%m-%dT%H:%M:%SZ}"


def _plan(consumer: str, extent: Extent) -> str:
    """The command that plans a replay of just these."""
    ends = [
        f"--from {topic}/{partition}/{begin} --to {topic}/{partition}/{end}"
        for (topic, partition), (begin, end) in sorted(extent.spans.items())
    ]
    return f"touchpoint replay plan --consumer {consumer} {' '.join(ends)}"
