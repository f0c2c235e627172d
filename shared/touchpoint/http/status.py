"""What became of events in one consumer: asked by the gateway of every service, so that a 202 is no black hole."""

from collections import defaultdict
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text

from touchpoint.http.deps import ReadOnly
from touchpoint.http.identity import current

MAX_EVENTS = 100
"""Of one question."""

router = APIRouter(include_in_schema=False, dependencies=[Depends(current)])

FIND = text("""
SELECT event_id, 'applied' AS status, type, topic, partition, "offset" FROM inbox
 WHERE consumer = :consumer AND event_id = ANY(:event_ids)
UNION ALL
SELECT event_id, 'dead-lettered', type, topic, partition, "offset" FROM dead_letters
 WHERE consumer = :consumer AND event_id = ANY(:event_ids) AND state <> 'redriven'
UNION ALL
SELECT event_id, 'conflict', NULL, NULL, NULL, NULL FROM conflicts
 WHERE consumer = :consumer AND event_id = ANY(:event_ids)
""")
# Where Kafka has lost records the offsets behind prove nothing: they are used again for others.
POSITIONS = text("""
SELECT o.topic, o.partition, least(o.next, l.first), o.inbox_from
  FROM offsets o
  LEFT JOIN log_losses l ON l.consumer = o.consumer AND l.topic = o.topic AND l.partition = o.partition
                        AND l.accepted_at IS NULL
 WHERE o.consumer = :consumer
""")


class EventsQuery(BaseModel):
    """Which events, by their identities."""

    model_config = ConfigDict(extra="forbid")

    id: list[UUID] = Field(min_length=1, max_length=MAX_EVENTS)


class EventFound(BaseModel):
    """What a consumer did with an event that it has seen."""

    status: Literal["applied", "dead-lettered", "conflict"]
    conflicting: bool = Field(description="another payload came under this id and was refused")
    type: str | None = None
    place: tuple[str, int, int] | None = Field(None, description="topic, partition and offset, where it was found")


class ConsumerAnswer(BaseModel):
    """One consumer's answer. `positions`: by topic and partition, the first offset it has not yet applied.

    `known_from`: by topic and partition, the first offset of which it still knows whether it was applied.
    """

    consumer: str
    handles: list[str]
    positions: dict[str, dict[int, int]]
    known_from: dict[str, dict[int, int]] = {}
    events: dict[UUID, EventFound] = Field(description="those it has seen")


@router.get("/internal/events")
async def find_events(query: Annotated[EventsQuery, Query()], request: Request, session: ReadOnly) -> ConsumerAnswer:
    """Which of the events with these identities this service's consumer has applied, dead-lettered or refused."""
    consumer, handlers = request.app.state.name, request.app.state.handlers
    positions: dict[str, dict[int, int]] = defaultdict(dict)
    known_from: dict[str, dict[int, int]] = defaultdict(dict)
    # First: what lies before these and is not found afterwards was not applied.
    for topic, partition, following, known in await session.execute(POSITIONS, {"consumer": consumer}):
        positions[topic][partition], known_from[topic][partition] = following, known
    rows = defaultdict[UUID, list[Any]](list)
    for row in await session.execute(FIND, {"consumer": consumer, "event_ids": query.id}):
        rows[row.event_id].append(row)
    return ConsumerAnswer(
        consumer=consumer,
        handles=sorted(handlers.events),
        positions=positions,
        known_from=known_from,
        events={event_id: _found(of_event) for event_id, of_event in rows.items()},
    )


def _found(rows: Sequence[Any]) -> EventFound:
    """An event may have several rows: applied, say, and in conflict with another payload that came later."""
    found = {row.status: row for row in rows}
    status = next(status for status in ("applied", "dead-lettered", "conflict") if status in found)
    row = found[status]
    return EventFound(
        status=status,
        conflicting="conflict" in found,
        type=row.type,
        place=(row.topic, row.partition, row.offset) if row.topic else None,
    )
