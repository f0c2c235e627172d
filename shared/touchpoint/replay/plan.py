"""Plans replays: freezes the offset ranges of a repair, redrive or rebuild, and counts the expected outcomes."""

from collections import defaultdict
from collections.abc import Collection, Sequence

import asyncpg
import msgspec
from aiokafka.errors import KafkaError
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base.errors import ConflictError, UnreachableError, UsageError
from touchpoint.base.explain import explain
from touchpoint.base.settings import KafkaSettings
from touchpoint.db import dead_letters, replays
from touchpoint.db.engine import raw_connection
from touchpoint.db.replays import Plan, Range, Replay
from touchpoint.kafka import admin
from touchpoint.kafka.log import group_less
from touchpoint.replay.census import Census, Show, count
from touchpoint.replay.selection import Selection, Window
from touchpoint.replay.window import freeze, standing


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
    """Freeze a window into offset ranges, count its events, and store the plan.

    Raises UsageError if the window cannot be replayed completely, or has more than `most` records.
    """
    if "" in (selection.tenant, selection.customer):
        raise UsageError("tenant and customer may be left out, but not be empty")
    raw = await raw_connection(session)
    census = Census(raw, consumer, await _subscribed(raw, consumer, selection.types), selection)
    try:
        cluster_id = await admin.cluster_id(settings)
        async with group_less(settings) as kafka:
            ranges, behind = await freeze(raw, kafka, settings, consumer, window)
            length = sum(span.end - span.start for span in ranges)
            if most is not None and length > most:
                raise UsageError(f"the window has {length:,} records, more than {most:,}: plan it in parts, by from, "
                                 "to and partition, or with the command `touchpoint replay plan`")  # fmt: skip
            await count(kafka, settings, ranges, census, show)
    except (KafkaError, TimeoutError) as error:
        raise UnreachableError(f"Kafka at {settings.bootstrap_servers} does not answer: {explain(error)}") from None
    asked = {"from": window.since.as_texts, "to": window.until.as_texts, "partitions": sorted(window.partitions)}
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
    drop_lost: bool = False,
) -> Replay:
    """Have the worker rebuild a consumer's projections from the whole log, and compare them or (`swap`) swap them in.

    Events that Kafka has lost are in the live tables only: unless `drop_lost`, such tables are not swapped. Raises
    ConflictError if the consumer cannot be rebuilt.
    """
    raw = await raw_connection(session)
    await _subscribed(raw, consumer, ())
    if not await raw.fetchval("SELECT EXISTS (SELECT FROM projections WHERE consumer = $1)", consumer):
        raise ConflictError(f"{consumer} cannot be rebuilt: it names no tables that follow from the log")
    if other := await raw.fetchval("SELECT min(consumer) FROM offsets WHERE consumer <> $1", consumer):
        raise ConflictError(
            f"{other} shares its database and inbox with {consumer}: a swap would delete its inbox rows"
        )
    planned = await replays.create(session, await _whole_log(raw, settings, consumer), who)
    return await replays.change(
        session, str(planned.id), "run", who, reason, rate=rate, max_errors=max_errors, swap=swap, drop_lost=drop_lost
    )


async def _whole_log(raw: asyncpg.Connection, settings: KafkaSettings, consumer: str) -> Plan:
    """A plan of all records a consumer has read. Raises ConflictError if Kafka no longer has a log's beginning."""
    try:
        cluster_id = await admin.cluster_id(settings)
        async with group_less(settings) as kafka:
            logs = await standing(raw, kafka, settings, consumer)
    except (KafkaError, TimeoutError) as error:
        raise UnreachableError(f"Kafka at {settings.bootstrap_servers} does not answer: {explain(error)}") from None
    for log in logs.values():
        if log.begin > 0:
            raise ConflictError(
                f"{log}: records 0 to {log.begin - 1} are gone, deleted by retention: without them {consumer} "
                "cannot be rebuilt"
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
    """Have the worker retry the dead letters at these (topic, partition, offset), and no other record.

    Those that succeed become `redriven`, in the transaction of their effects. Raises UsageError if a replay of the
    consumer is in progress, or if the inbox was pruned at one of these offsets.
    """
    raw = await raw_connection(session)
    offsets: dict[tuple[str, int], list[int]] = defaultdict(list)
    for topic, number, offset in sorted(places):
        offsets[topic, number].append(offset)
    rows = await raw.fetch("SELECT topic, partition, cluster_id, inbox_from FROM offsets WHERE consumer = $1", consumer)
    read = {(row["topic"], row["partition"]): row for row in rows}
    for place, chosen in offsets.items():
        if place not in read or chosen[0] < read[place]["inbox_from"]:
            raise UsageError(f"{place[0]}/{place[1]}: the inbox of {consumer} no longer covers offset {chosen[0]}")
    ranges = [Range(*place, chosen[0], chosen[-1] + 1, chosen) for place, chosen in offsets.items()]
    summary = {"dead_letters": sum(map(len, offsets.values()))}
    cluster_id = rows[0]["cluster_id"] if rows else ""
    replay = await replays.create(session, Plan(consumer, "redrive", cluster_id, {}, ranges, summary), who)
    return await replays.change(session, str(replay.id), "run", who, reason, rate=rate, max_errors=max_errors)


async def redrive_all(
    session: AsyncSession, chosen: dead_letters.Selection, who: str, reason: str, *, rate: int | None = None
) -> list[Replay]:
    """Retry the selected dead letters, with one replay per consumer and any number of errors allowed; see `redrive`."""
    places = defaultdict(list)
    for letter in await dead_letters.find(session, chosen):
        places[letter["consumer"]].append((letter["topic"], letter["partition"], letter["offset"]))
    return [
        await redrive(session, consumer, its, who, reason, rate=rate, max_errors=len(its))
        for consumer, its in places.items()
    ]


async def _subscribed(raw: asyncpg.Connection, consumer: str, asked: Sequence[str]) -> frozenset[str]:
    """The event types the consumer handles. Raises UsageError if it does not handle one in `asked`."""
    rows = await raw.fetch("SELECT type FROM subscriptions WHERE consumer = $1", consumer)
    handled = frozenset(row["type"] for row in rows)
    if not handled:
        raise ConflictError(
            f"it is unknown which events {consumer} handles: start its worker once, which registers them"
        )
    if unknown := sorted(set(asked) - handled):
        raise UsageError(f"{consumer} does not handle {', '.join(unknown)}: it handles {', '.join(sorted(handled))}")
    return handled
