"""Faults of a running system: each context manager injects a fault, and cleans up after the system has recovered."""

import asyncio
import json
import random
import socket
import struct
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import asyncpg
import httpx

from touchpoint.base import database_url
from touchpoint.db import databases
from touchpoint.kafka import admin
from touchpoint.testing import eventually
from touchpoint.testing.servers import Mortal
from touchpoint.testing.system import READS, Part, System

from .load import SOURCE

FROZEN_SECONDS = 15
"""More than the ten seconds after which the consumer group removes a silent member."""
GONE_SECONDS = 60
REFUSING_SECONDS = 3
GATEWAY: Part = ("gateway", "api")
USER = "faults"
"""The services' user of PostgreSQL: not a superuser, so that its connections can be limited."""


@dataclass
class Stage:
    """The system and its servers; `struck` is the time from which the current fault's recovery is measured."""

    system: System
    brokers: Sequence[Mortal]
    postgres: Mortal
    key: str
    chance: random.Random
    struck: float = field(default_factory=time.monotonic)

    def strike(self) -> None:
        """Measure the recovery from now on."""
        self.struck = time.monotonic()

    async def replicated(self) -> None:
        """Return once every partition is on every broker again."""

        async def all_in_sync() -> bool:
            async with admin.connected(self.system.kafka) as client:
                topics = await client.describe_topics()
            return all(len(each["isr"]) == len(self.brokers) for topic in topics for each in topic["partitions"])

        await eventually(all_in_sync, 120)

    @property
    def headers(self) -> dict[str, str]:
        """The headers of a request with one event."""
        return {"Authorization": f"Bearer {self.key}", "Content-Type": "application/cloudevents+json"}

    @property
    def consumer(self) -> Part:
        """A random consumer."""
        return self.chance.choice(sorted(READS)), "consumer"

    @asynccontextmanager
    async def connected(self, database: str = "postgres") -> AsyncIterator[asyncpg.Connection]:
        """A connection as PostgreSQL's superuser, to whom no connection limit applies."""
        async with databases.connected(database_url.named(self.postgres.server.address, database)) as connection:
            yield connection


Happening = Callable[[Stage], AbstractAsyncContextManager[None]]


@dataclass(frozen=True)
class Fault:
    """A fault, and how often to inject it in a whole run (`times`) and in every test run (`smoke`)."""

    name: str
    times: int
    happen: Happening
    smoke: int = 0


@asynccontextmanager
async def consumer_killed(stage: Stage) -> AsyncIterator[None]:
    part = stage.consumer
    stage.strike()
    await stage.system.kill(part)
    stage.system.start_part(part)
    yield


@asynccontextmanager
async def gateway_killed(stage: Stage) -> AsyncIterator[None]:
    stage.strike()
    await stage.system.kill(GATEWAY)
    stage.system.start_part(GATEWAY)
    yield


@asynccontextmanager
async def postgres_killed(stage: Stage) -> AsyncIterator[None]:
    stage.strike()
    await stage.postgres.kill()
    await stage.postgres.start()
    yield


@asynccontextmanager
async def kafka_killed(stage: Stage) -> AsyncIterator[None]:
    [broker] = stage.brokers
    stage.strike()
    await broker.kill()
    await broker.start()
    yield


@asynccontextmanager
async def kafka_gone(stage: Stage) -> AsyncIterator[None]:
    [broker] = stage.brokers
    await broker.kill()
    await asyncio.sleep(GONE_SECONDS)
    stage.strike()
    await broker.start()
    yield


@asynccontextmanager
async def one_broker_killed(stage: Stage) -> AsyncIterator[None]:
    """The other brokers continue without it; it is started again and catches up before the next fault."""
    broker = stage.chance.choice(stage.brokers)
    stage.strike()
    await broker.kill()
    yield
    await broker.start()
    await stage.replicated()


@asynccontextmanager
async def a_leader_gone(stage: Stage) -> AsyncIterator[None]:
    """The leader of a third of the partitions is down for longer than a request to it may take."""
    broker = stage.chance.choice(stage.brokers)
    stage.strike()
    await broker.kill()
    yield
    await asyncio.sleep(stage.struck + GONE_SECONDS - time.monotonic())
    await broker.start()
    await stage.replicated()


@asynccontextmanager
async def consumer_frozen(stage: Stage) -> AsyncIterator[None]:
    """Freeze a consumer, perhaps in a transaction; another member takes over its partitions; then resume it."""
    frozen = stage.consumer
    other = (frozen[0], "consumer-2")
    stage.system.start_part(other)
    await stage.system.ready([other])
    process = stage.system.process(frozen).handle
    stage.strike()
    process.suspend()
    try:
        yield
        await asyncio.sleep(stage.struck + FROZEN_SECONDS - time.monotonic())
    finally:
        process.resume()
    await stage.system.ready([frozen])
    await stage.system.stop_part(other)


@asynccontextmanager
async def member_joins_and_leaves(stage: Stage) -> AsyncIterator[None]:
    another = (stage.consumer[0], "consumer-2")
    stage.strike()
    stage.system.start_part(another)
    await stage.system.ready([another])
    await stage.system.stop_part(another)
    yield


@asynccontextmanager
async def connections_cut(stage: Stage) -> AsyncIterator[None]:
    """Send half a request, or a whole one without waiting for the response; then reset the connection."""
    stage.strike()
    for number in range(20):
        body = json.dumps(a_score(f"cut-{stage.chance.random()}", datetime.now(UTC))).encode()
        head = (
            f"POST /v1/events HTTP/1.1\r\nHost: gateway\r\nAuthorization: Bearer {stage.key}\r\n"
            f"Content-Type: application/cloudevents+json\r\nContent-Length: {len(body)}\r\n\r\n"
        ).encode()
        await asyncio.to_thread(_cut, stage.system.url, head + (body if number % 2 else body[: len(body) // 2]))
    yield


@asynccontextmanager
async def disk_full(stage: Stage) -> AsyncIterator[None]:
    """Every INSERT into an inbox raises PostgreSQL's error `disk_full`."""
    for service in READS:
        async with stage.connected(stage.system.databases[service]) as connection:
            await connection.execute(
                "CREATE FUNCTION no_space() RETURNS trigger LANGUAGE plpgsql AS "
                "$$ BEGIN RAISE EXCEPTION 'No space left on device' USING ERRCODE = 'disk_full'; END $$;"
                "CREATE TRIGGER no_space BEFORE INSERT ON inbox EXECUTE FUNCTION no_space()"
            )
    await asyncio.sleep(REFUSING_SECONDS)
    stage.strike()
    for service in READS:
        async with stage.connected(stage.system.databases[service]) as connection:
            await connection.execute("DROP FUNCTION no_space CASCADE")
    yield


@asynccontextmanager
async def no_connections(stage: Stage) -> AsyncIterator[None]:
    async with stage.connected() as connection:
        await connection.execute(f"ALTER ROLE {USER} CONNECTION LIMIT 0")
        await connection.execute(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{USER}'")
        await asyncio.sleep(REFUSING_SECONDS)
        stage.strike()
        await connection.execute(f"ALTER ROLE {USER} CONNECTION LIMIT -1")
    yield


@asynccontextmanager
async def past_and_future(stage: Stage) -> AsyncIterator[None]:
    """An event dated 1990 is accepted; one dated an hour ahead is refused."""
    stage.strike()
    answers = []
    async with httpx.AsyncClient(base_url=stage.system.url, timeout=30) as client:
        for when in (datetime(1990, 1, 1, tzinfo=UTC), datetime.now(UTC) + timedelta(hours=1)):
            event = a_score(f"of-{when.year}-{stage.chance.random()}", when)
            answers.append((await client.post("/v1/events", json=event, headers=stage.headers)).status_code)
    assert answers == [202, 422], answers
    yield


@asynccontextmanager
async def everything_stopped(stage: Stage) -> AsyncIterator[None]:
    parts = stage.system.parts
    stage.strike()
    codes = await stage.system.terminate()
    assert set(codes.values()) == {0}, codes
    for part in parts:
        stage.system.start_part(part)
    yield
    await stage.system.ready(parts)


OF_KAFKA = {
    1: (Fault("Kafka killed", 10, kafka_killed, smoke=1), Fault("Kafka gone for 60 s", 1, kafka_gone)),
    3: (
        Fault("one of three brokers killed", 10, one_broker_killed, smoke=1),
        Fault("a leader gone for 60 s", 2, a_leader_gone),
    ),
}
FAULTS = (
    Fault("consumer killed", 30, consumer_killed, smoke=1),
    Fault("gateway killed", 10, gateway_killed, smoke=1),
    Fault("PostgreSQL killed", 10, postgres_killed, smoke=1),
    Fault("consumer frozen, then woken", 10, consumer_frozen),
    Fault("member joins and leaves", 20, member_joins_and_leaves),
    Fault("20 connections cut", 10, connections_cut, smoke=1),
    Fault("disk full for 3 s", 10, disk_full),
    Fault("no connections for 3 s", 10, no_connections),
    Fault("events from past and future", 10, past_and_future, smoke=1),
    Fault("SIGTERM of everything", 20, everything_stopped),
)
""""Killed" is always by SIGKILL. Recovery is measured from the end of the cause."""


def a_score(event_id: str, when: datetime, source: str = f"{SOURCE}/beside") -> dict[str, object]:
    """Feedback with a score, sent in addition to the load."""
    data = {"kind": "nps", "channel": "web", "score": {"value": 9, "min": 0, "max": 10}}
    about = {"id": event_id, "source": source, "type": "feedback.submitted", "time": when.isoformat()}
    return {"specversion": "1.0", **about, "data": data}


def _cut(url: str, sent: bytes) -> None:
    host, port = url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))  # closing sends a reset
        connection.sendall(sent)
