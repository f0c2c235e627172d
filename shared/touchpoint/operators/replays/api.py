"""Replays: planned, run, watched, and a hand on them."""

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
"""A plan counts what is in its window; one with more than that is for the command, which shows how far it is."""
PLAN_SECONDS = 60

router = APIRouter(prefix="/replays")


async def _planning(request: Request) -> AsyncIterator[None]:
    lock: asyncio.Lock = request.app.state.planning
    if lock.locked():
        raise ProblemError(503, "planning", "Another plan is being made here.", headers={"Retry-After": "5"})
    async with lock:
        yield


Alone = Annotated[None, Depends(_planning, scope="function")]
"""One plan at a time is made by a process: the others' questions come first."""


@router.post("", status_code=201)
async def plan_replay(
    *, caller: Operator, session: Session, kafka: Kafka, alone: Alone, body: schemas.Plan, response: Response
) -> schemas.ReplayRead:
    """Freeze a window and say what a replay of it would do. Nothing is changed; the plan is kept, and `run` starts it.

    A window whose beginning retention or a pruned inbox has taken is refused, never cut; so is one with more than
    500,000 records, which is for the command.
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
    """Plans, replays and redrives, newest first."""
    before, limit = pagination.decode(query.cursor), query.limit + 1
    found = await replays.find(session, consumer=query.consumer or "", limit=limit, before=before)
    return page([schemas.ReplayRead.of(one) for one in found], query.limit)


@router.get("/{replay_id}")
async def get_replay(caller: Reader, session: Session, replay_id: UUID) -> schemas.ReplayRead:
    """How a replay stands: how far it is, what became of its events, and its speed."""
    return schemas.ReplayRead.of(await replays.get(session, str(replay_id)))


@router.post("/{replay_id}/run")
async def run_replay(caller: Operator, session: Session, replay_id: UUID, body: schemas.Run) -> schemas.ReplayRead:
    """Let the service's worker carry out a plan, beside the live stream. 409 while another one is under way."""
    return await _change(session, caller, replay_id, "run", body)


@router.post("/{replay_id}/pause")
async def pause_replay(caller: Operator, session: Session, replay_id: UUID, body: schemas.Stop) -> schemas.ReplayRead:
    """Stop a running replay for a while: after this answer, it applies nothing."""
    return await _change(session, caller, replay_id, "pause", body)


@router.post("/{replay_id}/resume")
async def resume_replay(
    caller: Operator, session: Session, replay_id: UUID, body: schemas.Continue
) -> schemas.ReplayRead:
    """Let a paused or failed replay go on from where it stopped, also at another rate or with more errors allowed."""
    return await _change(session, caller, replay_id, "resume", body)


@router.post("/{replay_id}/swap")
async def swap_replay(caller: Operator, session: Session, replay_id: UUID, body: schemas.Swap) -> schemas.ReplayRead:
    """Let the tables of a rebuild take the place of the live ones, which are dropped.

    409 while these hold the last copy of events that Kafka has lost, unless `drop_lost`.
    """
    return await _change(session, caller, replay_id, "swap", body)


@router.post("/{replay_id}/abort")
async def abort_replay(caller: Operator, session: Session, replay_id: UUID, body: schemas.Stop) -> schemas.ReplayRead:
    """End a replay for good. What it has applied stays applied; of a rebuild nothing stays."""
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
