"""The outbox: the only way an event leaves a service. Rows commit with the effects; the relay sends them."""

import base64
import json
from collections.abc import Iterable

from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.contracts.base import Event
from touchpoint.db.engine import raw_connection
from touchpoint.kafka.codec import Headers, Record, encode

INSERT = """
INSERT INTO outbox (topic, partition, key, value, headers)
SELECT * FROM unnest($1::text[], $2::int[], $3::bytea[], $4::bytea[], $5::bytea[])
"""


async def publish(session: AsyncSession, *events: Event) -> None:
    """Write events to the outbox, in this order. Lock the aggregate they speak of first: ids then follow versions."""
    await write(session, [encode(event) for event in events])


async def write(session: AsyncSession, records: Iterable[Record]) -> None:
    """Write records to the outbox; one with a partition is sent to that partition, the others by their key."""
    rows = [
        (r.topic, r.partition if r.partition >= 0 else None, r.key, r.value, dump_headers(r.headers)) for r in records
    ]
    if rows:
        raw = await raw_connection(session)
        await raw.execute(INSERT, *map(list, zip(*rows, strict=True)))


def dump_headers(headers: Headers) -> bytes:
    """Header values are bytes, foreign ones in dead letters not even UTF-8: base64 inside JSON keeps them whole."""
    return json.dumps([(name, base64.b64encode(value or b"").decode()) for name, value in headers]).encode()


def load_headers(raw: bytes) -> Headers:
    """The inverse of `dump_headers`."""
    return [(name, base64.b64decode(value)) for name, value in json.loads(raw)]
