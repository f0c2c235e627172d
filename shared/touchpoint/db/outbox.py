"""The outbox, by which a service publishes events: rows commit with the effects, and the relay sends them to Kafka."""

from collections.abc import Sequence

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.contracts.base import Event
from touchpoint.contracts.record import Headers, Record, encode
from touchpoint.db.engine import insert

COLUMNS = ("topic", "partition", "key", "value", "headers")

Row = tuple[str, int | None, bytes, bytes, bytes]
"""A row of the outbox: the values of COLUMNS."""

_HEADERS = msgspec.msgpack.Decoder(list[tuple[str, bytes]])


async def publish(session: AsyncSession, *events: Event) -> None:
    """Write events to the outbox in order. Lock their aggregate first, so that row ids follow its versions."""
    await write(session, [row(encode(event)) for event in events])


def row(record: Record) -> Row:
    """The outbox row of a record. It is sent to the record's partition, or, if that is unset, to its key's."""
    partition = record.partition if record.partition >= 0 else None
    return record.topic, partition, record.key, record.value, dump_headers(record.headers)


async def write(session: AsyncSession, rows: Sequence[Row]) -> None:
    """Write rows to the outbox in order."""
    await insert(session, "outbox", COLUMNS, rows)


async def waiting(raw: asyncpg.Connection, topics: Sequence[str]) -> list[Record]:
    """The records of these topics that the relay has not sent yet, in order."""
    rows = await raw.fetch(
        "SELECT topic, partition, key, value, headers FROM public.outbox WHERE topic = ANY($1) ORDER BY id", topics
    )
    return [record(row) for row in rows]


def record(row: asyncpg.Record) -> Record:
    """The record of a row, whose partition is -1 if it follows from the key."""
    partition = -1 if row["partition"] is None else row["partition"]
    return Record(row["topic"], row["key"], row["value"], load_headers(row["headers"]), partition)


async def take_over(raw: asyncpg.Connection, schema: str) -> None:
    """Copy the outbox rows of a rebuild's schema into the live outbox, so that the relay sends them."""
    columns = ", ".join(COLUMNS)
    await raw.execute(
        f"INSERT INTO public.outbox ({columns}) SELECT {columns} FROM {schema}.outbox ORDER BY id"  # noqa: S608 (no user input)
    )


def dump_headers(headers: Headers) -> bytes:
    """Serialize headers as MessagePack, which preserves header values that are not UTF-8."""
    return msgspec.msgpack.encode(headers)


def load_headers(raw: bytes) -> Headers:
    """The inverse of `dump_headers`."""
    return _HEADERS.decode(raw)
