"""The inbox: deduplicates events, so that each is applied once per consumer however often it is sent or replayed."""

import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import NamedTuple
from uuid import UUID

import asyncpg

from touchpoint.contracts.base import Event, identity
from touchpoint.contracts.record import Record, attributes
from touchpoint.db.engine import COPY_FROM

_CLAIM = """
INSERT INTO inbox (event_id, consumer, type, payload_hash, topic, partition, "offset")
SELECT event_id, $1, type, payload_hash, topic, partition, "offset"
  FROM unnest($2::uuid[], $3::text[], $4::bytea[], $5::text[], $6::int[], $7::bigint[]) WITH ORDINALITY
    AS claims (event_id, type, payload_hash, topic, partition, "offset", n)
 ORDER BY event_id, n
ON CONFLICT DO NOTHING
RETURNING event_id
"""

_ELSEWHERE = """
SELECT r."offset"
  FROM unnest($2::uuid[], $3::text[], $4::int[], $5::bigint[]) AS r (event_id, topic, partition, "offset")
  JOIN inbox i ON i.event_id = r.event_id AND i.consumer = $1
 WHERE (i.topic, i.partition, i."offset") <> (r.topic, r.partition, r."offset")
   AND NOT EXISTS (
       SELECT FROM log_losses l
        WHERE l.consumer = $1 AND l.topic = i.topic AND l.partition = i.partition
          AND i."offset" >= l.first AND i."offset" < l.until)
"""

_HERE = """
SELECT r."offset"
  FROM unnest($2::uuid[], $3::bytea[], $4::text[], $5::int[], $6::bigint[])
       AS r (event_id, payload_hash, topic, partition, "offset")
  JOIN inbox i ON i.event_id = r.event_id AND i.consumer = $1
 WHERE (i.topic, i.partition, i."offset", i.payload_hash) = (r.topic, r.partition, r."offset", r.payload_hash)
"""


class Claim(NamedTuple):
    """An event to be applied, as a row of the inbox."""

    event_id: UUID
    type: str
    payload_hash: bytes
    topic: str
    partition: int
    offset: int

    @classmethod
    def of(cls, event: Event, record: Record) -> "Claim":
        """The claim of a decoded record."""
        digest = _payload_hash(event.type.encode(), record.value)
        return cls(event.meta.identity, event.type, digest, record.topic, record.partition, record.offset)


COLUMNS = (*Claim._fields, "consumer")


@dataclass(frozen=True, slots=True)
class Claimed:
    """Indexes of the claims to apply now (`new`), and of duplicates with a different payload (`conflicts`)."""

    new: frozenset[int]
    conflicts: frozenset[int]


async def claim(raw: asyncpg.Connection, consumer: str, claims: Sequence[Claim]) -> Claimed:
    """Insert the claims into the inbox; of several with the same id in a batch, the first is new."""
    if not claims:
        return Claimed(frozenset(), frozenset())
    if len(claims) >= COPY_FROM and await _all_new(raw, consumer, claims):
        return Claimed(frozenset(range(len(claims))), frozenset())
    rows = await raw.fetch(_CLAIM, consumer, *map(list, zip(*claims, strict=True)))
    fresh = {row["event_id"] for row in rows}
    new = set()
    for index, candidate in enumerate(claims):
        if candidate.event_id in fresh:
            fresh.remove(candidate.event_id)
            new.add(index)
    again = [index for index in range(len(claims)) if index not in new]
    return Claimed(frozenset(new), await _conflicting(raw, consumer, claims, again))


def identity_of(record: Record) -> UUID | None:
    """The event's identity from a record's headers, without decoding the record; None if they lack it."""
    by_name = attributes(record.headers)
    tenant, source, event_id = (by_name.get(name) for name in ("ce_tenant", "ce_source", "ce_id"))
    if not (tenant and source and event_id):
        return None
    try:
        return identity(tenant.decode(), source.decode(), event_id.decode())
    except UnicodeDecodeError:
        return None


async def known(raw: asyncpg.Connection, consumer: str, identities: Collection[UUID]) -> dict[UUID, bytes]:
    """The payload hashes of those events that were applied, by identity."""
    query = "SELECT event_id, payload_hash FROM inbox WHERE consumer = $1 AND event_id = ANY($2)"
    return {row["event_id"]: row["payload_hash"] for row in await raw.fetch(query, consumer, list(identities))}


async def applied(raw: asyncpg.Connection, consumer: str, records: Sequence[Record]) -> set[int]:
    """The offsets of those records of one partition whose events were applied with the same payload."""
    asked = [(record, event_id) for record in records if (event_id := identity_of(record)) is not None]
    hashes = await known(raw, consumer, [event_id for _, event_id in asked])
    return {
        record.offset
        for record, event_id in asked
        if event_id in hashes
        and hashes[event_id] == _payload_hash(attributes(record.headers).get("ce_type") or b"", record.value)
    }


async def applied_here(raw: asyncpg.Connection, consumer: str, records: Sequence[Record]) -> set[int]:
    """The offsets of those records of one partition that were applied with the same payload from the same position."""
    asked = [
        (event_id, _payload_hash(attributes(r.headers).get("ce_type") or b"", r.value), r.topic, r.partition, r.offset)
        for r in records
        if (event_id := identity_of(r)) is not None
    ]
    if not asked:
        return set()
    rows = await raw.fetch(_HERE, consumer, *map(list, zip(*asked, strict=True)))
    return {row["offset"] for row in rows}


async def applied_elsewhere(raw: asyncpg.Connection, consumer: str, records: Sequence[Record]) -> set[int]:
    """The offsets of those records of one partition whose events were applied from another position of the log.

    Positions that Kafka has lost do not count, as a record sent again afterwards is the log's only copy.
    """
    asked = [(event_id, r.topic, r.partition, r.offset) for r in records if (event_id := identity_of(r)) is not None]
    if not asked:
        return set()
    rows = await raw.fetch(_ELSEWHERE, consumer, *map(list, zip(*asked, strict=True)))
    return {row["offset"] for row in rows}


def _payload_hash(kind: bytes, value: bytes) -> bytes:
    return hashlib.blake2b(kind + b"\0" + value, digest_size=16).digest()


async def _all_new(raw: asyncpg.Connection, consumer: str, claims: Sequence[Claim]) -> bool:
    """Insert all claims by COPY, in half the time of `_CLAIM`; on a duplicate insert none and return False.

    The rows are sorted by event id, as in every transaction, so that two transactions cannot deadlock.
    """
    rows = sorted((*claim, consumer) for claim in claims)
    try:
        async with raw.transaction():  # a savepoint in the batch's transaction
            await raw.copy_records_to_table("inbox", records=rows, columns=COLUMNS)
    except asyncpg.UniqueViolationError:
        return False
    return True


async def _conflicting(
    raw: asyncpg.Connection, consumer: str, claims: Sequence[Claim], again: Sequence[int]
) -> frozenset[int]:
    """Those duplicates whose payload differs from the applied one; they are recorded in the table `conflicts`."""
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
