"""`touchpoint replay`: plan, run, watch, pause, resume and abort repairs and rebuilds."""

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base.errors import UsageError
from touchpoint.db import audit, offsets, replays
from touchpoint.db.engine import create_engine, raw_connection, sessions
from touchpoint.db.replays import MAX_ERRORS, Action, Replay
from touchpoint.kafka import fold
from touchpoint.operators import reach
from touchpoint.operators.reach import Database, Json, in_each, operator
from touchpoint.operators.replays import page
from touchpoint.replay.plan import plan_repair
from touchpoint.replay.plan import rebuild as rebuild_all
from touchpoint.replay.selection import Bound, Selection, Window
from touchpoint.verify.subject import Subject, installed

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Replays: repair or rebuild a service's data from the log in Kafka.\n\n"
    "A repair reads a window of the log again and applies the events that are missing: `plan`, then `run`. Events that "
    "were applied before are skipped. The live consumer continues meanwhile.\n\n"
    "A rebuild corrects rows that are wrong: it builds all tables of a service again from the whole log: `rebuild`, "
    "then `swap`.",
)

UNFINISHED = 1
"""Exit code of `run` and `status --follow` when the replay did not complete or events failed in it."""
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 10
"""Seconds without progress after which the command prints a hint that perhaps no worker runs."""

PlanId = Annotated[str, typer.Argument(metavar="PLAN", help="Id of the replay, or a unique beginning of it.")]
Reason = Annotated[str, typer.Option(help="Why you do this; stored with the replay and in the audit trail.")]
Rate = Annotated[int | None, typer.Option(min=1, help="Maximum events per second. Default: no limit.")]
MaxErrors = Annotated[
    int, typer.Option(min=0, help="Number of failed events allowed; at the next one the replay stops.")
]
DropLost = Annotated[
    bool,
    typer.Option(
        "--drop-lost", help="Swap even if the live tables hold the last copy of events that Kafka has lost; delete it."
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Return at once; do not wait for the end.")]


@app.command()
def plan(
    *,
    consumer: Annotated[
        str, typer.Option(help="The consumer to repair: feedback-svc, as `touchpoint consumer list` shows it.")
    ],
    since: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="TIME|PLACE",
            help="Beginning of the window: the time of the record in Kafka (UTC unless it has an offset), or an offset "
            "as topic/partition/offset for its partition. Can be repeated.",
        ),
    ],
    until: Annotated[
        list[str] | None,
        typer.Option(
            "--to",
            metavar="TIME|PLACE",
            help="End of the window (exclusive), as --from. Default: the consumer's position. Can be repeated.",
        ),
    ] = None,
    type: Annotated[
        list[str] | None, typer.Option(help="Only events of this type: feedback.submitted. Can be repeated.")
    ] = None,
    tenant: Annotated[str | None, typer.Option(help="Only this tenant's events.")] = None,
    customer: Annotated[str | None, typer.Option(help="Only events of the customer with this id.")] = None,
    partition: Annotated[
        list[int] | None, typer.Option(min=0, help="Only records of this partition. Can be repeated.")
    ] = None,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Fix a window of the log and count what a replay of it would do. Changes no data; `run` starts the replay.

    Prints how many events match, how many of them are missing, and the plan's id. Refused (exit code 2) if Kafka's
    retention or a pruned inbox has deleted the beginning of the window.

    \b
    Examples:
      touchpoint replay plan --consumer feedback-svc --from 2026-11-22T12:00:00Z --to 2026-11-22T18:00:00Z
      touchpoint replay plan --consumer metrics-svc --from 2h --tenant acme --customer C-1042
      touchpoint replay plan --consumer feedback-svc --from touchpoints.v1/3/1200 --to touchpoints.v1/3/1300
    """
    window = Window(Bound.of(since), Bound.of(until or []), tuple(partition or ()))
    selection = Selection(tuple(type or ()), tenant, customer)

    async def work(session: AsyncSession) -> Replay:
        with page.bar("records read") as show:
            return await plan_repair(session, reach.kafka(), consumer, window, selection, who=operator(), show=show)

    _print(_where_it_reads(database, consumer, work), as_json, page.plan)


@app.command()
def run(
    plan: PlanId,
    *,
    reason: Reason,
    rate: Rate = None,
    max_errors: MaxErrors = MAX_ERRORS,
    detach: Detach = False,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Start a planned replay in the service's worker and show its progress until it ends.

    Ctrl-C stops only the display. Events that fail become open dead letters.

    \b
    Exit codes:
      0    the replay is done and no event failed
      1    the replay stopped before its end, or events failed
      2    usage error, such as another replay of the consumer under way
      130  Ctrl-C; the replay continues in the worker

    \b
    Examples:
      touchpoint replay run 3f9a1c2e --reason "lost afternoon of C-1042, ticket OPS-77"
      touchpoint replay run 3f9a1c2e --reason "after the fix of 17:40" --rate 500 --max-errors 0 --detach
    """
    started = _change(database, plan, "run", reason, rate=rate, max_errors=max_errors)
    _follow(database, started, detach=detach, as_json=as_json)


@app.command()
def rebuild(
    *,
    consumer: Annotated[
        str,
        typer.Option(help="The consumer whose tables to rebuild: metrics-svc."),
    ],
    reason: Reason,
    swap: Annotated[
        bool, typer.Option("--swap", help="Swap as soon as the tables are built, whatever differs.")
    ] = False,
    drop_lost: DropLost = False,
    rate: Rate = None,
    max_errors: MaxErrors = MAX_ERRORS,
    detach: Detach = False,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Build a service's tables again from the whole log, in a second schema, and show how the live ones differ.

    The live tables do not change, and no event is published. What people and timers have decided is compared, but never
    replaced. Afterwards `touchpoint replay swap` replaces the live
    tables, or `touchpoint replay abort` drops the new ones. Refused if Kafka no longer has the beginning of the log.
    Exit codes: as `touchpoint replay run`.

    \b
    Examples:
      touchpoint replay rebuild --consumer metrics-svc --reason "a counter is wrong, OPS-91"
      touchpoint replay rebuild --consumer feedback-svc --reason "0.5 cuts titles" --swap --rate 2000
    """

    async def work(session: AsyncSession) -> Replay:
        return await rebuild_all(
            session,
            reach.kafka(),
            consumer,
            operator(),
            reason,
            rate=rate,
            max_errors=max_errors,
            swap=swap,
            drop_lost=drop_lost,
        )

    _follow(database, _where_it_reads(database, consumer, work), detach=detach, as_json=as_json)


@app.command()
def swap(
    plan: PlanId,
    *,
    reason: Reason,
    drop_lost: DropLost = False,
    detach: Detach = False,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Replace the live tables by those of a rebuild; the old ones are dropped.

    The consumer waits meanwhile, at most two seconds at a time. Queries see either the old tables or the new ones.
    Exit codes: as `touchpoint replay run`.

    \b
    Example:
      touchpoint replay swap 3f9a1c2e --reason "differences are as expected, OPS-91"
    """
    _follow(database, _change(database, plan, "swap", reason, drop_lost=drop_lost), detach=detach, as_json=as_json)


@app.command("fold")
def fold_again(
    *,
    consumer: Annotated[str, typer.Option(help="The consumer whose decisions to read: escalation-svc.")],
    reason: Reason,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Read a service's own decisions again, from the first, and apply those that its database lacks.

    For decisions that `touchpoint verify` reports as missing or forgotten, because a row was changed by hand. Decisions
    that the database has are not changed. A service whose database was restored from a backup reads them at its start.

    \b
    Example:
      touchpoint replay fold --consumer escalation-svc --reason "a case was deleted by hand, OPS-93"
    """
    subject, read = installed(consumer), 0
    for dsn in reach.dsns(database):
        read += asyncio.run(_fold(dsn, subject, reason))
    typer.echo(json.dumps({"consumer": consumer, "records": read}) if as_json else f"{read:,} decisions read again.")


async def _fold(dsn: str, subject: Subject, reason: str) -> int:
    """Fold the decisions in this database, if the consumer has read events there; returns their number."""
    consumer = subject.consumer

    async def reads_here(session: AsyncSession) -> bool:
        return bool(await offsets.load(await raw_connection(session), consumer))

    if not await reach.in_one(dsn, reads_here):
        return 0
    engine = create_engine(dsn, "touchpoint", pool_size=1)
    try:
        read = await fold.fold(consumer, subject.handlers, reach.kafka(), sessions(engine), again=True)
    finally:
        await engine.dispose()

    async def note(session: AsyncSession) -> None:
        await audit.add(session, operator(), "decisions.folded", consumer, {"records": read}, reason=reason)

    await reach.in_one(dsn, note)
    return read


@app.command()
def status(
    plan: Annotated[str, typer.Argument(metavar="[PLAN]", help="Id of the replay. Default: the newest.")] = "",
    *,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Wait for the end of the replay and show its progress.")
    ] = False,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Show a replay's state, progress, counts of events by outcome, speed and estimated time left.

    Exit codes: 0 without --follow, whatever the state; with --follow as `touchpoint replay run`.

    \b
    Examples:
      touchpoint replay status
      touchpoint replay status 3f9a1c2e --follow
      touchpoint replay status 3f9a1c2e --json
    """
    replay = _by_prefix(database, plan) if plan else _newest(database)
    if follow:
        watch(database, [replay], as_json)
    else:
        _print(replay, as_json, page.status)


@app.command()
def pause(plan: PlanId, *, reason: Reason, database: Database = "", as_json: Json = False) -> None:
    """Pause a running replay. No event is applied after this command returns, until `touchpoint replay resume`."""
    _print(_change(database, plan, "pause", reason), as_json, page.status)


@app.command()
def resume(
    plan: PlanId,
    *,
    reason: Reason,
    rate: Rate = None,
    max_errors: Annotated[int | None, typer.Option(min=0, help="As for `run`. Default: unchanged.")] = None,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Resume a paused or failed replay where it stopped. --rate and --max-errors can be changed.

    \b
    Example:
      touchpoint replay resume 3f9a1c2e --reason "0.4.1 is deployed" --max-errors 500
    """
    _print(_change(database, plan, "resume", reason, rate=rate, max_errors=max_errors), as_json, page.status)


@app.command()
def abort(plan: PlanId, *, reason: Reason, database: Database = "", as_json: Json = False) -> None:
    """End a replay for good. Events already applied stay applied; the new tables of a rebuild are dropped."""
    _print(_change(database, plan, "abort", reason), as_json, page.status)


@app.command("list")
def list_replays(
    *,
    consumer: Annotated[str, typer.Option(help="Only this consumer's.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="Maximum number per service.")] = 20,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """List plans, replays, redrives and rebuilds, newest first."""
    rows = in_each(database, lambda session: replays.find(session, consumer=consumer, limit=limit))
    rows.sort(key=lambda replay: replay.planned_at, reverse=True)
    if as_json:
        typer.echo(json.dumps([asdict(replay) for replay in rows], default=str))
    else:
        page.table(rows)


def _change(database: str, prefix: str, action: Action, reason: str, **options: Any) -> Replay:
    """Change a replay in whichever database has it. `options` are those of `replays.change`."""
    chosen = _by_prefix(database, prefix)

    async def work(session: AsyncSession) -> list[Replay]:
        if not await replays.find(session, str(chosen.id)):
            return []
        return [await replays.change(session, str(chosen.id), action, operator(), reason, **options)]

    return in_each(database, work)[0]


def _where_it_reads(database: str, consumer: str, work: Callable[[AsyncSession], Awaitable[Replay]]) -> Replay:
    """Run `work` in the database with the consumer's offsets. Raises UsageError if no database has any."""

    async def if_it_reads_here(session: AsyncSession) -> list[Replay]:
        return [await work(session)] if await offsets.load(await raw_connection(session), consumer) else []

    results = in_each(database, if_it_reads_here)
    if not results:
        raise UsageError(f"no consumer {consumer} here has read any event: see `touchpoint consumer list`")
    return results[0]


def _by_prefix(database: str, prefix: str) -> Replay:
    """The replay whose id begins with `prefix`. Raises UsageError when none or several do."""
    rows = in_each(database, lambda session: replays.find(session, prefix, limit=2))
    if len(rows) != 1:
        count = "several replay ids begin" if rows else "no replay id begins"
        raise UsageError(f"{count} with {prefix}: see `touchpoint replay list`")
    return rows[0]


def _newest(database: str) -> Replay:
    """The replay that runs, else the one started or planned last."""
    rows = in_each(database, lambda session: replays.find(session, limit=20))
    if not rows:
        raise UsageError("there is no replay yet: begin with `touchpoint replay plan`")
    return max(rows, key=lambda replay: (replay.state == "running", replay.started_at or replay.planned_at))


def _follow(database: str, started: Replay, *, detach: bool, as_json: bool) -> None:
    if detach:
        _print(started, as_json, page.status)
    else:
        watch(database, [started], as_json)


def watch(database: str, started: Sequence[Replay], as_json: bool) -> None:
    """Show the progress of replays, one after the other, until all have ended. Exits with 1 if one is incomplete."""
    ended = [_ended(database, replay) for replay in started]
    for replay in ended:
        _print(replay, as_json, page.status)
    if any(replay.state not in ("done", "built") or replay.failed for replay in ended):
        raise typer.Exit(UNFINISHED)


def _ended(database: str, replay: Replay) -> Replay:
    begun, hinted = time.monotonic(), False
    try:
        with page.bar(f"{replay.consumer} {replay.kind}") as show:
            while replay.state in ("running", "paused"):
                show(replay.passed, replay.length)
                time.sleep(LOOK_SECONDS)
                replay = _by_prefix(database, str(replay.id))
                if not (replay.passed or hinted) and time.monotonic() - begun > PATIENCE_SECONDS:
                    hinted = True
                    typer.echo(
                        f"No progress for {PATIENCE_SECONDS} s: does {replay.consumer}'s worker run, and does its "
                        "consumer keep up? A replay waits while the live consumer lags.",
                        err=True,
                    )
            show(replay.passed, replay.length)
    except KeyboardInterrupt:
        typer.echo(
            f"The replay continues in the worker: touchpoint replay status {page.short(replay)} --follow", err=True
        )
        raise typer.Exit(130) from None
    return replay


def _print(replay: Replay, as_json: bool, show: Any) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(replay), default=str))
    else:
        show(replay)
