"""Many mutated bodies: the gateway answers each as documented, and no accepted event becomes a dead letter.

`FUZZ_BODIES` and `FUZZ_SEED` set size and seed (see `make fuzz`). A failure prints the request in Base64.
"""

import asyncio
import ctypes
import os
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from statistics import median
from typing import Any
from urllib.parse import quote
from uuid import UUID

import asyncpg
import httpx
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import SecretStr

from gateway.app import create_app
from gateway.config import Settings
from touchpoint.contracts import record as codec
from touchpoint.contracts.base import REGISTRY
from touchpoint.contracts.record import Record
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.db.engine import create_engine
from touchpoint.db.roles import api_role
from touchpoint.testing import eventually
from touchpoint.testing.system import READS, System

from .bodies import request
from .door import Door, Sent, read

BODIES = int(os.environ.get("FUZZ_BODIES", "8000"))
SEED = int(os.environ.get("FUZZ_SEED", "4"))
ROUND = 1000
"""After each `ROUND` bodies the log is compared with the accepted events, and memory is measured. The comparison needs
memory itself, which must not grow with the length of the run."""
SHOWN = 20
AT_ONCE = 100
MAX_GROWTH_MIB = 16
"""Limit for the growth of the process's median memory from the second quarter of a run to the last; caches are full by
the second."""


class Log:
    """Reads the topic of touchpoints."""

    def __init__(self, system: System) -> None:
        self._consumer = AIOKafkaConsumer(**system.kafka.client_options())
        self._places = [TopicPartition(system.kafka.topic_prefix + TOUCHPOINTS, n) for n in range(system.partitions)]

    async def start(self) -> None:
        await self._consumer.start()
        self._consumer.assign(self._places)
        await self._consumer.seek_to_beginning()

    async def stop(self) -> None:
        await self._consumer.stop()

    async def new(self) -> list[Record]:
        """The records since the last call."""
        ends, records = await self._consumer.end_offsets(self._places), list[Record]()
        while [place for place in self._places if await self._consumer.position(place) < ends[place]]:
            for batch in (await self._consumer.getmany(timeout_ms=200)).values():
                records += [Record(TOUCHPOINTS, m.key, m.value, list(m.headers), m.partition, m.offset) for m in batch]
        return records

    async def at(self, partition: int, offset: int) -> Record:
        """Read one record again."""
        place = self._places[partition]
        self._consumer.seek(place, offset)
        while not (batch := (await self._consumer.getmany(place, timeout_ms=1000, max_records=1)).get(place)):
            pass
        [m] = batch
        return Record(TOUCHPOINTS, m.key, m.value, list(m.headers), m.partition, m.offset)


@dataclass
class Run:
    """A run and its findings."""

    door: Door
    log: Log
    lost: list[Sent] = field(default_factory=list)
    """Accepted events that are not in Kafka."""
    unasked: list[Sent] = field(default_factory=list)
    """Events that are in Kafka without being accepted, or more often than accepted."""
    unreadable: list[str] = field(default_factory=list)
    rss_mib: list[float] = field(default_factory=list)
    records: int = 0
    feedback: bytearray = field(default_factory=bytearray)
    """Identities of the events of which feedback-svc must have feedback, 16 bytes each."""
    others: bytearray = field(default_factory=bytearray)
    """Identities of all other events. Of several events with one source and id only the first is applied."""

    async def go(self, key: str) -> None:
        """Send all bodies in rounds, `AT_ONCE` concurrently."""
        for start in range(0, BODIES, ROUND):
            numbers = iter(range(start, end := min(BODIES, start + ROUND)))
            await asyncio.gather(*(self._send_all(numbers, key) for _ in range(AT_ONCE)))
            self._compare(await self.log.new())
            self.rss_mib.append(_held_mib())
            if end * SHOWN // BODIES > start * SHOWN // BODIES:
                print(f"{end:,} bodies, {self.records:,} events, {self.rss_mib[-1]:.0f} MiB", flush=True)

    def quarters(self) -> list[int]:
        """The median of the process's memory in each quarter of the run, in MiB."""
        rounds = len(self.rss_mib)
        starts = [rounds * quarter // 4 for quarter in range(4)]
        return [round(median(self.rss_mib[start : start + max(1, rounds // 4)])) for start in starts]

    async def _send_all(self, numbers, key: str) -> None:
        for number in numbers:
            await self.door.send(request(SEED, number, key))

    def _compare(self, records: list[Record]) -> None:
        logged: Counter[Sent] = Counter()
        for record in records:
            try:
                event = codec.decode(record, REGISTRY)
                logged[event.meta.source, event.meta.id, repr(read(record.value))] += 1
            except Exception as error:
                self.unreadable.append(f"{record}: {error!r}")
                continue
            identities = self.feedback if event.type == "feedback.submitted" else self.others
            identities += event.meta.identity.bytes
        self.lost += (self.door.expected - logged).elements()
        more = (logged - self.door.expected).elements()
        self.unasked += [sent for sent in more if (sent[0], sent[2]) not in self.door.repeated]
        self.records += len(records)
        self.door.expected.clear()


def _held_mib() -> float:
    """This process's memory, without the free memory that glibc keeps, which varies by 50 MiB."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)
    return psutil.Process().memory_info().rss / 2**20


@pytest.fixture(scope="module")
async def key(system) -> str:
    return await system.create_key("acme")


@pytest.fixture(scope="module")
async def run(system, key) -> AsyncIterator[Run]:
    """A run: all bodies sent to a gateway in this process, which uses the Kafka and the database of a whole system."""
    async with AsyncExitStack() as stack:
        engine = create_engine(system.dsn("gateway"), "fuzz", role=api_role("gateway"))
        stack.push_async_callback(engine.dispose)
        settings = Settings(
            kafka=system.kafka,
            database_url="postgresql:///unused",
            internal_token_secrets=[SecretStr("unused" * 6)],
            delivery_seconds=120,
        )
        app = create_app(settings, engine)
        await stack.enter_async_context(app.router.lifespan_context(app))
        run = Run(Door(app), Log(system))
        await run.log.start()
        stack.push_async_callback(run.log.stop)
        started = time.monotonic()
        await run.go(key)
        seconds = time.monotonic() - started
        print(f"\n{BODIES:,} bodies in {seconds:.0f} s, seed {SEED}: {run.records:,} events in Kafka")
        print("\n".join(f"{count:9,} {status}" for status, count in run.door.statuses.most_common()))
        print(f"RSS in MiB: at most {max(run.rss_mib):.0f}; by quarters, in the middle: {run.quarters()}")
        yield run


def test_every_body_gets_a_documented_response(run):
    assert not run.door.wrong, f"{len(run.door.wrong)} times:\n" + "\n\n".join(run.door.wrong[:5])
    assert {status[:3] for status in run.door.statuses} >= {"202", "207", "400", "401", "413", "415", "422"}


def test_kafka_has_every_accepted_event_once_and_no_other(run):
    assert (run.lost[:5], run.unasked[:5], run.unreadable[:5]) == ([], [], [])
    assert run.records > BODIES / 10


def test_memory_does_not_grow(run):
    _, second, _, last = run.quarters()
    assert last - second < MAX_GROWTH_MIB, run.rss_mib


async def test_no_accepted_event_becomes_a_dead_letter(run, system):
    await eventually(system.is_quiet, 1800)
    choked = []
    for service in READS:
        connection = await asyncpg.connect(system.dsn(service))
        letters = await connection.fetch('SELECT topic, partition, "offset", stage, error, reason FROM dead_letters')
        await connection.close()
        for letter in letters[:5]:
            choked.append((service, dict(letter), letter["topic"] == TOUCHPOINTS and await run.log.at(*letter[1:3])))
    assert choked == []


async def test_accepted_events_are_stored_and_readable(run, system, key):
    await eventually(system.is_quiet, 1800)
    connection = await asyncpg.connect(system.dsn("feedback-svc"))
    rows = await connection.fetch("SELECT DISTINCT customer_id FROM timeline ORDER BY customer_id LIMIT 1000")
    await connection.close()
    sent, others = _split(run.feedback), _split(run.others)
    async with httpx.AsyncClient(base_url=system.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        stored = [item["id"] async for item in _items(client, "/v1/feedback")]
        assert len(stored) == len(set(stored))
        assert sent - others <= {UUID(event_id).bytes for event_id in stored} <= sent
        for customer in [row["customer_id"] for row in rows]:
            path = f"/v1/customers/{quote(customer, safe='')}/timeline"
            assert [item async for item in _items(client, path)], customer


def _split(identities: bytearray) -> set[bytes]:
    return {bytes(identities[start : start + 16]) for start in range(0, len(identities), 16)}


async def _items(client: httpx.AsyncClient, path: str) -> AsyncIterator[dict[str, Any]]:
    """The items of all pages of a list."""
    query: dict[str, Any] = {"limit": 200}
    while True:
        answer = await client.get(path, params=query)
        assert answer.status_code == 200, (path, answer.text)
        page = answer.json()
        for item in page["items"]:
            yield item
        if page["next_cursor"] is None:
            return
        query["cursor"] = page["next_cursor"]
