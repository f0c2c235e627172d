"""Applies one batch in one transaction: fence, inbox, handlers, outbox. Used by the live consumer and by replays."""

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
from touchpoint.kafka.spans import emit_applied

TWO_LANES_FROM = 500
"""A batch with at least this many records is applied in two concurrent transactions."""


class HaltError(Exception):
    """The consumer must stop until an operator resumes it; the message gives the reason."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """A record of the batch: an event with its inbox claim, a dead letter, or neither (a type without a handler).

    `prepared`: the handlers' inputs made from the event; None if that failed. `settled`: the outcome, where a replay
    knows it without asking the inbox.
    """

    record: Record
    event: Event | None = None
    claim: Claim | None = None
    prepared: list[Any] | None = None
    dead: DeadLetter | None = None
    settled: Literal["erased", "duplicate"] | None = None


def decoded(record: Record, handlers: Handlers) -> Entry:
    """Decode a record and prepare it for the handlers: all work that needs no transaction."""
    try:
        event = decode(record, handlers.events)
    except DecodeError as error:
        return Entry(record, dead=DeadLetter(record, error.stage, type(error).__name__, str(error)))
    if event is None:
        return Entry(record)
    claim = Claim.of(event, record)
    try:
        return Entry(record, event, claim, handlers.prepare(event))
    except Exception:  # prepared again, and failed, inside the transaction, if the inbox shows that the event is new
        return Entry(record, event, claim)


class Fence(Protocol):
    """Fencing that lets each record through once: by the live consumer's offsets, or by a replay's checkpoint."""

    async def open(self, raw: asyncpg.Connection, part: Sequence[Entry], moves: Sequence[Move]) -> Sequence[Entry]:
        """First step of the batch's transaction: advance the offsets, and return the entries to apply.

        Raises FenceLostError when another process has advanced them, or the replay is not running.
        """

    async def close(self, raw: asyncpg.Connection, part: Sequence[Entry], claimed: Claimed) -> None:
        """Last step of the transaction: record the outcomes of the entries."""


@dataclass(frozen=True, slots=True)
class LiveFence:
    """Fencing by the consumer's offsets alone."""

    consumer: str

    async def open(self, raw: asyncpg.Connection, part: Sequence[Entry], moves: Sequence[Move]) -> Sequence[Entry]:
        """Advance the offsets."""
        await offsets.advance(raw, self.consumer, moves)
        return part

    async def close(self, raw: asyncpg.Connection, part: Sequence[Entry], claimed: Claimed) -> None:
        """Do nothing: outcomes are not counted in the database."""


class Limit(Protocol):
    """Decides when there are too many dead letters. In `outcomes`, True is a dead letter.

    `may_skip`: how many events may become dead letters whatever the cause, because an operator allowed it.
    """

    may_skip: int

    def exceeded_by(self, outcomes: Sequence[bool]) -> str | None:
        """Why these outcomes, added to those counted, exceed the limit; None if they do not."""

    def count(self, outcomes: Sequence[bool]) -> None:
        """Count the outcomes of a committed batch."""


@dataclass(slots=True)
class Batches:
    """Applies a consumer's batches under a fence; counts outcomes in `records` and dead letters in `limit`."""

    consumer: str
    handlers: Handlers
    sessions: Sessions
    limit: Limit
    fence: Fence
    records: Metric = telemetry.RECORDS
    ages: BulkHistogram | None = None
    """Histogram of the events' age when applied; None for a replay, whose events are old anyway."""
    operation: str = "process"
    """The operation name in traces."""
    _failing: asyncio.Lock = field(default_factory=asyncio.Lock, init=False)
    """Held from checking the limit until counting the dead letter: two lanes must not both use the last one allowed."""

    async def apply(self, entries: Sequence[Entry], starts: dict[Place, int]) -> None:
        """Apply entries (in log order within each partition) and advance `starts` with every commit.

        A handler error rolls the batch back; the batch is bisected until the poison event is alone, which becomes a
        dead letter. Raises FenceLostError, HaltError or a transient error: the caller then reads again from `starts`.
        An error that no event causes, such as a missing column, raises HaltError if it occurs twice in a row; it makes
        dead letters only where an operator has allowed some (`may_skip`).
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
                    again = True  # a migration or a swap of tables may have caused it: try once more
                    pending.append(part)
                    continue
                telemetry.RETRIES.labels(self.consumer, "bisected").inc()
                pending.extend(self._without_poison(part, error))

    def _without_poison(self, part: list[Entry], error: Exception) -> list[list[Entry]]:
        """The parts to try instead of this part, the last one first."""
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
        """The error's text for a dead letter or a halt: our own text as it is, any other without customer data."""
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
            await emit_applied(tape, self.operation, self.consumer, outcomes(part, claimed))

    async def _transact(self, part: Sequence[Entry], moves: Sequence[Move]) -> tuple[Sequence[Entry], Claimed]:
        """Run the transaction; return the entries as applied, and the inbox's answer."""
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
        """Pass the events that are new to the inbox to the handlers."""
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
    """Apply a large batch in two concurrent transactions (lanes): one works while the other waits for PostgreSQL.

    Raises what a lane raises. There is no order between partitions, so each lane gets whole partitions.
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
    """The entries, split by partition into two parts; few are not split: a second commit costs more than it saves."""
    if len(entries) < TWO_LANES_FROM:
        return [entries]
    odd, even = list[Entry](), list[Entry]()
    for entry in entries:
        (odd if entry.record.partition % 2 else even).append(entry)
    return [lane for lane in (even, odd) if lane]


def outcomes(part: Sequence[Entry], claimed: Claimed) -> Iterator[tuple[Entry, str]]:
    """The outcome of each entry: applied, duplicate, conflict, dead_lettered, erased or ignored."""
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
    """For each event or dead letter, whether it is a dead letter; records without a handler are left out."""
    return [entry.dead is not None for entry in part if entry.event is not None or entry.dead is not None]


def _moves(part: Sequence[Entry], starts: dict[Place, int]) -> list[Move]:
    """The offsets to advance, per partition: from the stored offset, because the first record may lie behind a gap."""
    last = {(entry.record.topic, entry.record.partition): entry.record for entry in part}
    return [Move(*place, starts[place], record.offset + 1, fingerprint(record)) for place, record in last.items()]
