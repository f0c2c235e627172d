"""The operators' routes of a service: about its consumer, on its database, as the commands have them.

Their callers see all tenants. So they alone get sessions of the tables' owner, and only with a scope of operators.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Annotated, Any, TypeVar
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Query, Request, Response
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.contracts.base import Identifier
from touchpoint.db import audit, consumers, dead_letters, offsets, replays
from touchpoint.db.consumers import ConsumerState
from touchpoint.db.engine import Sessions, raw_connection, transaction
from touchpoint.db.replays import Action
from touchpoint.errors import NotFoundError
from touchpoint.http import pagination
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller, allowed
from touchpoint.http.ops import schemas
from touchpoint.http.ops.schemas import Entries
from touchpoint.http.scopes import Scope
from touchpoint.kafka import lookup
from touchpoint.kafka.replay import plan
from touchpoint.settings import KafkaSettings

Listed = TypeVar("Listed", schemas.DeadLetterRead, schemas.ReplayRead, schemas.AuditLine)

CAUSES = 200
"""In one answer, those with most open dead letters."""
PLAN_RECORDS = 500_000
"""A plan counts what is in its window; one with more than that is for the command, which shows how far it is."""
PLAN_SECONDS = 60

router = APIRouter(prefix="/v1/ops")

Reader = Annotated[Caller, Depends(allowed(Scope.OPS_READ))]
Operator = Annotated[Caller, Depends(allowed(Scope.OPS_REPLAY))]


async def _above_tenants(request: Request) -> AsyncIterator[AsyncSession]:
    factory: Sessions | None = request.app.state.above_tenants
    if factory is None:
        raise ProblemError(503, "no-operations", "This process serves no operators.")
    async with transaction(factory) as session:
        yield session


Session = Annotated[AsyncSession, Depends(_above_tenants, scope="function")]


def _kafka(request: Request) -> KafkaSettings:
    settings: KafkaSettings = request.app.state.kafka
    return settings


Kafka = Annotated[KafkaSettings, Depends(_kafka)]


async def _planning(request: Request) -> AsyncIterator[None]:
    lock: asyncio.Lock = request.app.state.planning
    if lock.locked():
        raise ProblemError(503, "planning", "Another plan is being made here.", headers={"Retry-After": "5"})
    async with lock:
        yield


Alone = Annotated[None, Depends(_planning, scope="function")]
"""One plan at a time is made by a process: the others' questions come first."""


@router.get("/consumers")
async def list_consumers(caller: Reader, session: Session) -> Entries[schemas.ConsumerRead]:
    """Every consumer: its state and reason, its open dead letters, and when it last applied something."""
    found = await consumers.standing(session)
    return Entries(items=[schemas.ConsumerRead(**one) for one in found])


@router.post("/consumers/{consumer}/pause")
async def pause_consumer(
    caller: Operator, session: Session, consumer: schemas.Consumer, body: schemas.Pause
) -> schemas.ConsumerChanged:
    """Stop a consumer from applying events, in all its processes, within a second; nothing is lost meanwhile."""
    return await _set_state(session, caller, consumer, ConsumerState("paused", body.reason))


@router.post("/consumers/{consumer}/resume")
async def resume_consumer(
    caller: Operator, session: Session, consumer: schemas.Consumer, body: schemas.Resume
) -> schemas.ConsumerChanged:
    """Let a paused or halted consumer go on from where it stopped; it halts again if the cause is still there."""
    return await _set_state(session, caller, consumer, ConsumerState("running", body.reason, body.skip))


async def _set_state(
    session: AsyncSession, caller: Caller, consumer: str, new: ConsumerState
) -> schemas.ConsumerChanged:
    before = await consumers.change(session, consumer, new, caller.who)
    return schemas.ConsumerChanged(consumer=consumer, before=before, state=new.state)


@router.get("/dead-letters/stats")
async def list_causes(
    caller: Reader, session: Session, query: Annotated[schemas.CausesQuery, Query()]
) -> Entries[schemas.Cause]:
    """What fails, by consumer and cause: how many are open, of whom, since when, and an example."""
    return Entries(items=_causes(await dead_letters.causes(session, query.selection)))


@router.get("/dead-letters")
async def list_dead_letters(
    caller: Reader, session: Session, query: Annotated[schemas.DeadLettersQuery, Query()]
) -> Entries[schemas.DeadLetterRead]:
    """Dead letters one by one, newest first."""
    before = pagination.read(query.cursor) if query.cursor else None
    found = await dead_letters.newest(session, query.selection, before)
    return _page([schemas.DeadLetterRead.of(row) for row in found], query.limit)


@router.get("/dead-letters/{consumer}/{topic}/{partition}/{offset}")
async def get_dead_letter(
    *,
    caller: Reader,
    session: Session,
    kafka: Kafka,
    consumer: schemas.Consumer,
    topic: Annotated[Identifier, Path(examples=["touchpoints.v1"])],
    partition: schemas.PartitionNumber,
    offset: schemas.Offset,
) -> schemas.PlaceRead:
    """One dead letter with its event and the customer's events around it: personal data.

    Any place a consumer reads can be named, such as the one it has halted before.
    """
    if (topic, partition) not in await offsets.load(await raw_connection(session), consumer):
        raise NotFoundError(f"{consumer} does not read {topic}/{partition}")
    letters = [one for one in await dead_letters.at(session, topic, partition, offset) if one["consumer"] == consumer]
    try:
        found = await lookup.around(kafka, topic, partition, offset)
    except NotFoundError:
        if not letters:
            raise
        found = []
    shown = [schemas.RecordRead(**lookup.shown(record)) for record in found]
    return schemas.PlaceRead(
        dead_letter=schemas.DeadLetterRead.of(letters[0]) if letters else None,
        event=next((record for record in shown if record.offset == offset), None),
        neighbours=[record for record in shown if record.offset != offset],
    )


@router.post("/dead-letters/redrive")
async def redrive_dead_letters(caller: Operator, session: Session, body: schemas.Redrive) -> schemas.RedrivenRead:
    """Have a consumer try open dead letters again, those alone and each once; dry unless `execute` is true.

    Its worker does it beside the live stream, as a replay. What fails again stays open, with one attempt more.
    """
    causes = await dead_letters.causes(session, body.selection)
    started = []
    if body.execute and body.reason:
        started = await plan.redrive_all(session, body.selection, caller.who, body.reason, rate=body.rate)
    return schemas.RedrivenRead(
        executed=body.execute,
        matching=sum(one["open"] for one in causes),
        causes=_causes(causes),
        replay=schemas.ReplayRead.of(started[0]) if started else None,
    )


@router.post("/dead-letters/discard")
async def discard_dead_letters(caller: Operator, session: Session, body: schemas.Discard) -> schemas.DiscardedRead:
    """Give up on open dead letters, for good: what they told is missing there. Dry unless `execute` is true."""
    causes = await dead_letters.causes(session, body.selection)
    matching = sum(one["open"] for one in causes)
    if body.execute and body.reason:
        matching = await dead_letters.discard(session, body.selection, caller.who, body.reason)
    return schemas.DiscardedRead(executed=body.execute, matching=matching, causes=_causes(causes))


def _causes(found: Sequence[Mapping[str, Any]]) -> list[schemas.Cause]:
    return [schemas.Cause(**one) for one in found[:CAUSES]]


@router.post("/replays", status_code=201)
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


@router.get("/replays")
async def list_replays(
    caller: Reader, session: Session, query: Annotated[schemas.ReplaysQuery, Query()]
) -> Entries[schemas.ReplayRead]:
    """Plans, replays and redrives, newest first."""
    before, limit = pagination.decode(query.cursor), query.limit + 1
    found = await replays.find(session, consumer=query.consumer or "", limit=limit, before=before)
    return _page([schemas.ReplayRead.of(one) for one in found], query.limit)


@router.get("/replays/{replay_id}")
async def get_replay(caller: Reader, session: Session, replay_id: UUID) -> schemas.ReplayRead:
    """How a replay stands: how far it is, what became of its events, and its speed."""
    return schemas.ReplayRead.of(await replays.get(session, str(replay_id)))


@router.post("/replays/{replay_id}/run")
async def run_replay(caller: Operator, session: Session, replay_id: UUID, body: schemas.Run) -> schemas.ReplayRead:
    """Let the service's worker carry out a plan, beside the live stream. 409 while another one is under way."""
    return await _change(session, caller, replay_id, "run", body)


@router.post("/replays/{replay_id}/pause")
async def pause_replay(caller: Operator, session: Session, replay_id: UUID, body: schemas.Stop) -> schemas.ReplayRead:
    """Stop a running replay for a while: after this answer, it applies nothing."""
    return await _change(session, caller, replay_id, "pause", body)


@router.post("/replays/{replay_id}/resume")
async def resume_replay(
    caller: Operator, session: Session, replay_id: UUID, body: schemas.Continue
) -> schemas.ReplayRead:
    """Let a paused or failed replay go on from where it stopped, also at another rate or with more errors allowed."""
    return await _change(session, caller, replay_id, "resume", body)


@router.post("/replays/{replay_id}/abort")
async def abort_replay(caller: Operator, session: Session, replay_id: UUID, body: schemas.Stop) -> schemas.ReplayRead:
    """End a replay for good. What it has applied stays applied; another plan finds the rest."""
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


@router.get("/audit")
async def list_audit(
    caller: Reader, session: Session, query: Annotated[schemas.AuditQuery, Query()]
) -> Entries[schemas.AuditLine]:
    """What operators did: who, when, why, and what came of it; newest first."""
    before = pagination.read(query.cursor) if query.cursor else None
    found = await audit.lines(session, query.since, query.limit + 1, consumer=query.consumer, before=before)
    return _page([schemas.AuditLine.of(row) for row in found], query.limit)


def _page(read: Sequence[Listed], limit: int) -> Entries[Listed]:
    """A page of what was read, which is one more than it takes if there is a next."""
    shown = list(read[:limit])
    return Entries(items=shown, next_cursor=shown[-1].cursor if len(read) > limit else None)
