"""The outbox: the only way an event leaves a service. Rows commit with the effects; the relay sends them."""

from collections.abc import Iterable

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.contracts.base import Event
from touchpoint.db.engine import insert
from touchpoint.kafka.codec import Headers, Record, encode

COLUMNS = ("topic", "partition", "key", "value", "headers")

_HEADERS = msgspec.msgpack.Decoder(list[tuple[str, bytes]])


async def publish(session: AsyncSession, *events: Event) -> None:
    """Write events to the outbox, in this order. Lock the aggregate they speak of first: ids then follow versions."""
    await write(session, [encode(event) for event in events])


async def write(session: AsyncSession, records: Iterable[Record]) -> None:
    """Write records to the outbox; one with a partition is sent to that partition, the others by their key."""
    rows = [
        (r.topic, r.partition if r.partition >= 0 else None, r.key, r.value, dump_headers(r.headers)) for r in records
    ]
    await insert(session, "outbox", COLUMNS, rows)


def dump_headers(headers: Headers) -> bytes:
    """As MessagePack: header values are bytes, foreign ones in dead letters not even UTF-8, and stay what they are."""
    return msgspec.msgpack.encode([(name, value or b"") for name, value in headers])


def load_headers(raw: bytes) -> Headers:
    """The inverse of `dump_headers`."""
    return _HEADERS.decode(raw)
