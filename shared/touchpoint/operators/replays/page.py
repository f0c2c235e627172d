"""What the commands on replays print."""

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
    """As much of the id as people need."""
    return str(replay.id)[:8]


def plan(replay: Replay) -> None:
    """What a plan would do."""
    found = replay.summary
    head = f"Plan {short(replay)} of {replay.consumer}: {_window(replay.filter)}, {replay.length} records to read"
    typer.echo(wrapped(head, hanging="  "))
    names = ("matching", "applied", "missing", "dead_letters", "erased")
    table = Table("type", *(name.replace("_", " ") for name in names), box=None)
    for kind, counts in found["types"].items():
        table.add_row(kind, *(str(counts[name]) for name in names))
    if found["types"]:
        Console().print(table)
    if not found["matching"]:
        why = "No event of the window matches. Check the spelling of tenant, customer and type, and the times."
        typer.echo(wrapped(why))
        return
    fresh = found["missing"] + found["dead_letters"]
    if fresh:
        would = (
            f"{found['missing']} missing events would be applied and {found['dead_letters']} open dead letters tried "
            "again; what they cause is published, as it would have been then."
        )
        typer.echo(wrapped(would))
    stay = f"{found['applied']} were applied before and stay as they are. {found['erased']} are of erased customers:"
    typer.echo(wrapped(f"{stay} left out."))
    if found["discarded"]:
        typer.echo(f"{found['discarded']} discarded dead letters stay out.")
    if found["behind"]:
        typer.echo(f"{found['behind']} records are ahead of the live consumer, which will apply them itself.")
    if not fresh:
        typer.echo("Nothing is missing here: there is nothing to run.")
        return
    typer.echo(f"It would take about {found['estimated_seconds']:.0f} s. To start it:")
    typer.echo(f'  touchpoint replay run {short(replay)} --reason "…"')


def status(replay: Replay) -> None:
    """How a replay stands."""
    typer.echo(wrapped(f"{replay.kind} {short(replay)} of {replay.consumer}: {_stands(replay)}", hanging="  "))
    typer.echo(f"  {_counted(replay.counts)}")
    if replay.started_at:
        speed = replay.records_per_second
        left = f", {(replay.length - replay.passed) / speed:.0f} s left" if replay.state == "running" and speed else ""
        typer.echo(f"  since {_time(replay.started_at)}, {speed:,.0f} records/s{left}")
    if replay.error:
        typer.echo(wrapped(f"it stopped: {replay.error}", "  "))
    if replay.state in ("paused", "failed"):
        typer.echo(f'  to go on: touchpoint replay resume {short(replay)} --reason "…"')
    if replay.state == "failed":
        typer.echo("  (with --max-errors N it passes more events that fail)")
    if replay.kind == "rebuild":
        _rebuild(replay)
    if replay.failed and (replay.kind != "rebuild" or replay.state == "done"):
        typer.echo("  the failed ones are open dead letters:")
        typer.echo(f"  touchpoint dlq stats --consumer {replay.consumer}")


def _stands(replay: Replay) -> str:
    """Its state and how far it is. One that ended with failures is no success: its exit code is 1."""
    if replay.state == "done" and replay.failed:
        return f"ended, but {replay.failed:,} of {replay.matched:,} events FAILED"
    share = f"{100 * replay.passed / replay.length:.0f} %" if replay.length else "nothing to read"
    return f"{replay.state}, {share}"


def _rebuild(replay: Replay) -> None:
    """What a rebuild has found, and what can be done now."""
    if compared := replay.summary.get("compared"):
        _compared(compared)
    if why := last_copies(replay):
        typer.echo(wrapped(why, "  "))
    elif replay.state == "built":
        typer.echo("  nothing live was changed. To put the new tables in place:")
        typer.echo(f'  touchpoint replay swap {short(replay)} --reason "…"')
    if replay.state in ("built", "failed"):
        typer.echo(f'  to throw it away: touchpoint replay abort {short(replay)} --reason "…"')
    if held := replay.summary.get("held_seconds"):
        typer.echo(f"  swapped: writers were held for {held['writers']:.2f} s, readers for {held['readers']:.2f} s")


def _compared(compared: Mapping[str, Any]) -> None:
    rows = ", ".join(f"{count:,} of {name}" for name, count in compared["rows"].items())
    differing = sum(finding["count"] for finding in compared["findings"])
    typer.echo(f"  compared at one moment: {rows}; {f'{differing:,} differ' if differing else 'nothing differs'}")
    for finding in compared["findings"]:
        typer.echo(f"  {finding['count']:,} {finding['fault']} in {finding['where']}")
        for example in finding["examples"]:
            said = sorted(example.items(), key=lambda each: each[0] in ("expected", "stored"))
            typer.echo("    " + " ".join(f"{name}={value}" for name, value in said))
    if compared["dead_letters_left_out"]:
        typer.echo(f"  {compared['dead_letters_left_out']} dead letters were left out, and stay what they are")


def table(found: Sequence[Replay]) -> None:
    """What each is, what came of it, who planned it and why."""
    for one in found:
        typer.echo(wrapped(f"{short(one)}  {one.kind} of {one.consumer}: {_stands(one)}", hanging="  "))
        if one.kind == "repair":
            typer.echo(wrapped(f"{_meant(one.filter)}; {one.summary['missing']} missing", "  "))
        if one.started_at:
            typer.echo(f"  {_counted(one.counts)}")
        why = f": {one.reason}" if one.reason else ""
        typer.echo(wrapped(f"planned {_time(one.planned_at)} by {one.planned_by}{why}", "  "))


def trail(found: Sequence[dict[str, Any]]) -> None:
    """A line for each thing done, and one for what came of it."""
    if not found:
        typer.echo("Nothing yet.")
    for one in found:
        plan_id = f" {str(one['plan_id'])[:8]}" if one["plan_id"] else ""
        typer.echo(f"{_time(one['at'])}  {one['subject']}  {one['action']}{plan_id}, by {one['who']}")
        if one["matched"]:
            typer.echo(f"  {_counted(one)}")
        if lost := [
            f"{x['topic']}/{x['partition']}/{x['first']}-{x['until'] - 1}" for x in one["details"].get("lost", ())
        ]:
            typer.echo(wrapped(f"accepted the loss of {', '.join(lost)}", "  "))
        if one["reason"]:
            typer.echo(wrapped(one["reason"], "  "))


@contextmanager
def bar(what: str) -> Iterator[Callable[[int, int], None]]:
    """A progress bar with the time left, on a terminal only; gives what moves it: done, total."""
    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("{task.fields[rate]:,.0f}/s"),
               TimeRemainingColumn())  # fmt: skip
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task, before = progress.add_task("", total=None, rate=0.0), None

        def show(done: int, total: int) -> None:
            nonlocal before
            before = done if before is None else before  # what it had passed before we looked is no speed
            elapsed = progress.tasks[0].elapsed or 0
            progress.update(task, completed=done, total=total, rate=(done - before) / elapsed if elapsed else 0)

        yield show


def _counted(counts: Mapping[str, int]) -> str:
    first, *others = (f"{counts[name]} {name.replace('_', ' ')}" for name in OUTCOMES)
    return f"{first} = {' + '.join(others)}"


def _meant(asked: Mapping[str, Any]) -> str:
    """Whose events, and which window."""
    whose = " / ".join(asked[name] for name in ("tenant", "customer") if name in asked) or "everybody's"
    kinds = f", {', '.join(asked['types'])}" if "types" in asked else ""
    return f"{whose}{kinds}, {_window(asked)}"


def _window(asked: Mapping[str, Any]) -> str:
    since, until = asked.get("from", []), asked.get("to", [])
    return f"from {', '.join(since)} to {', '.join(until) or 'where its consumer stands'}"


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"
