"""Consumers: whether they work, and a hand on them."""

from collections.abc import Sequence

from fastapi import APIRouter
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db import consumers
from touchpoint.db.consumers import ConsumerState
from touchpoint.http.identity import Caller
from touchpoint.http.ops.deps import Operator, Reader, Session
from touchpoint.http.ops.schemas import consumers as schemas
from touchpoint.http.ops.schemas.common import Consumer, Entries

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
    return await _set_state(session, caller, consumer, ConsumerState("paused", body.reason))


@router.post("/{consumer}/resume")
async def resume_consumer(
    caller: Operator, session: Session, consumer: Consumer, body: schemas.Resume
) -> schemas.ConsumerChanged:
    """Let a paused or halted consumer go on from where it stopped; it halts again if the cause is still there.

    409 while Kafka has lost records that it counts on and `accept_loss` does not name exactly these: the problem names
    them.
    """
    new = ConsumerState("running", body.reason, body.skip)
    return await _set_state(session, caller, consumer, new, body.accept_loss)


async def _set_state(
    session: AsyncSession, caller: Caller, consumer: str, new: ConsumerState, accept_loss: Sequence[str] = ()
) -> schemas.ConsumerChanged:
    before = await consumers.change(session, consumer, new, caller.who, accept_loss=accept_loss)
    return schemas.ConsumerChanged(consumer=consumer, before=before, state=new.state)
