"""Routes on dead letters: counted by cause, listed, one in full; redrive and discard."""

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
"""Maximum number of causes in an answer; those with the most open dead letters come first."""

router = APIRouter(prefix="/dead-letters")


@router.get("/stats")
async def list_causes(
    caller: Reader, session: Session, query: Annotated[schemas.CausesQuery, Query()]
) -> Entries[schemas.Cause]:
    """Count dead letters by consumer and cause: open ones, customers affected, first and last failure, an example."""
    return Entries(items=_causes(await dead_letters.causes(session, query.selection)))


@router.get("")
async def list_dead_letters(
    caller: Reader, session: Session, query: Annotated[schemas.DeadLettersQuery, Query()]
) -> Entries[schemas.DeadLetterRead]:
    """List dead letters, newest first."""
    before = pagination.read(query.cursor) if query.cursor else None
    rows = await dead_letters.newest(session, query.selection, before)
    return page([schemas.DeadLetterRead.of(row) for row in rows], query.limit)


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
    """Return one dead letter with its event and the customer's neighbouring events. Contains personal data.

    The offset need not have a dead letter: any offset that the consumer reads works, such as the one it halted at.
    """
    if (topic, partition) not in await offsets.load(await raw_connection(session), consumer):
        raise NotFoundError(f"{consumer} does not read {topic}/{partition}")
    letters = [row for row in await dead_letters.at(session, topic, partition, offset) if row["consumer"] == consumer]
    try:
        records = await lookup.around(kafka, topic, partition, offset)
    except NotFoundError:
        if not letters:
            raise
        records = []
    shown = [schemas.RecordRead(**lookup.shown(record)) for record in records]
    return schemas.PlaceRead(
        dead_letter=schemas.DeadLetterRead.of(letters[0]) if letters else None,
        event=next((record for record in shown if record.offset == offset), None),
        neighbours=[record for record in shown if record.offset != offset],
    )


@router.post("/redrive")
async def redrive_dead_letters(caller: Operator, session: Session, body: schemas.Redrive) -> schemas.RedrivenRead:
    """Give open dead letters to their consumer's handlers again, each once. A dry run unless `execute` is true.

    The service's worker does this as a replay, while the consumer continues with new events. A dead letter that fails
    again stays open and its `attempt` is increased.
    """
    causes = await dead_letters.causes(session, body.selection)
    started = []
    if body.execute and body.reason:
        started = await plan.redrive_all(session, body.selection, caller.who, body.reason, rate=body.rate)
    return schemas.RedrivenRead(
        executed=body.execute,
        matching=sum(cause["open"] for cause in causes),
        causes=_causes(causes),
        replay=ReplayRead.of(started[0]) if started else None,
    )


@router.post("/discard")
async def discard_dead_letters(caller: Operator, session: Session, body: schemas.Discard) -> schemas.DiscardedRead:
    """Close open dead letters for good: their events are never applied by this consumer.

    A dry run unless `execute` is true.
    """
    causes = await dead_letters.causes(session, body.selection)
    matching = sum(cause["open"] for cause in causes)
    if body.execute and body.reason:
        matching = await dead_letters.discard(session, body.selection, caller.who, body.reason)
    return schemas.DiscardedRead(executed=body.execute, matching=matching, causes=_causes(causes))


def _causes(rows: Sequence[Mapping[str, Any]]) -> list[schemas.Cause]:
    return [schemas.Cause(**row) for row in rows[:CAUSES]]
