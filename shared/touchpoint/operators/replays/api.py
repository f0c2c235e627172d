"""Routes that plan, run, list, pause, resume, swap and abort replays."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db import replays
from touchpoint.db.replays import Action
from touchpoint.http import pagination
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller
from touchpoint.operators.deps import Kafka, Operator, Reader, Session
from touchpoint.operators.replays import schemas
from touchpoint.operators.schemas import Entries, page
from touchpoint.replay import plan

PLAN_RECORDS = 500_000
"""Maximum number of records in the window of a plan made over HTTP. Planning reads all of them; larger windows are
planned by `touchpoint replay plan`, which shows its progress."""
PLAN_SECONDS = 60
"""Timeout of planning over HTTP."""

router = APIRouter(prefix="/replays")


async def _planning(request: Request) -> AsyncIterator[None]:
    lock: asyncio.Lock = request.app.state.planning
    if lock.locked():
        raise ProblemError(
            503, "planning", "This process is making another plan; try again.", headers={"Retry-After": "5"}
        )
    async with lock:
        yield


Alone = Annotated[None, Depends(_planning, scope="function")]
"""Limits a process to one plan at a time, so that planning does not slow down other requests."""


@router.post("", status_code=201)
async def plan_replay(
    *, caller: Operator, session: Session, kafka: Kafka, alone: Alone, body: schemas.Plan, response: Response
) -> schemas.ReplayRead:
    """Plan a replay: fix the window of records and count what a replay would do. Changes no data; `run` starts it.

    Refused if Kafka's retention or a pruned inbox has deleted the beginning of the window, or if the window has more
    than 500,000 records; plan larger ones with `touchpoint replay plan`.
    """
    try:
        async with asyncio.timeout(PLAN_SECONDS):
            replay = await plan.plan_repair(
                session, kafka, body.consumer, body.window, body.selection, who=caller.who, most=PLAN_RECORDS
            )
    except TimeoutError:
        detail = f"Counting the window took longer than {PLAN_SECONDS} s: plan it in parts."
        raise ProblemError(504, "plan-too-slow", detail) from None
    response.headers["Location"] = f"/v1/ops/replays/{replay.id}"
    return schemas.ReplayRead.of(replay)


@router.get("")
async def list_replays(
    caller: Reader, session: Session, query: Annotated[schemas.ReplaysQuery, Query()]
) -> Entries[schemas.ReplayRead]:
    """List plans, replays, redrives and rebuilds, newest first."""
    before, limit = pagination.decode(query.cursor), query.limit + 1
    rows = await replays.find(session, consumer=query.consumer or "", limit=limit, before=before)
    return page([schemas.ReplayRead.of(replay) for replay in rows], query.limit)


@router.get("/{replay_id}")
async def get_replay(caller: Reader, session: Session, replay_id: UUID) -> schemas.ReplayRead:
    """Return a replay with its state, progress, counts of events by outcome, and speed."""
    return schemas.ReplayRead.of(await replays.get(session, str(replay_id)))


@router.post("/{replay_id}/run")
async def run_replay(caller: Operator, session: Session, replay_id: UUID, body: schemas.Run) -> schemas.ReplayRead:
    """Start a planned replay. The service's worker runs it while the consumer continues with new events.

    409 while another replay of the consumer runs.
    """
    return await _change(session, caller, replay_id, "run", body)


@router.post("/{replay_id}/pause")
async def pause_replay(caller: Operator, session: Session, replay_id: UUID, body: schemas.Stop) -> schemas.ReplayRead:
    """Pause a running replay. No event is applied after this answer until `resume`."""
    return await _change(session, caller, replay_id, "pause", body)


@router.post("/{replay_id}/resume")
async def resume_replay(
    caller: Operator, session: Session, replay_id: UUID, body: schemas.Continue
) -> schemas.ReplayRead:
    """Resume a paused or failed replay where it stopped. `rate` and `max_errors` can be changed."""
    return await _change(session, caller, replay_id, "resume", body)


@router.post("/{replay_id}/swap")
async def swap_replay(caller: Operator, session: Session, replay_id: UUID, body: schemas.Swap) -> schemas.ReplayRead:
    """Replace the live tables by those of a rebuild; the old ones are dropped.

    409 if the live tables hold the last copy of events that Kafka has lost, unless `drop_lost` is true.
    """
    return await _change(session, caller, replay_id, "swap", body)


@router.post("/{replay_id}/abort")
async def abort_replay(caller: Operator, session: Session, replay_id: UUID, body: schemas.Stop) -> schemas.ReplayRead:
    """End a replay for good. Events already applied stay applied; the new tables of a rebuild are dropped."""
    return await _change(session, caller, replay_id, "abort", body)


async def _change(
    session: AsyncSession,
    caller: Caller,
    replay_id: UUID,
    action: Action,
    body: schemas.Run | schemas.Continue | schemas.Stop,
) -> schemas.ReplayRead:
    changed = await replays.change(session, str(replay_id), action, caller.who, **body.model_dump())
    return schemas.ReplayRead.of(changed)
