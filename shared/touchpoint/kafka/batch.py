"""One batch in one transaction: fence, claim, handlers, outbox. The live consumer and a replay call the same code."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

import asyncpg
import msgspec
from prometheus_client import Counter as Metric
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base import sqlstates, telemetry
from touchpoint.base.bulk import BulkHistogram
from touchpoint.base.errors import PermanentError, TransientError
from touchpoint.base.explain import kind, text, where
from touchpoint.contracts.base import Event
from touchpoint.contracts.record import DecodeError, Record, decode, fingerprint
from touchpoint.db import inbox, offsets
from touchpoint.db.engine import Sessions, is_transient, raw_connection, transaction, verdict
from touchpoint.db.inbox import Claim, Claimed
from touchpoint.db.offsets import FenceLostError, Move, Place
from touchpoint.db.spans import taping
from touchpoint.kafka import dead_letter
from touchpoint.kafka.dead_letter import DeadLetter
from touchpoint.kafka.handlers import Context, Handlers
from touchpoint.kafka.spans import tell_applied

TWO_LANES_FROM = 500
"""Records in a batch from which on it is applied in two transactions."""


class HaltError(Exception):
    """The consumer must stop and wait for a person; the message says why."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A record of the batch and what became of it: an event with its claim, a dead letter, or nothing for us.

    `prepared` is what the handlers get of the event; None when that failed. `settled`: a replay knows without asking.
    """

    record: Record
    event: Event | None = None
    claim: Claim | None = None
    prepared: list[Any] | None = None
    dead: DeadLetter | None = None
    settled: Literal["erased", "duplicate"] | None = None


def decoded(record: Record, handlers: Handlers) -> Entry:
    """A record's entry in a batch: all that can be done before its transaction."""
    try:
        event = decode(record, handlers.events)
    except DecodeError as error:
        return Entry(record, dead=DeadLetter(record, error.stage, type(error).__name__, str(error)))
    if event is None:
        return Entry(record)
    claim = Claim.of(event, record)
    try:
        return Entry(record, event, claim, handlers.prepare(event))
    except Exception:  # to be tried again, and to fail, where the event is handled: if it is new at all
        return Entry(record, event, claim)


class Fence(Protocol):
    """What lets each record through once: the live consumer's offsets, or a replay's checkpoint."""

    async def open(self, raw: asyncpg.Connection, part: Sequence[Entry], moves: Sequence[Move]) -> Sequence[Entry]:
        """First in the batch's transaction: move on, and answer the entries as they are to be applied.

        Raises FenceLostError when someone else has moved on, or nobody may.
        """

    async def close(self, raw: asyncpg.Connection, part: Sequence[Entry], claimed: Claimed) -> None:
        """Last in the transaction: take down what became of the entries."""


@dataclass(frozen=True, slots=True)
class LiveFence:
    """The consumer's offsets. They say it all."""

    consumer: str

    async def open(self, raw: asyncpg.Connection, part: Sequence[Entry], moves: Sequence[Move]) -> Sequence[Entry]:
        """Move the offsets."""
        await offsets.advance(raw, self.consumer, moves)
        return part

    async def close(self, raw: asyncpg.Connection, part: Sequence[Entry], claimed: Claimed) -> None:
        """Nothing is left to do."""


class Limit(Protocol):
    """When to stop because of too many failures; True stands for one.

    `may_skip`: this many may become dead letters whatever their cause, because an operator allowed it.
    """

    may_skip: int

    def exceeded_by(self, outcomes: Sequence[bool]) -> str | None:
        """Why these, on top of what was counted, are too many; None if they are not."""

    def count(self, outcomes: Sequence[bool]) -> None:
        """Take in the outcomes of a batch that was committed."""


@dataclass(slots=True)
class Batches:
    """Applies a consumer's batches, behind a fence, and keeps count of its dead letters in `limit` and `records`."""

    consumer: str
    handlers: Handlers
    sessions: Sessions
    limit: Limit
    fence: Fence
    records: Metric = telemetry.RECORDS
    ages: BulkHistogram | None = None
    """Where the age of what is applied is noted; a replay's says nothing."""
    operation: str = "process"
    """How traces call what is done here with an event."""
    _failing: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    """Held from asking the limit until the failure is counted: two lanes would each take the last one allowed."""

    async def apply(self, entries: Sequence[Entry], starts: dict[Place, int]) -> None:
        """Apply entries (in log order within each partition) and move `starts` on with every commit.

        An error of a handler rolls the batch back; halves are tried until the poison stands alone and becomes a dead
        letter. Raises FenceLostError, HaltError, or what is transient: the caller reads again from `starts`. An error
        for which no event is to blame, such as a missing column, halts when it comes twice in a row; dead letters are
        made of it only where an operator has allowed some.
        """
        pending = [list(entries)]
        again = False
        while pending:
            part = pending.pop()
            failing = any(entry.dead is not None for entry in part)
            try:
                async with self._failing if failing else nullcontext():
                    await self._commit(part, starts)
            except (FenceLostError, HaltError, TransientError):
                raise
            except Exception as error:
                if is_transient(error):
                    raise
                if verdict(error) == sqlstates.HALT and not self.limit.may_skip:
                    if again:
                        raise HaltError(f"{kind(error)}: {self._why(error)}") from error
                    again = True  # a migration or a swap may have passed at that moment
                    pending.append(part)
                    continue
                telemetry.RETRIES.labels(self.consumer, "bisected").inc()
                pending.extend(self._without_poison(part, error))

    def _without_poison(self, part: list[Entry], error: Exception) -> list[list[Entry]]:
        """The parts to try instead, last one first."""
        suspects = [index for index, entry in enumerate(part) if entry.event is not None]
        if not suspects:
            raise error
        if len(suspects) > 1:
            middle = suspects[len(suspects) // 2]
            return [part[middle:], part[:middle]]
        (index,) = suspects
        entry = part[index]
        letter = DeadLetter(entry.record, "handle", kind(error), self._why(error))
        meta = entry.event.meta if entry.event else None
        telemetry.log().error(
            telemetry.CONSUMER_DEAD_LETTER,
            consumer=self.consumer,
            event_id=meta and meta.id,
            trace=meta and meta.traceparent,
            fingerprint=letter.fingerprint,
            error=letter.error,
            reason=letter.reason,
        )
        return [[*part[:index], Entry(entry.record, dead=letter), *part[index + 1 :]]]

    def _why(self, error: Exception) -> str:
        """What a dead letter or a halt may say of an error: our own text whole, a stranger's without any data."""
        if isinstance(error, PermanentError):
            return str(error)[:500]
        place = where(error, self.handlers.packages) or where(error, {"touchpoint"})
        return ", ".join(filter(None, [text(error), f"at {place}" if place else ""]))

    async def _commit(self, part: Sequence[Entry], starts: dict[Place, int]) -> None:
        moves = _moves(part, starts)
        with taping() as tape:
            part, claimed = await self._transact(part, moves)
        for move in moves:
            starts[move.topic, move.partition] = move.end
        self.limit.count(_failed(part))
        self._report(part, claimed)
        if tape is not None:
            await tell_applied(tape, self.operation, self.consumer, outcomes(part, claimed))

    async def _transact(self, part: Sequence[Entry], moves: Sequence[Move]) -> tuple[Sequence[Entry], Claimed]:
        """The transaction; answers the entries as they were applied."""
        async with transaction(self.sessions) as session:
            raw = await raw_connection(session)
            part = await self.fence.open(raw, part, moves)
            letters = [entry.dead for entry in part if entry.dead is not None]
            if letters and (why := self.limit.exceeded_by(_failed(part))):
                raise HaltError(f"{why}; the last one: {letters[-1]}")
            claimed = await self._handle(session, raw, part)
            await dead_letter.write(session, self.consumer, letters)
            await self.fence.close(raw, part, claimed)
        return part, claimed

    async def _handle(self, session: AsyncSession, raw: asyncpg.Connection, part: Sequence[Entry]) -> Claimed:
        """Give the handlers those events that the inbox lets through."""
        claims = [entry.claim for entry in part if entry.claim is not None]
        claimed = await inbox.claim(raw, self.consumer, claims)
        entries = [entry for entry in part if entry.event is not None]
        new = entries if len(claimed.new) == len(entries) else [entries[index] for index in sorted(claimed.new)]
        prepared = [entry.prepared or self._prepare_again(entry) for entry in new]
        await self.handlers.handle(prepared, Context(session))
        return claimed

    def _prepare_again(self, entry: Entry) -> list[Any]:
        assert entry.event is not None
        return self.handlers.prepare(entry.event)

    def _report(self, part: Sequence[Entry], claimed: Claimed) -> None:
        counts: Counter[tuple[str, str]] = Counter()
        for entry, outcome in outcomes(part, claimed):
            topic = entry.record.topic
            if outcome == "conflict" and entry.event is not None:
                telemetry.log().warning(
                    telemetry.CONSUMER_CONFLICT, consumer=self.consumer, event_id=entry.event.meta.id, topic=topic
                )
            counts[topic, outcome] += 1
        for (topic, outcome), count in counts.items():
            self.records.labels(self.consumer, topic, outcome).inc(count)
        if self.ages is not None:
            appended = [entry.record.appended for entry in part if entry.event is not None]
            self.ages.observe(self.consumer, appended, int(time.time() * 1000))


async def in_lanes(entries: list[Entry], apply: Callable[[list[Entry]], Awaitable[None]]) -> None:
    """Apply a lot in two transactions: while one waits for PostgreSQL, the other works. Raises what a lane raises.

    Partitions owe each other nothing: two members of the group would apply them side by side as well.
    """
    lanes = [asyncio.ensure_future(apply(lane)) for lane in _lanes(entries)]
    try:
        await asyncio.wait(lanes)
    finally:
        for lane in lanes:
            lane.cancel()
        await asyncio.gather(*lanes, return_exceptions=True)
    for lane in lanes:
        lane.result()


def _lanes(entries: list[Entry]) -> list[list[Entry]]:
    """The entries in two parts, of whole partitions; few stay together: a second commit costs more than it saves."""
    if len(entries) < TWO_LANES_FROM:
        return [entries]
    odd, even = list[Entry](), list[Entry]()
    for entry in entries:
        (odd if entry.record.partition % 2 else even).append(entry)
    return [lane for lane in (even, odd) if lane]


def outcomes(part: Sequence[Entry], claimed: Claimed) -> Iterator[tuple[Entry, str]]:
    """What became of each entry: applied, duplicate, conflict, dead_lettered, erased, ignored."""
    index = 0
    for entry in part:
        if entry.event is None:
            yield entry, entry.settled or ("ignored" if entry.dead is None else "dead_lettered")
            continue
        if index in claimed.new:
            yield entry, "applied"
        else:
            yield entry, "conflict" if index in claimed.conflicts else "duplicate"
        index += 1


def _failed(part: Sequence[Entry]) -> list[bool]:
    """Of each entry that is for us, whether it has failed."""
    return [entry.dead is not None for entry in part if entry.event is not None or entry.dead is not None]


def _moves(part: Sequence[Entry], starts: dict[Place, int]) -> list[Move]:
    """How far each partition goes with these entries: from what we last stored, never from the first record."""
    last = {(entry.record.topic, entry.record.partition): entry.record for entry in part}
    return [Move(*place, starts[place], record.offset + 1, fingerprint(record)) for place, record in last.items()]
