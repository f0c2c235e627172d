"""Fixtures for tests of the engine: a consumer with its handlers, its database and its topics."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from aiokafka import AIOKafkaProducer
from sqlalchemy import text
from typer.testing import CliRunner

from touchpoint import cli
from touchpoint.base.errors import PermanentError
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.base import Event
from touchpoint.contracts.record import Record, encode
from touchpoint.contracts.touchpoints import FeedbackSubmitted, TicketOpened, TicketReplied
from touchpoint.db import consumers
from touchpoint.db.engine import Sessions, create_engine, sessions, transaction
from touchpoint.kafka import admin
from touchpoint.kafka.consumer import Consumer
from touchpoint.kafka.dead_letter import Limit
from touchpoint.kafka.handlers import Context, Handlers
from touchpoint.replay.worker import Replayer
from touchpoint.verify.subject import Effect, Subject

CONSUMER = "ledger-svc"

LEDGER = Effect(
    "ledger", ("event_id",), "SELECT event_id, type || position AS row FROM {tables}.ledger", per_event=True
)


@dataclass
class Ledger:
    """Handlers that write every event to the table `ledger`, and fail on demand."""

    sessions: Sessions
    dsn: str
    handlers: Handlers = field(default_factory=Handlers)
    before: Callable[[list[Any]], None] = lambda events: None
    """Called before each handler call with its events; raise in it to fail the batch."""

    def __post_init__(self) -> None:
        @self.handlers.on(FeedbackSubmitted, TicketOpened, TicketReplied)
        async def write_down(events: list[Event], ctx: Context) -> None:
            self.before(events)
            insert = text("INSERT INTO ledger (event_id, type, topic, partition, position) VALUES (:i, :t, :o, :p, :n)")
            rows = [
                {"i": e.meta.id, "t": e.type, "o": e.meta.topic, "p": e.meta.partition, "n": e.meta.offset}
                for e in events
            ]
            await ctx.session.execute(insert, rows)

    @property
    def subject(self) -> Subject:
        """What `verify` and rebuilds need to know: the consumer, its handlers, and the tables they write."""
        return Subject(CONSUMER, self.handlers, (LEDGER,))

    async def query(self, sql: str, **values: Any) -> Sequence[Any]:
        async with transaction(self.sessions) as session:
            result = await session.execute(text(sql), values)
            return result.all() if result.returns_rows else []

    async def ids(self) -> list[str]:
        """The ids of the stored events, in the order in which they were written."""
        return [row.event_id for row in await self.query("SELECT event_id FROM ledger ORDER BY seq")]

    async def next(self) -> dict[int, int]:
        """The stored offsets by partition of touchpoints.v1."""
        rows = await self.query("SELECT partition, next FROM offsets WHERE topic = 'touchpoints.v1'")
        return {row.partition: row.next for row in rows}

    async def state(self) -> consumers.ConsumerState:
        async with transaction(self.sessions) as session:
            return await consumers.state(session, CONSUMER)

    async def set_state(self, state: consumers.State, reason: str) -> None:
        async with transaction(self.sessions) as session:
            await consumers.set_state(session, CONSUMER, consumers.ConsumerState(state, reason))


@pytest.fixture
async def ledger(database: Any) -> AsyncIterator[Ledger]:
    """A database with the engine's tables and a table `ledger`."""
    dsn = await database("touchpoint.db")
    engine = create_engine(dsn, CONSUMER, pool_size=10, lock_timeout="1s", idle_in_transaction_session_timeout="30s")
    made = Ledger(sessions(engine), dsn)
    await made.query(
        "CREATE TABLE ledger (seq bigint GENERATED ALWAYS AS IDENTITY, event_id text, type text, topic text, "
        "partition int, position bigint)"
    )
    yield made
    await engine.dispose()


@pytest.fixture
def poison(ledger: Ledger) -> set[str]:
    """The ids of events that the ledger's handlers refuse."""
    bad: set[str] = set()

    def refuse(events: list[Any]) -> None:
        if any(event.meta.id in bad for event in events):
            raise PermanentError("this customer breaks us")

    ledger.before = refuse
    return bad


@dataclass
class Log:
    """Writes to Touchpoint's topics."""

    settings: KafkaSettings
    producer: AIOKafkaProducer

    async def append(self, *events: Event | Record, partition: int | None = 0) -> None:
        """Write events to one partition; None: to the partition of each event's key."""
        records = [event if isinstance(event, Record) else encode(event) for event in events]
        sent = [
            await self.producer.send(self.settings.topic_prefix + r.topic, r.value, r.key, partition, headers=r.headers)
            for r in records
        ]
        await asyncio.gather(*sent)


@pytest.fixture
async def log(kafka: KafkaSettings) -> AsyncIterator[Log]:
    """A producer, with Touchpoint's topics and the ledger's dead-letter topic created."""
    await admin.provision(kafka, {CONSUMER: ["touchpoints.v1"]})
    producer = AIOKafkaProducer(**kafka.client_options(), enable_idempotence=True)
    await producer.start()
    yield Log(kafka, producer)
    await producer.stop()


@asynccontextmanager
async def _at_work(run: Callable[[asyncio.Event], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    stop = asyncio.Event()
    task = asyncio.create_task(run(stop))
    try:
        yield
    finally:
        stop.set()
        await task


@pytest.fixture
def consuming(ledger: Ledger, kafka: KafkaSettings) -> Any:
    """A context manager in which one member of the consumer group runs."""

    @asynccontextmanager
    async def run(limit: Limit | None = None) -> AsyncIterator[Consumer]:
        consumer = Consumer(CONSUMER, ledger.handlers, kafka, ledger.sessions, limit or Limit())
        async with _at_work(consumer.run):
            yield consumer

    return run


@pytest.fixture
def touchpoint(ledger: Ledger, kafka: KafkaSettings, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs an operators' command on the ledger's database and topics, in a thread: the command has its own event loop.

    `code` is the expected exit code; instead of exit code 2 the call raises UsageError.
    """
    for name in ("bootstrap_servers", "topic_prefix", "partitions"):
        monkeypatch.setenv(f"KAFKA_{name.upper()}", str(getattr(kafka, name)))

    async def run(*arguments: str, code: int = 0) -> str:
        result = await asyncio.to_thread(
            CliRunner().invoke, cli.commands(), [*arguments, "--database-url", ledger.dsn], standalone_mode=False
        )
        if result.exception:
            raise result.exception
        assert (result.return_value or 0) == code, result.output
        return result.output

    return run


@pytest.fixture
def replaying(ledger: Ledger, kafka: KafkaSettings) -> Any:
    """A context manager in which one worker runs replays."""

    @asynccontextmanager
    async def run() -> AsyncIterator[Replayer]:
        replayer = Replayer(CONSUMER, ledger.handlers, kafka, ledger.sessions, ledger.subject)
        async with _at_work(replayer.run):
            yield replayer

    return run
