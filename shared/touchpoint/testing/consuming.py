"""A service's consumer and relay at work in the test's own process, on a real log, until nothing is left to do."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from sqlalchemy import text

from touchpoint.contracts.base import Event
from touchpoint.db import databases
from touchpoint.db.engine import Sessions, create_engine, sessions, transaction
from touchpoint.db.relay import Relay
from touchpoint.kafka import admin, log
from touchpoint.kafka.codec import encode
from touchpoint.kafka.consumer import Consumer
from touchpoint.kafka.handlers import Handlers
from touchpoint.kafka.producer import Producer
from touchpoint.settings import KafkaSettings
from touchpoint.testing import eventually


async def append(kafka: KafkaSettings, *events: Event) -> None:
    """Write events to their topics, each under its key."""
    producer = Producer(kafka, "tests")
    await producer.start()
    try:
        errors = [error for error in await producer.send_all([encode(event) for event in events], 30) if error]
        assert not errors, errors
    finally:
        await producer.stop()


async def consume(name: str, handlers: Handlers, kafka: KafkaSettings, dsn: str, *, relay: bool = True) -> None:
    """Apply all that is in the topics of these handlers, and send all that they publish."""
    await admin.provision(kafka, {name: handlers.topics})
    engine = create_engine(dsn, name, pool_size=10, lock_timeout="1s", idle_in_transaction_session_timeout="30s")
    factory, stop = sessions(engine), asyncio.Event()
    running = [asyncio.create_task(Consumer(name, handlers, kafka, factory).run(stop))]
    if relay:
        running.append(asyncio.create_task(Relay(name, kafka, factory).run(stop)))
    try:
        async with log.connected(kafka, handlers.topics) as reader:
            ends = await reader.ends(handlers.topics)
        await eventually(lambda: _is_done(factory, name, ends, relay), 120)
    finally:
        stop.set()
        await asyncio.gather(*running)
        await engine.dispose()


async def _is_done(factory: Sessions, name: str, ends: dict[tuple[str, int], int], relay: bool) -> bool:
    async with transaction(factory) as session:
        found = text("SELECT topic, partition, next FROM offsets WHERE consumer = :name")
        standing = {(topic, partition): n for topic, partition, n in await session.execute(found, {"name": name})}
        waiting = (await session.execute(text("SELECT count(*) FROM outbox"))).scalar_one() if relay else 0
    return standing == ends and not waiting


@asynccontextmanager
async def planted(dsn: str, statement: str) -> AsyncIterator[str]:
    """A copy of a database, which nobody may be using, after something that must never happen."""
    name = urlsplit(dsn).path[1:]
    copy = await databases.create(dsn, f"{name}_planted", template=name)
    try:
        async with databases.connected(copy) as connection:
            status = await connection.execute(statement)
        assert not status.endswith(" 0"), f"nothing was planted: {status}"
        yield copy
    finally:
        await databases.drop(dsn, f"{name}_planted")
