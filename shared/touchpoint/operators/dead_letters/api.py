"""Dead letters: by cause, one by one, one in full, and what to do with them."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query

from touchpoint.base.errors import NotFoundError
from touchpoint.contracts.base import Identifier
from touchpoint.db import dead_letters, offsets
from touchpoint.db.engine import raw_connection
from touchpoint.http import pagination
from touchpoint.kafka import lookup
from touchpoint.operators.dead_letters import schemas
from touchpoint.operators.deps import Kafka, Operator, Reader, Session
from touchpoint.operators.replays.schemas import ReplayRead
from touchpoint.operators.schemas import Consumer, Entries, PartitionNumber, page
from touchpoint.replay import plan

CAUSES = 200
"""In one answer, those with most open dead letters."""

router = APIRouter(prefix="/dead-letters")


@router.get("/stats")
async def list_causes(
    caller: Reader, session: Session, query: Annotated[schemas.CausesQuery, Query()]
) -> Entries[schemas.Cause]:
    """What fails, by consumer and cause: how many are open, of whom, since when, and an example."""
    return Entries(items=_causes(await dead_letters.causes(session, query.selection)))


@router.get("")
async def list_dead_letters(
    caller: Reader, session: Session, query: Annotated[schemas.DeadLettersQuery, Query()]
) -> Entries[schemas.DeadLetterRead]:
    """Dead letters one by one, newest first."""
    before = pagination.read(query.cursor) if query.cursor else None
    found = await dead_letters.newest(session, query.selection, before)
    return page([schemas.DeadLetterRead.of(row) for row in found], query.limit)


@router.get("/{consumer}/{topic}/{partition}/{offset}")
async def get_dead_letter(
    *,
    caller: Reader,
    session: Session,
    kafka: Kafka,
    consumer: Consumer,
    topic: Annotated[Identifier, Path(examples=["touchpoints.v1"])],
    partition: PartitionNumber,
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


@router.post("/redrive")
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
        replay=ReplayRead.of(started[0]) if started else None,
    )


@router.post("/discard")
async def discard_dead_letters(caller: Operator, session: Session, body: schemas.Discard) -> schemas.DiscardedRead:
    """Give up on open dead letters, for good: what they told is missing there. Dry unless `execute` is true."""
    causes = await dead_letters.causes(session, body.selection)
    matching = sum(one["open"] for one in causes)
    if body.execute and body.reason:
        matching = await dead_letters.discard(session, body.selection, caller.who, body.reason)
    return schemas.DiscardedRead(executed=body.execute, matching=matching, causes=_causes(causes))


def _causes(found: Sequence[Mapping[str, Any]]) -> list[schemas.Cause]:
    return [schemas.Cause(**one) for one in found[:CAUSES]]
