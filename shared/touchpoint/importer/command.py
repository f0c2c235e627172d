"""`touchpoint import`: options, progress bar, summary and exit codes."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from touchpoint.base.errors import TransientError, UsageError
from touchpoint.importer import mapping as mappings
from touchpoint.importer.checkpoint import Checkpoint
from touchpoint.importer.gateway import Gateway, StoppedError, connect
from touchpoint.importer.interrupt import interruptible
from touchpoint.importer.records import Records
from touchpoint.importer.run import run, translated
from touchpoint.importer.translate import RecordError, Translator

FIRST_EVENTS = 10
"""Number of events that a dry run prints."""

REFUSED, UNAVAILABLE, INTERRUPTED = 1, 3, 130
"""Exit codes: some records were refused; the gateway was unavailable for too long; Ctrl-C. 2 is a usage error."""

Summary = dict[str, Any]


def import_file(
    file: Annotated[Path, typer.Argument(help="CSV, JSON or JSON Lines file, also gzipped.")],
    mapping: Annotated[
        Path, typer.Option("--mapping", "-m", help="YAML file that maps records to events: docs/import.md.")
    ],
    *,
    gateway: Annotated[
        str, typer.Option(envvar="TOUCHPOINT_GATEWAY", help="URL of the gateway.")
    ] = "http://127.0.0.1:8080",
    key: Annotated[str, typer.Option(envvar="TOUCHPOINT_API_KEY", help="API key with the scope events:write.")] = "",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Send nothing: print the first 10 events and all refused records.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")] = False,
) -> None:
    """Import historic records from a file as events, through the gateway.

    The events count in all numbers, but open no escalation and send no alert. The ids are derived from the records, so
    that importing a file twice changes nothing. If the command is killed, run it again: it resumes after the last
    acknowledged batch. Refused records are written to FILE.rejects.jsonl with line and reason.

    \b
    Exit codes:
      0    all records were imported
      1    some records were refused
      2    usage error
      3    the gateway was unavailable for too long; run the same command again
      130  Ctrl-C; run the same command again

    \b
    Examples:
      touchpoint import survey.csv --mapping examples/import/nps-survey.yaml --dry-run
      touchpoint import conversations.json.gz --mapping examples/import/customer-care.yaml
    """
    begun = time.monotonic()
    loaded = mappings.load(mapping)
    translator = Translator(loaded, datetime.now(UTC))
    with Records(file, loaded) as records:
        if dry_run:
            summary = _try(records, translator, as_json)
        else:
            summary = _send(records, translator, gateway, key, Checkpoint(file, mapping, gateway))
    summary = {"file": str(file), "dry_run": dry_run} | summary | {"seconds": round(time.monotonic() - begun, 1)}
    typer.echo(json.dumps(summary) if as_json else _sentence(summary))
    if summary["refused"]:
        raise typer.Exit(REFUSED)


def _send(records: Records, translator: Translator, gateway: str, key: str, checkpoint: Checkpoint) -> Summary:
    if not key:
        raise UsageError("an API key is needed: --key or TOUCHPOINT_API_KEY (make one: touchpoint keys create)")
    before = checkpoint.progress
    stop = Event()
    with (
        connect(gateway, key) as client,
        checkpoint,
        interruptible(stop),
        _bar(records, lambda: checkpoint.progress.accepted - before.accepted) as show,
    ):
        try:
            run(records, translator, Gateway(client, stop.wait), checkpoint, stop=stop, show=show)
        except StoppedError:
            typer.echo(
                f"Stopped after {checkpoint.progress.records} records; the same command resumes there.", err=True
            )
            raise typer.Exit(INTERRUPTED) from None
        except TransientError as error:
            typer.echo(f"touchpoint: {error}; later, the same command resumes there", err=True)
            raise typer.Exit(UNAVAILABLE) from None
    done = checkpoint.progress
    return {
        "records": done.records,
        "resumed_after": before.records,
        "events": done.accepted,
        "refused": done.refused,
        "rejects": str(checkpoint.rejects) if done.refused else None,
    }


def _try(records: Records, translator: Translator, as_json: bool) -> Summary:
    """The dry run: translate all records and send nothing."""
    counted = events = refused = 0
    first: list[Any] = []
    with _bar(records, lambda: events) as show:
        for counted, record in enumerate(records, start=1):
            try:
                made = translated(record, translator)
            except RecordError as error:
                refused += 1
                typer.echo(f"line {record.line} refused: {error}", err=True)
                continue
            for event in made[: max(0, FIRST_EVENTS - events)]:
                first.append(json.loads(event))
                if not as_json:
                    typer.echo(f"line {record.line}: {event.decode()}")
            events += len(made)
            if not counted % 1000:
                show()
    shown = {"first_events": first} if as_json else {}
    return {"records": counted, "events": events, "refused": refused} | shown


def _sentence(summary: Summary) -> str:
    rate = f", {summary['events'] / summary['seconds']:,.0f}/s" if summary["seconds"] else ""
    resumed = f" (the first {summary['resumed_after']:,} by an earlier run)" if summary.get("resumed_after") else ""
    refused = f"; {summary['refused']:,} refused" if summary["refused"] else ""
    where = f", see {summary['rejects']}" if summary.get("rejects") else ""
    verb = "Would import" if summary["dry_run"] else "Imported"
    records, events = _counted(summary["records"], "record"), _counted(summary["events"], "event")
    return f"{verb} {records}{resumed} as {events}{refused}{where}. {summary['seconds']} s{rate}."


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@contextmanager
def _bar(records: Records, events: Callable[[], int]) -> Iterator[Callable[[], None]]:
    """A progress bar by bytes read with the rate of events, on a terminal only. Yields a function that updates it."""
    columns = (
        TextColumn(records.path.name, markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]:,} events, {task.fields[rate]:,.0f}/s, left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        task = progress.add_task("", total=records.size, events=0, rate=0.0)
        begun = time.monotonic()

        def show() -> None:
            rate = events() / max(time.monotonic() - begun, 0.001)
            progress.update(task, completed=records.position, events=events(), rate=rate)

        yield show
        show()
