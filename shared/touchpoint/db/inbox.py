"""The inbox: each event is applied once per consumer, however often it was sent, produced, or replayed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import asyncpg

from touchpoint.contracts.base import Event
from touchpoint.db.engine import COPY_FROM
from touchpoint.kafka.codec import Record

COLUMNS = ("n", "event_id", "type", "payload_hash", "topic", "partition", "offset")
_STAGE = """
CREATE TEMP TABLE IF NOT EXISTS claims (
    n int, event_id uuid, type text, payload_hash bytea, topic text, partition int, "offset" bigint
) ON COMMIT DELETE ROWS
"""
_ARRAYS = "unnest($2::int[], $3::uuid[], $4::text[], $5::bytea[], $6::text[], $7::int[], $8::bigint[])"
_CLAIM = """
INSERT INTO inbox (consumer, event_id, type, payload_hash, topic, partition, "offset")
SELECT $1, event_id, type, payload_hash, topic, partition, "offset"
  FROM {source} AS claims (n, event_id, type, payload_hash, topic, partition, "offset")
 ORDER BY event_id, n
ON CONFLICT DO NOTHING
RETURNING event_id
"""


class Claim(NamedTuple):
    """One event asking to be applied."""

    event_id: UUID
    type: str
    payload_hash: bytes
    topic: str
    partition: int
    offset: int

    @classmethod
    def of(cls, event: Event, record: Record) -> "Claim":
        """The claim for a decoded record."""
        digest = hashlib.blake2b(event.type.encode() + b"\0" + record.value, digest_size=16).digest()
        return cls(event.meta.identity, event.type, digest, record.topic, record.partition, record.offset)


@dataclass(frozen=True, slots=True)
class Claimed:
    """By index into the claims: which are to be applied now, and which came again with another payload."""

    new: frozenset[int]
    conflicts: frozenset[int]


async def stage(raw: asyncpg.Connection, claims: Sequence[Claim]) -> None:
    """COPY a large batch's claims into a temp table. Call it before the fence: see `claim`."""
    if len(claims) >= COPY_FROM:
        await raw.execute(_STAGE)
        await raw.copy_records_to_table("claims", records=_rows(claims), columns=COLUMNS)


async def claim(raw: asyncpg.Connection, consumer: str, claims: Sequence[Claim]) -> Claimed:
    """Claim the events; of several with one id the first in the batch wins.

    A large batch must have been staged before the fence was moved: a client frozen in the middle of a COPY keeps its
    locks for ever, and staging holds none that matter.
    """
    if not claims:
        return Claimed(frozenset(), frozenset())
    if len(claims) >= COPY_FROM:
        rows = await raw.fetch(_CLAIM.format(source="claims"), consumer)
    else:
        columns = map(list, zip(*_rows(claims), strict=True))
        rows = await raw.fetch(_CLAIM.format(source=_ARRAYS), consumer, *columns)
    fresh = {row["event_id"] for row in rows}
    new = set()
    for index, candidate in enumerate(claims):
        if candidate.event_id in fresh:
            fresh.remove(candidate.event_id)
            new.add(index)
    again = [index for index in range(len(claims)) if index not in new]
    return Claimed(frozenset(new), await _conflicting(raw, consumer, claims, again))


async def _conflicting(
    raw: asyncpg.Connection, consumer: str, claims: Sequence[Claim], again: Sequence[int]
) -> frozenset[int]:
    """Which of those already applied have a payload other than the one applied; noted in `conflicts`."""
    if not again:
        return frozenset()
    rows = await raw.fetch(
        "SELECT event_id, payload_hash FROM inbox WHERE consumer = $1 AND event_id = ANY($2)",
        consumer, [claims[index].event_id for index in again],
    )  # fmt: skip
    applied = {row["event_id"]: row["payload_hash"] for row in rows}
    conflicts = [index for index in again if applied[claims[index].event_id] != claims[index].payload_hash]
    await raw.executemany(
        'INSERT INTO conflicts (consumer, topic, partition, "offset", event_id) VALUES ($1, $2, $3, $4, $5) '
        "ON CONFLICT DO NOTHING",
        [(consumer, c.topic, c.partition, c.offset, c.event_id) for c in (claims[index] for index in conflicts)],
    )
    return frozenset(conflicts)


def _rows(claims: Sequence[Claim]) -> list[tuple[int, UUID, str, bytes, str, int, int]]:
    return [(n, *claim) for n, claim in enumerate(claims)]
