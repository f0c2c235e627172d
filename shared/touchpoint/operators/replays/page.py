"""Prints replays, plans and the audit trail on a terminal."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from touchpoint.base.lines import wrapped
from touchpoint.db.replays import OUTCOMES, Replay, last_copies


def short(replay: Replay) -> str:
    """The first 8 characters of the id, which the commands accept."""
    return str(replay.id)[:8]


def plan(replay: Replay) -> None:
    """Print what a planned replay would do."""
    summary = replay.summary
    head = f"Plan {short(replay)} of {replay.consumer}: {_window(replay.filter)}, {replay.length} records to read"
    typer.echo(wrapped(head, hanging="  "))
    names = ("matching", "applied", "missing", "dead_letters", "erased")
    table = Table("type", *(name.replace("_", " ") for name in names), box=None)
    for kind, counts in summary["types"].items():
        table.add_row(kind, *(str(counts[name]) for name in names))
    if summary["types"]:
        Console().print(table)
    if not summary["matching"]:
        why = "No event of the window matches. Check the spelling of tenant, customer and type, and the times."
        typer.echo(wrapped(why))
        return
    open_events = summary["missing"] + summary["dead_letters"]
    if open_events:
        would = (
            f"{summary['missing']} missing events would be applied and {summary['dead_letters']} open dead letters "
            "tried again. Events that follow from them are published, as they would have been at the time."
        )
        typer.echo(wrapped(would))
    skipped = f"Skipped: {summary['applied']} events that were applied before, {summary['erased']} of erased customers."
    typer.echo(wrapped(skipped))
    if summary["discarded"]:
        typer.echo(f"Skipped: {summary['discarded']} discarded dead letters.")
    if summary["behind"]:
        typer.echo(f"Left to the live consumer: {summary['behind']} records that it has not read yet.")
    if not open_events:
        typer.echo("Nothing is missing here: there is nothing to run.")
        return
    typer.echo(f"It would take about {summary['estimated_seconds']:.0f} s. To start it:")
    typer.echo(f'  touchpoint replay run {short(replay)} --reason "…"')


def status(replay: Replay) -> None:
    """Print a replay's state, progress and counts, and what can be done next."""
    typer.echo(wrapped(f"{replay.kind} {short(replay)} of {replay.consumer}: {_stands(replay)}", hanging="  "))
    typer.echo(f"  {_counted(replay.counts)}")
    if replay.started_at:
        speed = replay.records_per_second
        left = f", {(replay.length - replay.passed) / speed:.0f} s left" if replay.state == "running" and speed else ""
        typer.echo(f"  since {_time(replay.started_at)}, {speed:,.0f} records/s{left}")
    if replay.error:
        typer.echo(wrapped(f"stopped: {replay.error}", "  "))
    if replay.state in ("paused", "failed"):
        typer.echo(f'  to resume: touchpoint replay resume {short(replay)} --reason "…"')
    if replay.state == "failed":
        typer.echo("  (--max-errors N allows more failed events)")
    if replay.kind == "rebuild":
        _rebuild(replay)
    if replay.failed and (replay.kind != "rebuild" or replay.state == "done"):
        typer.echo("  the failed events are open dead letters:")
        typer.echo(f"  touchpoint dlq stats --consumer {replay.consumer}")


def _stands(replay: Replay) -> str:
    """State and progress in words. A replay that is done with failed events is not shown as done: it exits with 1."""
    if replay.state == "done" and replay.failed:
        return f"ended, but {replay.failed:,} of {replay.matched:,} events FAILED"
    share = f"{100 * replay.passed / replay.length:.0f} %" if replay.length else "nothing to read"
    return f"{replay.state}, {share}"


def _rebuild(replay: Replay) -> None:
    """Print how a rebuild's tables differ from the live ones, and what can be done next."""
    if compared := replay.summary.get("compared"):
        _compared(compared)
    if why := last_copies(replay):
        typer.echo(wrapped(why, "  "))
    elif replay.state == "built":
        typer.echo("  the live tables are unchanged. To replace them by the new ones:")
        typer.echo(f'  touchpoint replay swap {short(replay)} --reason "…"')
    if replay.state in ("built", "failed"):
        typer.echo(f'  to drop the new tables: touchpoint replay abort {short(replay)} --reason "…"')
    if held := replay.summary.get("held_seconds"):
        typer.echo(f"  swapped: writers waited {held['writers']:.2f} s, readers {held['readers']:.2f} s")


def _compared(compared: Mapping[str, Any]) -> None:
    rows = ", ".join(f"{count:,} of {name}" for name, count in compared["rows"].items())
    differing = sum(finding["count"] for finding in compared["findings"])
    typer.echo(f"  compared in one snapshot: {rows}; {f'{differing:,} differ' if differing else 'nothing differs'}")
    for finding in compared["findings"]:
        typer.echo(f"  {finding['count']:,} {finding['fault']} in {finding['where']}")
        for example in finding["examples"]:
            columns = sorted(example.items(), key=lambda each: each[0] in ("expected", "stored"))
            typer.echo("    " + " ".join(f"{name}={value}" for name, value in columns))
    if compared["dead_letters_left_out"]:
        typer.echo(f"  {compared['dead_letters_left_out']} dead letters were left out; their state is unchanged")


def table(replays: Sequence[Replay]) -> None:
    """Print each replay: kind, state, counts, who planned it and why."""
    for replay in replays:
        typer.echo(wrapped(f"{short(replay)}  {replay.kind} of {replay.consumer}: {_stands(replay)}", hanging="  "))
        if replay.kind == "repair":
            typer.echo(wrapped(f"{_filter(replay.filter)}; {replay.summary['missing']} missing", "  "))
        if replay.started_at:
            typer.echo(f"  {_counted(replay.counts)}")
        why = f": {replay.reason}" if replay.reason else ""
        typer.echo(wrapped(f"planned {_time(replay.planned_at)} by {replay.planned_by}{why}", "  "))


def trail(lines: Sequence[dict[str, Any]]) -> None:
    """Print the audit trail: each action with its result and reason."""
    if not lines:
        typer.echo("No action of an operator yet.")
    for line in lines:
        plan_id = f" {str(line['plan_id'])[:8]}" if line["plan_id"] else ""
        typer.echo(f"{_time(line['at'])}  {line['subject']}  {line['action']}{plan_id}, by {line['who']}")
        if line["matched"]:
            typer.echo(f"  {_counted(line)}")
        if lost := [
            f"{x['topic']}/{x['partition']}/{x['first']}-{x['until'] - 1}" for x in line["details"].get("lost", ())
        ]:
            typer.echo(wrapped(f"accepted the loss of {', '.join(lost)}", "  "))
        if line["reason"]:
            typer.echo(wrapped(line["reason"], "  "))


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left, on a terminal only. Yields a function that updates it: (done, total)."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:,.0f}/s"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task, before = progress.add_task("", total=None, rate=0.0), None

        def show(done: int, total: int) -> None:
            nonlocal before
            before = done if before is None else before  # records passed before the first call do not count as speed
            elapsed = progress.tasks[0].elapsed or 0
            progress.update(task, completed=done, total=total, rate=(done - before) / elapsed if elapsed else 0)

        yield show


def _counted(counts: Mapping[str, int]) -> str:
    first, *others = (f"{counts[name]} {name.replace('_', ' ')}" for name in OUTCOMES)
    return f"{first} = {' + '.join(others)}"


def _filter(chosen: Mapping[str, Any]) -> str:
    """A replay's tenant, customer, types and window."""
    owner = " / ".join(chosen[name] for name in ("tenant", "customer") if name in chosen) or "all customers"
    kinds = f", {', '.join(chosen['types'])}" if "types" in chosen else ""
    return f"{owner}{kinds}, {_window(chosen)}"


def _window(chosen: Mapping[str, Any]) -> str:
    since, until = chosen.get("from", []), chosen.get("to", [])
    return f"from {', '.join(since)} to {', '.join(until) or 'the position of the consumer'}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
