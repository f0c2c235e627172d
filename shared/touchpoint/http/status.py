"""What became of an event in one consumer: asked by the gateway of every service, so that a 202 is no black hole."""

from collections import defaultdict
from typing import Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, Field
from sqlalchemy import text

from touchpoint.http.deps import ReadOnly
from touchpoint.http.identity import current

router = APIRouter(include_in_schema=False, dependencies=[Depends(current)])

FIND = text("""
SELECT 'applied' AS status, type, topic, partition, "offset" FROM inbox
 WHERE consumer = :consumer AND event_id = :event_id
UNION ALL
SELECT 'dead-lettered', type, topic, partition, "offset" FROM dead_letters
 WHERE consumer = :consumer AND event_id = :event_id AND state <> 'redriven'
UNION ALL
SELECT 'conflict', NULL, NULL, NULL, NULL FROM conflicts WHERE consumer = :consumer AND event_id = :event_id
""")
POSITIONS = text("SELECT topic, partition, next, inbox_from FROM offsets WHERE consumer = :consumer")


class EventStatus(BaseModel):
    """One consumer's answer. `positions`: by topic and partition, the first offset it has not yet applied.

    `known_from`: by topic and partition, the first offset of which it still knows whether it was applied.
    """

    consumer: str
    status: Literal["applied", "dead-lettered", "conflict"] | None = Field(description="null: not seen yet")
    conflicting: bool = Field(description="another payload came under this id and was refused")
    type: str | None
    handles: list[str]
    place: tuple[str, int, int] | None = Field(None, description="topic, partition and offset, where it was found")
    positions: dict[str, dict[int, int]]
    known_from: dict[str, dict[int, int]] = {}


@router.get("/internal/events/{event_id}")
async def event_status(event_id: UUID, request: Request, session: ReadOnly) -> EventStatus:
    """Whether this service's consumer has applied, dead-lettered or refused the event with this identity."""
    consumer, handlers = request.app.state.name, request.app.state.handlers
    positions: dict[str, dict[int, int]] = defaultdict(dict)
    known_from: dict[str, dict[int, int]] = defaultdict(dict)
    # First: what lies before these and is not found afterwards was not applied.
    for topic, partition, following, known in await session.execute(POSITIONS, {"consumer": consumer}):
        positions[topic][partition], known_from[topic][partition] = following, known
    rows = (await session.execute(FIND, {"consumer": consumer, "event_id": event_id})).all()
    found = {row.status: row for row in rows}
    status = next((s for s in ("applied", "dead-lettered", "conflict") if s in found), None)
    row = found[status] if status else None
    return EventStatus(
        consumer=consumer,
        status=status,
        conflicting="conflict" in found,
        type=row.type if row else None,
        handles=sorted(handlers.events),
        place=(row.topic, row.partition, row.offset) if row and row.topic else None,
        positions=positions,
        known_from=known_from,
    )
