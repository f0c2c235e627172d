"""Many mutated records, written directly to the log: no consumer stops permanently.

At the end each record is accounted for: applied, a duplicate, ignored, a dead letter, or named in a halt; and another
tenant's events between them are all applied. `FUZZ_RECORDS` and `FUZZ_SEED` set size and seed (see `make fuzz`).
"""

import asyncio
import json
import os
import re
import time
from collections import Counter
from dataclasses import dataclass, field
from random import Random

import asyncpg
import pytest
from aiokafka.errors import KafkaError

from touchpoint.base.pausing import pause
from touchpoint.contracts.record import encode
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.kafka.packing import key_hash
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback
from touchpoint.testing.foreign import CODECS, ForeignProducer, RawRecord, batch, foreign_producer
from touchpoint.testing.system import READS, System

from .records import mutated

RECORDS = int(os.environ.get("FUZZ_RECORDS", "2000"))
SEED = int(os.environ.get("FUZZ_SEED", "4"))
GOOD = 2
"""Events of another tenant per mutated record: a consumer halts only when half of its events are dead letters."""
GOOD_BATCH = 10
MOST_MUTATED = 10
PASSING_SECONDS = 0.5
SKIP = 10_000
"""Dead letters that a consumer may write after such a halt."""


@dataclass
class Run:
    """A run and its results."""

    system: System
    written: Counter[str] = field(default_factory=Counter)
    good: list[bytes] = field(default_factory=list)
    """Identities of the other tenant's events."""
    passed: dict[str, list[str]] = field(default_factory=lambda: {consumer: [] for consumer in READS})
    """By consumer: offsets at which it halted and that it was told to skip."""
    skips: Counter[str] = field(default_factory=Counter)
    """By consumer: how often it halted because half of its recent events were dead letters."""
    ended: list[tuple[str, str]] = field(default_factory=list)
    """Processes that ended by themselves."""

    async def go(self, producer: ForeignProducer) -> None:
        """Write all records, batch by batch, mutated ones between valid ones."""
        number = 0
        while (mutated_so_far := self.written["mutated"]) < RECORDS:
            rng = Random(SEED << 33 | number)
            made = mutated(SEED, number, min(MOST_MUTATED, RECORDS - mutated_so_far))
            try:
                await producer.write(TOUCHPOINTS, key_hash(made.key) % self.system.partitions, made.raw)
                self.written["taken by Kafka"] += made.count
            except KafkaError as error:
                self.written[f"refused by Kafka: {type(error).__name__}"] += made.count
            self.written["mutated"] += made.count
            number += 1
            while self.written["good"] < GOOD * self.written["mutated"]:
                await self._write_good(producer, rng)
            if self.written["mutated"] * 20 // RECORDS > mutated_so_far * 20 // RECORDS:
                print(f"{self.written['mutated']:,} mutated, {self.written['good']:,} good", flush=True)

    async def _write_good(self, producer: ForeignProducer, rng: Random) -> None:
        """Write a batch of valid events of one customer, so to one partition."""
        first = self.written["good"]
        customer = f"C-{rng.randrange(1000)}"
        events = [
            feedback(id=f"good-{first + n}", tenant="good", customer_id=customer, submission_id=f"s-{first + n}")
            for n in range(GOOD_BATCH)
        ]
        records = [encode(event) for event in events]
        partition = key_hash(records[0].key) % self.system.partitions
        await producer.write(TOUCHPOINTS, partition, batch([RawRecord.of(r) for r in records], rng.choice(CODECS)))
        self.good += [event.meta.identity.bytes for event in events]
        self.written["good"] += len(events)

    async def let_pass(self, stop: asyncio.Event) -> None:
        """Restart ended processes, and resume halted consumers by the command that their reason names."""
        while not stop.is_set():
            self.ended += self.system.start_ended()
            for consumer in READS:
                [(state, reason)] = await self.query(
                    consumer,
                    "SELECT coalesce(max(state), 'running'), max(reason) FROM consumers WHERE consumer = $1", consumer,
                )  # fmt: skip
                if state == "halted":
                    await self.resume(consumer, reason)
            await pause(stop, PASSING_SECONDS)

    async def resume(self, consumer: str, reason: str) -> None:
        """Resume a halted consumer: past unreadable offsets, or with more dead letters allowed."""
        if "events are dead letters" in reason:
            await self.command(consumer, "consumer", "resume", consumer, "--skip", str(SKIP), "--reason", "fuzzing")
            self.skips[consumer] += 1
            return
        command = re.search(r"touchpoint (consumer resume \S+ --past (\S+))", reason)
        assert command, reason
        await self.command(consumer, *command[1].split(), "--reason", "fuzzing")
        self.passed[consumer].append(command[2])

    async def query(self, service: str, sql: str, *values: object) -> list[asyncpg.Record]:
        connection = await asyncpg.connect(self.system.dsn(service))
        try:
            return await connection.fetch(sql, *values)
        finally:
            await connection.close()

    async def command(self, service: str, *arguments: str, code: int = 0) -> str:
        """Run an operator's command on a service's database."""
        ended, printed = await self.system.command(service, *arguments)
        assert ended == code, (arguments, printed)
        return printed


@pytest.fixture(scope="module")
async def run(system: System) -> Run:
    """A run: all records written, halted consumers resumed, until no consumer has lag."""
    run, started, stop = Run(system), time.monotonic(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(run.let_pass(stop))
        async with foreign_producer(system.kafka) as producer:
            await run.go(producer)
        await eventually(system.is_quiet, 1800)
        stop.set()
    print(f"\n{RECORDS:,} mutated records, seed {SEED}, in {time.monotonic() - started:.0f} s")
    print("\n".join(f"{count:9,} {what}" for what, count in run.written.most_common()))
    for consumer, passed in run.passed.items():
        print(f"{consumer} passed {len(passed)}: {passed[:3]}; may skip, {run.skips[consumer]} times")
    return run


def test_no_process_ended_by_itself(run):
    assert run.ended == []


def test_kafka_accepted_most_records(run):
    assert run.written["taken by Kafka"] > 0.8 * RECORDS


@pytest.mark.parametrize("consumer", READS)
async def test_the_other_tenants_events_are_all_applied(run, consumer):
    [(applied,)] = await run.query(
        consumer, "SELECT count(*) FROM inbox WHERE consumer = $1 AND event_id = ANY($2::uuid[])", consumer,
        [_uuid(each) for each in run.good],
    )  # fmt: skip
    assert applied == run.written["good"] == len(run.good)


@pytest.mark.parametrize("consumer", READS)
async def test_every_record_is_accounted_for_by_verify_dlq_and_doctor(run, consumer):
    code, printed = await run.system.command(consumer, "verify", "--consumer", consumer, "--json")
    [report] = json.loads(printed)
    print(f"\n{consumer}: {report['outcomes']}, {report['published']} published")
    assert not report["findings"], json.dumps(report["findings"], indent=1)
    assert (code, report["clean"], report["pending"]) == (0, True, 0)
    assert set(report["outcomes"]) <= {"applied", "duplicate", "conflict", "ignored", "open"}
    passed = [_length(place) for place in run.passed[consumer]]
    read_as_one = len(passed)
    written = run.written["taken by Kafka"] + run.written["good"]
    own = sum(n for topic, n in await _elsewhere(run, consumer))
    assert report["records"] - own == written - sum(passed) + read_as_one

    [(letters,)] = await run.query(consumer, "SELECT count(*) FROM dead_letters WHERE consumer = $1", consumer)
    assert report["outcomes"]["open"] == letters
    causes = json.loads(await run.command(consumer, "dlq", "stats", "--consumer", consumer, "--json"))
    assert sum(cause["open"] for cause in causes) == letters > 0
    findings = json.loads(await run.command(consumer, "doctor", "--json", code=1))
    assert [(each["text"], each["page"]) for each in findings if each["where"] == f"{consumer} dead letters"] == [
        (f"{letters:,} open", "dead-letters-rise")
    ]
    assert not {"broker-down", "consumer-halted", "outbox-grows"} & {each["page"] for each in findings}


@pytest.mark.parametrize("consumer", READS)
async def test_dlq_show_names_a_remedy_for_each_cause(run, consumer):
    causes = json.loads(await run.command(consumer, "dlq", "stats", "--consumer", consumer, "--json"))
    for cause in causes[:3]:
        assert "What to try" in await run.command(consumer, "dlq", "show", cause["example"])


async def _elsewhere(run: Run, consumer: str) -> list[tuple[str, int]]:
    """The number of records that the consumer has read from topics of services, by topic."""
    rows = await run.query(
        consumer, "SELECT topic, sum(next)::int AS n FROM offsets WHERE consumer = $1 AND topic <> $2 GROUP BY topic",
        consumer, TOUCHPOINTS,
    )  # fmt: skip
    return [(row["topic"], row["n"]) for row in rows]


def _length(place: str) -> int:
    first, _, last = place.rpartition("/")[2].partition("-")
    return int(last or first) - int(first) + 1


def _uuid(raw: bytes) -> str:
    return raw.hex()
