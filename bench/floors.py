"""The floors: minimal programs without Touchpoint's guarantees, to which the scenarios are compared."""

import asyncio
import time
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import asyncpg
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from fastapi import FastAPI

from bench import load
from bench.apart import settle
from touchpoint.base.settings import KafkaSettings
from touchpoint.http.server import listen, serve
from touchpoint.kafka.reader import BATCH_RECORDS
from touchpoint.local.process import HOST


class Sent(NamedTuple):
    """The arguments of a producer's `send` for one record."""

    topic: str
    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]

    @property
    def event_id(self) -> str:
        """The id of the record's event."""
        return dict(self.headers)["ce_id"].decode()


Group = Sequence[Sent]

CONNECTIONS = 1000
"""Connection limit of the empty route's server, far above the number that the client opens."""


async def serve_empty_route(path: str, port: int) -> None:
    """A FastAPI route with an empty response, on the same HTTP server as the services."""
    app = FastAPI()

    @app.post(path, status_code=202)
    async def empty() -> dict[str, str]:
        return {}

    await serve(app, listen(HOST, port), CONNECTIONS, asyncio.Event())


def reached(kafka: KafkaSettings) -> dict[str, Any]:
    """The Kafka settings that another process cannot read from the environment: address, topic prefix, partitions."""
    return kafka.model_dump(include={"bootstrap_servers", "topic_prefix", "partitions"})


async def records(kafka: KafkaSettings, topic: str, count: int) -> dict[str, Sent]:
    """The first `count` distinct events of a topic, by id."""
    consumer = await _consumer(kafka, kafka.topic_prefix + topic)
    await consumer.seek_to_beginning()
    by_id = dict[str, Sent]()
    while len(by_id) < count:
        r = await consumer.getone()
        sent = Sent(r.topic, r.key, r.value, list(r.headers))
        by_id.setdefault(sent.event_id, sent)
    await consumer.stop()
    return by_id


async def consume(kafka: dict[str, Any], topic: str) -> dict[str, Any]:
    """Read a topic from beginning to end with a bare consumer, at most `BATCH_RECORDS` records per poll."""
    settings = KafkaSettings(**kafka)
    consumer = await _consumer(settings, settings.topic_prefix + topic)
    await consumer.seek_to_beginning()
    end, read = sum((await consumer.end_offsets(consumer.assignment())).values()), 0
    settle()
    begun = time.perf_counter()
    while read < end:
        batches = await consumer.getmany(timeout_ms=200, max_records=BATCH_RECORDS)
        read += sum(map(len, batches.values()))
    seconds = time.perf_counter() - begun
    await consumer.stop()
    return {"value": read / seconds, "details": {"seconds": seconds, "records": read}}


async def _consumer(kafka: KafkaSettings, topic: str) -> AIOKafkaConsumer:
    consumer = AIOKafkaConsumer(**kafka.client_options())
    await consumer.start()
    consumer.assign([TopicPartition(topic, number) for number in range(kafka.partitions)])
    return consumer


async def produce(kafka: KafkaSettings, groups: Sequence[Group], lanes: int) -> dict[str, float]:
    """Send records with a bare idempotent producer, group by group, `lanes` groups concurrently.

    Each lane sends its next group after Kafka has acknowledged the previous one. Returns the `seconds` it took.
    """
    producer = AIOKafkaProducer(**kafka.client_options(), enable_idempotence=True)
    await producer.start()
    waiting = iter(groups)
    settle()
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(lanes):
            tasks.create_task(_keep_producing(producer, waiting))
    seconds = time.perf_counter() - begun
    await producer.stop()
    return {"seconds": seconds}


async def _keep_producing(producer: AIOKafkaProducer, groups: Iterator[Group]) -> None:
    for group in groups:
        await asyncio.gather(*[await producer.send(r.topic, r.value, r.key, headers=r.headers) for r in group])


async def pass_through(kafka: KafkaSettings, sent: Group, rate: float, warm: int) -> dict[str, float]:
    """Send records on a fixed schedule with a bare producer to a bare consumer; the first `warm` are not counted.

    Returns percentiles of the time from sending to receiving (`p50_ms`, `p99_ms`), and from Kafka's acknowledgement to
    receiving (`from_acknowledgement_…`).
    """
    consumer = await _consumer(kafka, sent[0].topic)
    await consumer.seek_to_end()
    producer = AIOKafkaProducer(**kafka.client_options(), enable_idempotence=True)
    await producer.start()
    settle()
    sending, acknowledged, begun = dict[str, float](), dict[str, float](), time.perf_counter()
    receiving = asyncio.create_task(_receive(consumer, len(sent)))
    async with asyncio.TaskGroup() as tasks:
        for number, record in enumerate(sent):
            await asyncio.sleep(begun + number / rate - time.perf_counter())
            sending[record.event_id] = time.perf_counter()
            tasks.create_task(_acknowledge(producer, record, acknowledged))
    received = await receiving
    await asyncio.gather(producer.stop(), consumer.stop())
    counted = [record.event_id for record in sent[warm:]]
    return {
        **load.percentiles(received[event] - sending[event] for event in counted),
        **load.percentiles((received[event] - acknowledged[event] for event in counted), "from_acknowledgement_"),
    }


async def _acknowledge(producer: AIOKafkaProducer, record: Sent, acknowledged: dict[str, float]) -> None:
    await producer.send_and_wait(record.topic, record.value, record.key, headers=record.headers)
    acknowledged[record.event_id] = time.perf_counter()


async def _receive(consumer: AIOKafkaConsumer, count: int) -> dict[str, float]:
    received = dict[str, float]()
    while len(received) < count:
        record = await consumer.getone()
        received[dict(record.headers)["ce_id"].decode()] = time.perf_counter()
    return received


class Rows(NamedTuple):
    """A table's columns and its rows in the order they were written."""

    table: str
    columns: list[str]
    rows: list[tuple[Any, ...]]


async def insert(dsn: str, tables: list[str]) -> dict[str, Any]:
    """COPY the rows of these tables into temp tables and INSERT them into copies of the tables, batch by batch.

    One connection, one transaction per batch. A batch has up to `BATCH_RECORDS` rows of the first table, and the same
    share of the other tables.
    """
    connection = await asyncpg.connect(dsn, server_settings={"jit": "off"})
    contents = [await _rows(connection, table) for table in tables]
    for table, names, _ in contents:
        await connection.execute(f"DROP TABLE IF EXISTS floor_{table}")
        await connection.execute(f"CREATE TABLE floor_{table} (LIKE {table} INCLUDING ALL)")
        await connection.execute(
            f"CREATE TEMP TABLE stage_{table} ON COMMIT DELETE ROWS AS SELECT {joined(names)} FROM {table} WITH NO DATA"
        )
    batches = -(-len(contents[0].rows) // BATCH_RECORDS)
    settle()
    begun = time.perf_counter()
    for number in range(batches):
        async with connection.transaction():
            for each in contents:
                part = slice(number * len(each.rows) // batches, (number + 1) * len(each.rows) // batches)
                await _insert(connection, each, part)
    seconds = time.perf_counter() - begun
    await connection.close()
    return {"value": len(contents[0].rows) / seconds, "details": {"seconds": seconds, "rows": len(contents[0].rows)}}


async def columns(connection: asyncpg.Connection, table: str) -> list[str]:
    """The table's columns that an INSERT sets: neither identity columns nor generated ones."""
    names = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped "
        "AND attidentity = '' AND attgenerated = '' ORDER BY attnum",
        table,
    )
    return [row["attname"] for row in names]


def joined(names: list[str]) -> str:
    """Column names as an SQL list."""
    return ", ".join(f'"{name}"' for name in names)


async def _rows(connection: asyncpg.Connection, table: str) -> Rows:
    names = await columns(connection, table)
    rows = await connection.fetch(f"SELECT {joined(names)} FROM {table} ORDER BY ctid")
    return Rows(table, names, [tuple(row) for row in rows])


async def _insert(connection: asyncpg.Connection, each: Rows, part: slice) -> None:
    await connection.copy_records_to_table(f"stage_{each.table}", records=each.rows[part], columns=each.columns)
    names = joined(each.columns)
    await connection.execute(
        f"INSERT INTO floor_{each.table} ({names}) SELECT {names} FROM stage_{each.table} ON CONFLICT DO NOTHING"
    )


_COLUMNS = """tenant_id, id, source, event_id, occurred_at, recorded_at, backfill, kind, channel, customer_id,
    score_value, score_min, score_max, text, language, survey_id, question_id, submission_id, journey_stage, product"""
_PAGE = f"SELECT {_COLUMNS} FROM feedback WHERE tenant_id = $1{{where}} ORDER BY occurred_at DESC, id DESC LIMIT $2"


async def page(connection: asyncpg.Connection, wanted: dict[str, Any], limit: int) -> Any:
    """Fetch one page, and one row more, by feedback-svc's SQL; asyncpg keeps the prepared statement."""
    tenant, more = wanted["tenant"], limit + 1
    if "customer" in wanted:
        return await connection.fetch(_PAGE.format(where=" AND customer_id = $3"), tenant, more, wanted["customer"])
    if "after" in wanted:
        moment, row_id = wanted["after"]
        after = datetime.fromisoformat(moment), UUID(row_id)
        return await connection.fetch(_PAGE.format(where=" AND (occurred_at, id) < ($3, $4)"), tenant, more, *after)
    return await connection.fetch(_PAGE.format(where=""), tenant, more)


async def select(dsn: str, pages: list[dict[str, Any]], limit: int, connections: int) -> dict[str, float]:
    """Read pages over several connections, one page at a time on each, without converting the rows."""
    pool = [await asyncpg.connect(dsn, server_settings={"jit": "off"}) for _ in range(connections)]
    waiting = iter(pages)
    settle()
    begun = time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        for connection in pool:
            tasks.create_task(_keep_selecting(connection, waiting, limit))
    seconds = time.perf_counter() - begun
    for connection in pool:
        await connection.close()
    return {"seconds": seconds}


async def _keep_selecting(connection: asyncpg.Connection, pages: Iterator[dict[str, Any]], limit: int) -> None:
    for wanted in pages:
        await page(connection, wanted, limit)
