"""Consumers: whether they work, and a hand on them."""

from fastapi import APIRouter

from touchpoint.base import parsing as words
from touchpoint.db import consumers
from touchpoint.db.consumers import ConsumerState
from touchpoint.kafka import passing
from touchpoint.operators.consumers import schemas
from touchpoint.operators.deps import Operator, Reader, Session
from touchpoint.operators.schemas import Consumer, Entries

router = APIRouter(prefix="/consumers")


@router.get("")
async def list_consumers(caller: Reader, session: Session) -> Entries[schemas.ConsumerRead]:
    """Every consumer: its state and reason, whether a process of it is alive, its dead letters, its last success."""
    found = await consumers.standing(session)
    return Entries(items=[schemas.ConsumerRead(**one) for one in found])


@router.post("/{consumer}/pause")
async def pause_consumer(
    caller: Operator, session: Session, consumer: Consumer, body: schemas.Pause
) -> schemas.ConsumerChanged:
    """Stop a consumer from applying events, in all its processes, within a second; nothing is lost meanwhile."""
    new = ConsumerState("paused", body.reason)
    before = await consumers.change(session, consumer, new, caller.who)
    return schemas.ConsumerChanged(consumer=consumer, before=before, state=new.state)


@router.post("/{consumer}/resume")
async def resume_consumer(
    caller: Operator, session: Session, consumer: Consumer, body: schemas.Resume
) -> schemas.ConsumerChanged:
    """Let a paused or halted consumer go on from where it stopped; it halts again if the cause is still there.

    409 while Kafka has lost records that it counts on and `accept_loss` does not name exactly these: the problem names
    them. 409 as well when the consumer does not stand at the first of the offsets in `past`.
    """
    new = ConsumerState("running", body.reason, body.skip)
    past = words.span(body.past) if body.past else None
    before = await passing.resume(session, consumer, new, caller.who, past=past, accept_loss=body.accept_loss)
    return schemas.ConsumerChanged(consumer=consumer, before=before, state=new.state)
