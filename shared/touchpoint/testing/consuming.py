"""Run a service's consumer and relay in the test's process, on a real Kafka, until all events are processed."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from sqlalchemy import TextClause, text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.base import Event
from touchpoint.contracts.record import encode
from touchpoint.db import databases, replays
from touchpoint.db.engine import Sessions, create_engine, sessions, transaction
from touchpoint.db.replays import Replay
from touchpoint.kafka import admin, log
from touchpoint.kafka.consumer import Consumer
from touchpoint.kafka.handlers import Handlers
from touchpoint.kafka.log import Log
from touchpoint.kafka.producer import Producer
from touchpoint.kafka.relay import Relay
from touchpoint.replay.plan import rebuild
from touchpoint.replay.worker import Replayer
from touchpoint.testing import eventually
from touchpoint.verify.subject import Subject


async def append(kafka: KafkaSettings, *events: Event) -> None:
    """Write events to their topics, each under its key."""
    producer = Producer(kafka, "tests")
    await producer.start()
    try:
        errors = [error for error in await producer.send_all([encode(event) for event in events], 30) if error]
        assert not errors, errors
    finally:
        await producer.stop()


@asynccontextmanager
async def working(
    name: str,
    handlers: Handlers,
    kafka: KafkaSettings,
    dsn: str,
    *,
    consumer: bool = True,
    relay: bool = True,
    projections: Subject | None = None,
) -> AsyncIterator[Sessions]:
    """Run a service's consumer, its relay, and replays of its `projections`, on its database."""
    await admin.provision(kafka, {name: handlers.topics})
    engine = create_engine(dsn, name, pool_size=10, lock_timeout="1s", idle_in_transaction_session_timeout="30s")
    factory, stop = sessions(engine), asyncio.Event()
    running = []
    if consumer:
        running.append(asyncio.create_task(Consumer(name, handlers, kafka, factory).run(stop)))
    if relay:
        running.append(asyncio.create_task(Relay(name, kafka, factory).run(stop)))
    if projections:
        running.append(asyncio.create_task(Replayer(name, handlers, kafka, factory, projections).run(stop)))
    try:
        yield factory
    finally:
        stop.set()
        await asyncio.gather(*running)
        await engine.dispose()


async def consume(name: str, handlers: Handlers, kafka: KafkaSettings, dsn: str, *, relay: bool = True) -> None:
    """Apply all events in the topics of these handlers, and send all events they publish."""
    async with working(name, handlers, kafka, dsn, relay=relay) as factory:
        await drained(name, handlers, kafka, factory, relay=relay)


async def drained(
    name: str, handlers: Handlers, kafka: KafkaSettings, factory: Sessions, *, relay: bool = True
) -> None:
    """Wait until all events in the topics are applied, and the outbox is empty."""
    async with log.connected(kafka, handlers.topics) as reader:
        await eventually(lambda: _is_done(factory, name, handlers, reader, relay), 120)


async def rebuilt(name: str, kafka: KafkaSettings, factory: Sessions) -> Replay:
    """Let a running worker rebuild and swap a consumer's projections; returns the replay once it has ended."""
    query = text("SELECT 1 FROM projections WHERE consumer = :name")
    async with transaction(factory) as session:
        await eventually(lambda: _exists(session, query, name))
        started = str((await rebuild(session, kafka, name, "tests", "a test", swap=True)).id)

    async def ended() -> Replay | None:
        async with transaction(factory) as session:
            now = await replays.get(session, started)
        return now if now.state in ("done", "failed") else None

    replay: Replay = await eventually(ended, 60)
    return replay


async def _exists(session: AsyncSession, query: TextClause, name: str) -> bool:
    return (await session.execute(query, {"name": name})).first() is not None


async def _is_done(factory: Sessions, name: str, handlers: Handlers, reader: Log, relay: bool) -> bool:
    async with transaction(factory) as session:
        waiting = (await session.execute(text("SELECT count(*) FROM outbox"))).scalar_one() if relay else 0
        ends = await reader.ends(handlers.topics)  # after the outbox: a consumer may read what its relay sends
        query = text("SELECT topic, partition, next FROM offsets WHERE consumer = :name")
        standing = {(topic, partition): n for topic, partition, n in await session.execute(query, {"name": name})}
    return standing == ends and not waiting


@asynccontextmanager
async def planted(dsn: str, statement: str) -> AsyncIterator[str]:
    """A copy of a database, with `statement` executed to plant an error. Nobody may be connected to the original."""
    name = urlsplit(dsn).path[1:]
    copy = await databases.create(dsn, f"{name}_planted", template=name)
    try:
        async with databases.connected(copy) as connection:
            status = await connection.execute(statement)
        assert not status.endswith(" 0"), f"nothing was planted: {status}"
        yield copy
    finally:
        await databases.drop(dsn, f"{name}_planted")
