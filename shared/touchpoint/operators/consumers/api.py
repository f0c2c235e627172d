"""Routes that list, pause and resume consumers."""

from fastapi import APIRouter

from touchpoint.base import parsing
from touchpoint.db import consumers
from touchpoint.db.consumers import ConsumerState
from touchpoint.kafka import passing
from touchpoint.operators.consumers import schemas
from touchpoint.operators.deps import Operator, Reader, Session
from touchpoint.operators.schemas import Consumer, Entries

router = APIRouter(prefix="/consumers")


@router.get("")
async def list_consumers(caller: Reader, session: Session) -> Entries[schemas.ConsumerRead]:
    """List all consumers: state and reason, whether a process is alive, open dead letters, last applied event."""
    rows = await consumers.standing(session)
    return Entries(items=[schemas.ConsumerRead(**row) for row in rows])


@router.post("/{consumer}/pause")
async def pause_consumer(
    caller: Operator, session: Session, consumer: Consumer, body: schemas.Pause
) -> schemas.ConsumerChanged:
    """Stop a consumer from applying events, in all its processes, within one second. Kafka keeps the events."""
    new = ConsumerState("paused", body.reason)
    before = await consumers.change(session, consumer, new, caller.who)
    return schemas.ConsumerChanged(consumer=consumer, before=before, state=new.state)


@router.post("/{consumer}/resume")
async def resume_consumer(
    caller: Operator, session: Session, consumer: Consumer, body: schemas.Resume
) -> schemas.ConsumerChanged:
    """Let a paused or halted consumer continue where it stopped; it halts again if the cause is still there.

    409 if the consumer halted because Kafka has lost records and `accept_loss` does not name exactly these records; the
    problem's detail names them. 409 also if the consumer's next offset is not the first of the offsets in `past`.
    """
    new = ConsumerState("running", body.reason, body.skip)
    past = parsing.span(body.past) if body.past else None
    before = await passing.resume(session, consumer, new, caller.who, past=past, accept_loss=body.accept_loss)
    return schemas.ConsumerChanged(consumer=consumer, before=before, state=new.state)
