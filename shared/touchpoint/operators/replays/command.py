"""`touchpoint replay`: plan a repair or a rebuild, let it run, watch it, and a hand on it."""

import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Annotated, Any

import typer
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base.errors import UsageError
from touchpoint.db import offsets, replays
from touchpoint.db.engine import raw_connection
from touchpoint.db.replays import MAX_ERRORS, Action, Replay
from touchpoint.operators import reach
from touchpoint.operators.reach import Database, Json, in_each, operator
from touchpoint.operators.replays import page
from touchpoint.replay.plan import plan_repair
from touchpoint.replay.plan import rebuild as rebuild_all
from touchpoint.replay.selection import Bound, Selection, Window

app = typer.Typer(
    no_args_is_help=True,
    rich_markup_mode=None,
    help="Replays: a consumer's handlers are given a window of the log again, and what is missing is applied.\n\n"
    "What was applied before changes nothing, so a repair can only fill gaps. The live consumer is left alone.\n\n"
    "What is wrong and not missing, a rebuild makes anew.",
)

UNFINISHED = 1
"""Exit code of `run` and `status --follow` when it was not done, or events failed in it."""
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 10
"""How long a worker may take to begin before it is said that none has."""

PlanId = Annotated[str, typer.Argument(metavar="PLAN", help="Its id, or as much of its beginning as tells it apart.")]
Reason = Annotated[str, typer.Option(help="Why; kept with the replay and in the trail (`touchpoint audit`).")]
Rate = Annotated[int | None, typer.Option(min=1, help="Events a second at most. Unset: as many as go.")]
MaxErrors = Annotated[int, typer.Option(min=0, help="Stop at the next failure after so many.")]
DropLost = Annotated[
    bool,
    typer.Option(
        "--drop-lost", help="Swap although events that Kafka has lost are in the live tables only: they are deleted."
    ),
]
Detach = Annotated[bool, typer.Option("--detach", help="Do not wait for its end.")]


@app.command()
def plan(
    *,
    consumer: Annotated[str, typer.Option(help="Whose events: feedback-svc, as `touchpoint consumer list` shows it.")],
    since: Annotated[
        list[str],
        typer.Option(
            "--from",
            metavar="TIME|PLACE",
            help="When Kafka took it in (UTC unless it says else), or touchpoints.v1/3/1200; several times.",
        ),
    ],
    until: Annotated[
        list[str] | None, typer.Option("--to", metavar="TIME|PLACE", help="Up to here. Unset: all that was read.")
    ] = None,
    type: Annotated[list[str] | None, typer.Option(help="Of this type; several times.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Of this tenant.")] = None,
    customer: Annotated[str | None, typer.Option(help="Of the customer with this id.")] = None,
    partition: Annotated[list[int] | None, typer.Option(min=0, help="In this partition; several times.")] = None,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Freeze a window and say what a replay would do. Nothing is changed; the plan is kept, and `run` starts it.

    A window whose beginning retention or a pruned inbox has taken is refused, never cut.

    \b
    Examples:
      touchpoint replay plan --consumer feedback-svc --from 2026-11-22T12:00:00Z --to 2026-11-22T18:00:00Z
      touchpoint replay plan --consumer metrics-svc --from 2h --tenant acme --customer C-1042
      touchpoint replay plan --consumer feedback-svc --from touchpoints.v1/3/1200 --to touchpoints.v1/3/1300
    """
    window = Window(Bound.of(since), Bound.of(until or []), tuple(partition or ()))
    selection = Selection(tuple(type or ()), tenant, customer)

    async def work(session: AsyncSession) -> Replay:
        with page.bar("records looked at") as show:
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
    """Let the service's worker carry out a plan, and show how it gets on; Ctrl-C leaves it running.

    The exit code is 0 if all of it was done and no event failed, else 1.

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
        str, typer.Option(help="Whose tables: metrics-svc. It is one that makes them from the log alone.")
    ],
    reason: Reason,
    swap: Annotated[bool, typer.Option("--swap", help="Put them in place at once, whatever differs.")] = False,
    drop_lost: DropLost = False,
    rate: Rate = None,
    max_errors: MaxErrors = MAX_ERRORS,
    detach: Detach = False,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Make a consumer's tables anew from the whole log, beside the live ones, and say what differs.

    Nothing live is changed and nothing is sent: `swap` puts the new tables in the place of the live ones, `abort`
    throws them away. Refused where the log has lost its beginning.

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
    """Put the tables of a rebuild in the place of the live ones, which are dropped.

    Its consumer is held for a moment, at most two seconds at a time; who reads sees the old tables or the new.
    """
    _follow(database, _change(database, plan, "swap", reason, drop_lost=drop_lost), detach=detach, as_json=as_json)


@app.command()
def status(
    plan: Annotated[str, typer.Argument(metavar="[PLAN]", help="Its id. Unset: the newest one.")] = "",
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Until it ends.")] = False,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Show how far a replay is, what became of its events, its speed and how long it will take.

    \b
    Examples:
      touchpoint replay status
      touchpoint replay status 3f9a1c2e --json
    """
    found = _one(database, plan) if plan else _newest(database)
    if follow:
        watch(database, [found], as_json)
    else:
        _print(found, as_json, page.status)


@app.command()
def pause(plan: PlanId, *, reason: Reason, database: Database = "", as_json: Json = False) -> None:
    """Stop a running replay for a while: once this returns, it applies nothing."""
    _print(_change(database, plan, "pause", reason), as_json, page.status)


@app.command()
def resume(
    plan: PlanId,
    *,
    reason: Reason,
    rate: Rate = None,
    max_errors: Annotated[int | None, typer.Option(min=0, help="As with `run`. Unset: as it was.")] = None,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Let a paused or failed replay go on from where it stopped, also at another rate or with more errors allowed."""
    _print(_change(database, plan, "resume", reason, rate=rate, max_errors=max_errors), as_json, page.status)


@app.command()
def abort(plan: PlanId, *, reason: Reason, database: Database = "", as_json: Json = False) -> None:
    """End a replay for good. What it has applied stays applied; of a rebuild nothing stays."""
    _print(_change(database, plan, "abort", reason), as_json, page.status)


@app.command("list")
def list_replays(
    *,
    consumer: Annotated[str, typer.Option(help="Of this consumer.")] = "",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="So many of each service at most.")] = 20,
    database: Database = "",
    as_json: Json = False,
) -> None:
    """Show plans, replays and redrives, the newest first."""
    found = in_each(database, lambda session: replays.find(session, consumer=consumer, limit=limit))
    found.sort(key=lambda one: one.planned_at, reverse=True)
    if as_json:
        typer.echo(json.dumps([asdict(one) for one in found], default=str))
    else:
        page.table(found)


def _change(database: str, prefix: str, action: Action, reason: str, **options: Any) -> Replay:
    """`options`: as `replays.change` takes them."""
    chosen = _one(database, prefix)

    async def work(session: AsyncSession) -> list[Replay]:
        if not await replays.find(session, str(chosen.id)):
            return []
        return [await replays.change(session, str(chosen.id), action, operator(), reason, **options)]

    return in_each(database, work)[0]


def _where_it_reads(database: str, consumer: str, work: Callable[[AsyncSession], Awaitable[Replay]]) -> Replay:
    """What `work` answers in the database of this consumer. Raises UsageError where it has read nothing."""

    async def there(session: AsyncSession) -> list[Replay]:
        return [await work(session)] if await offsets.load(await raw_connection(session), consumer) else []

    found = in_each(database, there)
    if not found:
        raise UsageError(f"no consumer {consumer} here has read anything: see `touchpoint consumer list`")
    return found[0]


def _one(database: str, prefix: str) -> Replay:
    """The one replay whose id begins so, wherever it is."""
    found = in_each(database, lambda session: replays.find(session, prefix, limit=2))
    if len(found) != 1:
        what = "several replays begin" if found else "no replay begins"
        raise UsageError(f"{what} with {prefix}: see `touchpoint replay list`")
    return found[0]


def _newest(database: str) -> Replay:
    found = in_each(database, lambda session: replays.find(session, limit=20))
    if not found:
        raise UsageError("there is no replay here: begin with `touchpoint replay plan`")
    return max(found, key=lambda one: (one.state == "running", one.started_at or one.planned_at))


def _follow(database: str, started: Replay, *, detach: bool, as_json: bool) -> None:
    if detach:
        _print(started, as_json, page.status)
    else:
        watch(database, [started], as_json)


def watch(database: str, started: Sequence[Replay], as_json: bool) -> None:
    """Show how they get on, one after the other, until all have ended. Exit code 1 if one was not done whole."""
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
                replay = _one(database, str(replay.id))
                if not (replay.passed or hinted) and time.monotonic() - begun > PATIENCE_SECONDS:
                    hinted = True
                    typer.echo(f"nothing yet: does {replay.consumer}'s worker run, or its consumer keep up?", err=True)
            show(replay.passed, replay.length)
    except KeyboardInterrupt:
        typer.echo(f"It goes on in the worker: touchpoint replay status {page.short(replay)} --follow", err=True)
        raise typer.Exit(130) from None
    return replay


def _print(replay: Replay, as_json: bool, show: Any) -> None:
    if as_json:
        typer.echo(json.dumps(asdict(replay), default=str))
    else:
        show(replay)
