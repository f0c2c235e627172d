"""The processing status of events in one consumer; the gateway queries it so that clients can follow up a 202."""

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
"""Events per query, at most."""

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
# Positions end at the first lost offset: Kafka reuses lost offsets, so later ones do not prove that an event is applied
# or not.
POSITIONS = text("""
SELECT o.topic, o.partition, least(o.next, l.first), o.inbox_from
  FROM offsets o
  LEFT JOIN log_losses l ON l.consumer = o.consumer AND l.topic = o.topic AND l.partition = o.partition
                        AND l.accepted_at IS NULL
 WHERE o.consumer = :consumer
""")


class EventsQuery(BaseModel):
    """The query: identities of events."""

    model_config = ConfigDict(extra="forbid")

    id: list[UUID] = Field(min_length=1, max_length=MAX_EVENTS)


class EventFound(BaseModel):
    """The status of an event that the consumer has read."""

    status: Literal["applied", "dead-lettered", "conflict"]
    conflicting: bool = Field(description="whether an event with the same id but another payload was refused")
    type: str | None = None
    place: tuple[str, int, int] | None = Field(None, description="topic, partition and offset of the event")


class ConsumerAnswer(BaseModel):
    """One consumer's answer. `positions`: by topic and partition, the first offset that is not applied.

    `known_from`: by topic and partition, the first offset that the inbox still covers.
    """

    consumer: str
    handles: list[str]
    positions: dict[str, dict[int, int]]
    known_from: dict[str, dict[int, int]] = {}
    events: dict[UUID, EventFound] = Field(description="the events it has read, by identity")


@router.get("/internal/events")
async def find_events(query: Annotated[EventsQuery, Query()], request: Request, session: ReadOnly) -> ConsumerAnswer:
    """The events with these identities that this service's consumer has applied, dead-lettered or refused."""
    consumer, handlers = request.app.state.name, request.app.state.handlers
    positions: dict[str, dict[int, int]] = defaultdict(dict)
    known_from: dict[str, dict[int, int]] = defaultdict(dict)
    # Positions are read first: an event before them that the next query does not return was not applied.
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
        events={event_id: _status_of(of_event) for event_id, of_event in rows.items()},
    )


def _status_of(rows: Sequence[Any]) -> EventFound:
    """The status of an event, which may have several rows: applied, and a later conflict with another payload."""
    by_status = {row.status: row for row in rows}
    status = next(status for status in ("applied", "dead-lettered", "conflict") if status in by_status)
    row = by_status[status]
    return EventFound(
        status=status,
        conflicting="conflict" in by_status,
        type=row.type,
        place=(row.topic, row.partition, row.offset) if row.topic else None,
    )
