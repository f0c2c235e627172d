"""The outbox: the only way an event leaves a service. Rows commit with the effects; the relay sends them."""

from collections.abc import Sequence

import asyncpg
import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.contracts.base import Event
from touchpoint.contracts.record import Headers, Record, encode
from touchpoint.db.engine import insert

COLUMNS = ("topic", "partition", "key", "value", "headers")

Row = tuple[str, int | None, bytes, bytes, bytes]
"""The values of COLUMNS."""

_HEADERS = msgspec.msgpack.Decoder(list[tuple[str, bytes]])


async def publish(session: AsyncSession, *events: Event) -> None:
    """Write events to the outbox, in this order. Lock the aggregate they speak of first: ids then follow versions."""
    await write(session, [row(encode(event)) for event in events])


def row(record: Record) -> Row:
    """A record's row; one with a partition is sent to that partition, the others by their key."""
    partition = record.partition if record.partition >= 0 else None
    return record.topic, partition, record.key, record.value, dump_headers(record.headers)


async def write(session: AsyncSession, rows: Sequence[Row]) -> None:
    """Write rows to the outbox, in this order."""
    await insert(session, "outbox", COLUMNS, rows)


async def take_over(raw: asyncpg.Connection, schema: str) -> None:
    """Send what was written to the outbox of a schema of its own."""
    columns = ", ".join(COLUMNS)
    await raw.execute(
        f"INSERT INTO public.outbox ({columns}) SELECT {columns} FROM {schema}.outbox ORDER BY id"  # noqa: S608 (ours)
    )


def dump_headers(headers: Headers) -> bytes:
    """As MessagePack: header values are bytes, foreign ones in dead letters not even UTF-8, and stay what they are."""
    return msgspec.msgpack.encode(headers)


def load_headers(raw: bytes) -> Headers:
    """The inverse of `dump_headers`."""
    return _HEADERS.decode(raw)
