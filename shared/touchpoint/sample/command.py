"""`touchpoint sample`: options, progress bar, summary and exit codes."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from touchpoint.base import times
from touchpoint.base.errors import TransientError, UsageError
from touchpoint.importer.gateway import Gateway, StoppedError, connect
from touchpoint.importer.interrupt import interruptible
from touchpoint.sample import output, world
from touchpoint.sample.dates import DAY
from touchpoint.sample.schedule import Frame, encode
from touchpoint.sample.truths import Truths

UNTIL = "2025-12-30T00:00:00Z"
"""The default end, so that the output does not depend on the clock: 365 days earlier the week 1 of 2025 begins."""

REFUSED, UNAVAILABLE, INTERRUPTED = 1, 3, 130
"""Exit codes, as of `touchpoint import`."""


def sample(
    *,
    customers: Annotated[
        int, typer.Option(min=5, max=1_000_000, help="Customers at the end; a year of 2,000 has 169,000 events.")
    ] = 2000,
    days: Annotated[int, typer.Option(min=1, max=3650, help="Days from the first event to the last.")] = 365,
    seed: Annotated[int, typer.Option(min=0, help="Another seed is another world.")] = 7,
    until: Annotated[str, typer.Option(metavar="MOMENT", help="The end, excluded: RFC 3339, a date, or now.")] = UNTIL,
    live: Annotated[
        int, typer.Option(metavar="DAYS", min=0, help="Do not mark the events of the last DAYS as history.")
    ] = 0,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write to this file, not to standard output.")
    ] = None,
    to: Annotated[
        str, typer.Option(metavar="URL", help="Send through the gateway at this URL instead of writing.")
    ] = "",
    key: Annotated[str, typer.Option(envvar="TOUCHPOINT_API_KEY", help="API key with the scope events:write.")] = "",
    truths: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write what was planted, and the numbers that show it, as JSON.")
    ] = None,
) -> None:
    """Make the events of a company's year, to try queries, dashboards and loads on: docs/sample.md.

    The company sells card readers and software. Its customers order, get parcels, open tickets in six languages,
    answer surveys, use the product, extend their subscriptions or leave. Some truths are planted: late deliveries cost
    scores, a release breaks exports in week 30, a team answers slowly, and the NPS falls by a change of mix alone.

    The same arguments make the same bytes. The events are CloudEvents in JSON, a line each, oldest first, marked as
    backfill: they count in all numbers, but open no case and page nobody. Ids are derived from the arguments, so that
    sending a world again changes nothing. Send each world to a tenant of its own: customers have the same ids in all.

    \b
    Exit codes:
      0    all events were written or accepted
      1    the gateway refused some events
      2    usage error
      3    the gateway was unavailable for too long; run the same command again
      130  Ctrl-C; run the same command again

    \b
    Examples:
      touchpoint sample --customers 5 --days 30 | head -3 | python -m json.tool --json-lines
      touchpoint sample --out year.jsonl --truths truths.json
      touchpoint sample --customers 12000 --out million.jsonl
      TOUCHPOINT_API_KEY=… touchpoint sample --customers 200 --to http://127.0.0.1:8080
      touchpoint sample --until now --days 90 --live 1 --to http://127.0.0.1:8080
    """
    begun = time.monotonic()
    if out and to:
        raise UsageError("--out writes to a file and --to sends: give one of them")
    end = _moment(until)
    making = _Making(Frame(customers, days, seed, (end - days * DAY) // DAY * DAY), end, end - live * DAY, bool(truths))
    if to:
        count, refused = _send(making, to, key)
    else:
        count, refused = _write(making, out), 0
    if truths and making.truths:
        _save(truths, json.dumps(making.truths.describe(), indent=2) + "\n")
    seconds = max(time.monotonic() - begun, 0.001)
    verb = "Sent" if to else "Wrote"
    complaint = f"; {refused:,} refused" if refused else ""
    typer.echo(f"{verb} {count:,} events{complaint}. {seconds:.1f} s, {count / seconds:,.0f}/s.", err=True)
    if refused:
        raise typer.Exit(REFUSED)


@dataclass
class _Making:
    """A world being made: its events as lines, counted on the way, and how far it is."""

    frame: Frame
    until: int
    live_from: int
    describe: bool
    now: int = 0
    truths: Truths | None = None

    def lines(self) -> Iterator[bytes]:
        """The events, encoded."""
        live_from = self.live_from
        if self.describe:
            self.truths = Truths(self.frame, self.until)
        count = self.truths.count if self.truths else None
        for event in world.events(self.frame, self.until):
            if count:
                count(event)
            self.now = event.time
            yield encode(event, backfill=event.time < live_from)


def _moment(text: str) -> int:
    """A moment in seconds since 1970."""
    if text == "now":
        return int(time.time())
    try:
        return int(times.read(text if "T" in text else f"{text}T00:00:00Z").timestamp())
    except ValueError as error:
        raise UsageError(f"--until {error}; or a date such as 2026-11-22; or now") from None


def _write(making: _Making, out: Path | None) -> int:
    try:
        if out is None:
            with _bar(making, shown=not sys.stdout.isatty()) as show:
                written = output.write(making.lines(), sys.stdout.buffer, show)
                sys.stdout.flush()
                return written
        with out.open("wb") as file, _bar(making) as show:
            return output.write(making.lines(), file, show)
    except BrokenPipeError:  # such as by `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit from None
    except OSError as error:
        raise UsageError(f"cannot write to {out or 'standard output'}: {error.strerror}") from None


def _send(making: _Making, url: str, key: str) -> tuple[int, int]:
    """Returns the numbers of events accepted and refused."""
    if not key:
        raise UsageError("an API key is needed: TOUCHPOINT_API_KEY (make one: touchpoint keys create)")
    stop = Event()
    with connect(url, key, "--to or TOUCHPOINT_API_KEY") as client, interruptible(stop), _bar(making) as show:
        try:
            accepted, refused = output.send(making.lines(), Gateway(client, stop.wait), stop, show)
        except StoppedError:
            typer.echo(
                "Stopped. What was sent stays; the same command sends all again, which changes nothing.", err=True
            )
            raise typer.Exit(INTERRUPTED) from None
        except TransientError as error:
            typer.echo(f"touchpoint: {error}; later, the same command sends all again", err=True)
            raise typer.Exit(UNAVAILABLE) from None
    for refusal in refused[:10]:
        typer.echo(f"event {refusal.index + 1} refused: {refusal.reason}", err=True)
    return accepted, len(refused)


def _save(path: Path, content: str) -> None:
    try:
        path.write_text(content, "utf-8")
    except OSError as error:
        raise UsageError(f"cannot write to {path}: {error.strerror}") from None


@contextmanager
def _bar(making: _Making, *, shown: bool = True) -> Iterator[Callable[[int], None]]:
    """A progress bar by the time of the world, with the rate of events, on a terminal only."""
    columns = (
        TextColumn("sample"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[events]:,} events, {task.fields[rate]:,.0f}/s, left"),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not (shown and console.is_terminal)) as progress:
        start = making.frame.start
        task = progress.add_task("", total=making.until - start, events=0, rate=0.0)
        begun = time.monotonic()

        def show(events: int) -> None:
            rate = events / max(time.monotonic() - begun, 0.001)
            progress.update(task, completed=making.now - start, events=events, rate=rate)

        yield show
