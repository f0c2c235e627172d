"""Plans: which records a repair or a redrive is about, frozen, and what would become of them, counted."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import asyncpg
import msgspec
from aiokafka import AIOKafkaConsumer, ConsumerRecord
from aiokafka.errors import KafkaError
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db import dead_letters, erasures, inbox, replays
from touchpoint.db.engine import raw_connection
from touchpoint.db.replays import Plan, Range, Replay
from touchpoint.errors import ConflictError, UnreachableError, UsageError
from touchpoint.kafka import admin
from touchpoint.kafka.codec import Record
from touchpoint.kafka.log import group_less, partition
from touchpoint.kafka.reader import BATCH_RECORDS, POLL_MS, read_record
from touchpoint.kafka.replay.selection import Selection, Window, owner_of
from touchpoint.kafka.replay.window import freeze, standing
from touchpoint.settings import KafkaSettings

Show = Callable[[int, int], None]
"""Told how many records of how many were looked at."""

APPLIED_A_SECOND, PASSED_A_SECOND = 2_000, 20_000
"""Events that are new, and records that are only read: for an estimate (docs/replay.md has the figures)."""

SILENT_SECONDS = 60.0
"""Kafka may take so long for the next records."""

_NO_TYPE = "(no type)"


async def plan_repair(
    session: AsyncSession,
    settings: KafkaSettings,
    consumer: str,
    window: Window,
    selection: Selection,
    *,
    who: str,
    most: int | None = None,
    show: Show = lambda *_: None,
) -> Replay:
    """Freeze a window, count what is in it, and keep the plan.

    Raises UsageError where it cannot be replayed whole, or has more than `most` records.
    """
    if "" in (selection.tenant, selection.customer):
        raise UsageError("tenant and customer may be left out, but not be empty")
    raw = await raw_connection(session)
    census = Census(raw, consumer, await _subscribed(raw, consumer, selection.types), selection)
    try:
        cluster_id = await admin.cluster_id(settings)
        async with group_less(settings) as kafka:
            ranges, behind = await freeze(raw, kafka, settings, consumer, window)
            length = sum(one.end - one.start for one in ranges)
            if most is not None and length > most:
                raise UsageError(f"the window has {length:,} records, more than {most:,}: plan it in parts, by from, "
                                 "to and partition, or with the command `touchpoint replay plan`")  # fmt: skip
            await _read(kafka, settings, ranges, census, show)
    except (KafkaError, TimeoutError) as error:
        raise UnreachableError(f"Kafka at {settings.bootstrap_servers} does not answer: {error!r}") from None
    asked = {"from": window.since.words, "to": window.until.words, "partitions": sorted(window.partitions)}
    plan = Plan(
        consumer=consumer,
        kind="repair",
        cluster_id=cluster_id,
        filter=msgspec.to_builtins(selection) | {name: value for name, value in asked.items() if value},
        ranges=ranges,
        summary=census.summary() | {"behind": behind},
    )
    return await replays.create(session, plan, who)


async def rebuild(
    session: AsyncSession,
    settings: KafkaSettings,
    consumer: str,
    who: str,
    reason: str,
    *,
    rate: int | None = None,
    max_errors: int = replays.MAX_ERRORS,
    swap: bool = False,
) -> Replay:
    """Have the worker make a consumer's projections anew from the whole log, and compare, or `swap` them.

    Raises ConflictError where that cannot be done.
    """
    raw = await raw_connection(session)
    await _subscribed(raw, consumer, ())
    if not await raw.fetchval("SELECT EXISTS (SELECT FROM projections WHERE consumer = $1)", consumer):
        why = "commands and time have a part in what it keeps"
        raise ConflictError(f"{consumer} cannot be made anew from the log: {why}")
    if other := await raw.fetchval("SELECT min(consumer) FROM offsets WHERE consumer <> $1", consumer):
        raise ConflictError(f"{other} shares its database and inbox with {consumer}: a swap would take them away")
    planned = await replays.create(session, await _whole_log(raw, settings, consumer), who)
    return await replays.change(
        session, str(planned.id), "run", who, reason, rate=rate, max_errors=max_errors, swap=swap
    )


async def _whole_log(raw: asyncpg.Connection, settings: KafkaSettings, consumer: str) -> Plan:
    """All that a consumer has read, from the log's beginning. Raises ConflictError where that is gone."""
    try:
        cluster_id = await admin.cluster_id(settings)
        async with group_less(settings) as kafka:
            logs = await standing(raw, kafka, settings, consumer)
    except (KafkaError, TimeoutError) as error:
        raise UnreachableError(f"Kafka at {settings.bootstrap_servers} does not answer: {error!r}") from None
    for log in logs.values():
        if log.begin > 0:
            raise ConflictError(
                f"{log}: records 0 to {log.begin - 1} are gone, retention has dropped them: without them {consumer} "
                "cannot be made anew"
            )
    ranges = [Range(*place, 0, log.next) for place, log in sorted(logs.items())]
    return Plan(consumer, "rebuild", cluster_id, {}, ranges, {})


async def redrive(
    session: AsyncSession,
    consumer: str,
    places: Collection[tuple[str, int, int]],
    who: str,
    reason: str,
    *,
    rate: int | None = None,
    max_errors: int = 0,
) -> Replay:
    """Have the worker try dead letters again: those at these (topic, partition, offset), and no other record.

    Those that succeed are `redriven`, in the transaction of their effects. Raises UsageError when a replay of the
    consumer is under way, or what was applied at that time is no longer known.
    """
    raw = await raw_connection(session)
    offsets: dict[tuple[str, int], list[int]] = defaultdict(list)
    for topic, number, offset in sorted(places):
        offsets[topic, number].append(offset)
    rows = await raw.fetch("SELECT topic, partition, cluster_id, inbox_from FROM offsets WHERE consumer = $1", consumer)
    read = {(row["topic"], row["partition"]): row for row in rows}
    for place, chosen in offsets.items():
        if place not in read or chosen[0] < read[place]["inbox_from"]:
            raise UsageError(f"{place[0]}/{place[1]}: what {consumer} applied around {chosen[0]} is no longer known")
    ranges = [Range(*place, chosen[0], chosen[-1] + 1, chosen) for place, chosen in offsets.items()]
    summary = {"dead_letters": sum(map(len, offsets.values()))}
    cluster_id = rows[0]["cluster_id"] if rows else ""
    replay = await replays.create(session, Plan(consumer, "redrive", cluster_id, {}, ranges, summary), who)
    return await replays.change(session, str(replay.id), "run", who, reason, rate=rate, max_errors=max_errors)


async def redrive_all(
    session: AsyncSession, chosen: dead_letters.Selection, who: str, reason: str, *, rate: int | None = None
) -> list[Replay]:
    """Have the dead letters chosen tried again, a replay for each consumer; however many of them fail. As `redrive`."""
    places = defaultdict(list)
    for one in await dead_letters.find(session, chosen):
        places[one["consumer"]].append((one["topic"], one["partition"], one["offset"]))
    return [
        await redrive(session, consumer, its, who, reason, rate=rate, max_errors=len(its))
        for consumer, its in places.items()
    ]


async def _subscribed(raw: asyncpg.Connection, consumer: str, asked: Sequence[str]) -> frozenset[str]:
    """The types that count: those the consumer handles. Raises UsageError when it does not handle one asked for."""
    rows = await raw.fetch("SELECT type FROM subscriptions WHERE consumer = $1", consumer)
    handled = frozenset(row["type"] for row in rows)
    if not handled:
        raise ConflictError(f"it is not known which events {consumer} handles: start its worker once, it says so")
    if unknown := sorted(set(asked) - handled):
        raise UsageError(f"{consumer} does not handle {', '.join(unknown)}: it handles {', '.join(sorted(handled))}")
    return handled


async def _read(
    kafka: AIOKafkaConsumer, settings: KafkaSettings, ranges: Sequence[Range], census: "Census", show: Show
) -> None:
    total, passed = sum(one.end - one.start for one in ranges), 0
    for one in ranges:
        tp = partition(settings, (one.topic, one.partition))
        kafka.assign([tp])
        kafka.seek(tp, one.start)
        while (position := await kafka.position(tp)) < one.end:
            async with asyncio.timeout(SILENT_SECONDS):
                found: list[ConsumerRecord] = []
                while not found and await kafka.position(tp) == position:
                    found = (await kafka.getmany(timeout_ms=POLL_MS, max_records=BATCH_RECORDS)).get(tp, [])
            await census.take([read_record(one.topic, each) for each in found if each.offset < one.end])
            show(passed + min(await kafka.position(tp), one.end) - one.start, total)
        passed += one.end - one.start


@dataclass(slots=True)
class Census:
    """Counts what would become of records if they were replayed now, without decoding any."""

    raw: asyncpg.Connection
    consumer: str
    handled: frozenset[str]
    selection: Selection
    counts: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    records: int = 0
    discarded: int = 0
    _missing: set[UUID] = field(default_factory=set)
    """Of the events that are missing, so that one sent twice counts once."""

    async def take(self, records: Sequence[Record]) -> None:
        """Count records of one partition."""
        self.records += len(records)
        matching = [
            (record, kind)
            for record in records
            if ((kind := _type(record)) in self.handled or kind == _NO_TYPE) and self.selection.matches(record)
        ]
        if not matching:
            return
        chosen = [record for record, _ in matching]
        letters = await self._letters(chosen)
        erased = await erasures.among(self.raw, {owner_of(record) for record in chosen})
        identities = [inbox.identity_of(record) for record in chosen]
        applied = await inbox.known(self.raw, self.consumer, [one for one in identities if one is not None])
        for (record, kind), event in zip(matching, identities, strict=True):
            letter = letters.get(record.offset)
            if letter == "discarded":
                self.discarded += 1
            elif owner_of(record) in erased:
                self.counts[kind]["erased"] += 1
            elif event is not None and (event in applied or event in self._missing):
                self.counts[kind]["applied"] += 1
            else:
                self.counts[kind]["dead_letters" if letter == "open" else "missing"] += 1
                if event is not None:
                    self._missing.add(event)

    def summary(self) -> dict[str, Any]:
        """What the plan says of its events."""
        names = ("applied", "missing", "dead_letters", "erased")
        total = Counter[str]()
        for counts in self.counts.values():
            total.update(counts)
        types = {
            kind: {"matching": counts.total(), **{name: counts[name] for name in names}}
            for kind, counts in sorted(self.counts.items())
        }
        fresh = total["missing"] + total["dead_letters"]
        seconds = fresh / APPLIED_A_SECOND + self.records / PASSED_A_SECOND
        return {
            "types": types,
            "matching": total.total(),
            **{name: total[name] for name in names},
            "discarded": self.discarded,
            "estimated_seconds": round(seconds, 1),
        }

    async def _letters(self, records: Sequence[Record]) -> dict[int, str]:
        rows = await self.raw.fetch(
            'SELECT "offset", state FROM dead_letters '
            'WHERE consumer = $1 AND topic = $2 AND partition = $3 AND "offset" BETWEEN $4 AND $5',
            self.consumer, records[0].topic, records[0].partition, records[0].offset, records[-1].offset,
        )  # fmt: skip
        return {row["offset"]: row["state"] for row in rows}


def _type(record: Record) -> str:
    return (
        next((value for name, value in record.headers if name == "ce_type"), b"").decode(errors="replace") or _NO_TYPE
    )
