"""A rebuild: recreates projections from the whole log beside the live tables, compares them, and swaps them in.

The rebuilt tables are in a second schema (`touchpoint.db.shadow`). The live consumer keeps running; it is blocked once,
for a moment, while the rebuilt tables reach its offsets and become the live ones.
"""

import asyncio
import time

import asyncpg
from aiokafka import AIOKafkaConsumer
from sqlalchemy.ext.asyncio import AsyncSession, async_sessionmaker

from touchpoint.base import telemetry
from touchpoint.base.explain import explain
from touchpoint.base.settings import KafkaSettings
from touchpoint.base.sqlstates import LOCK_NOT_AVAILABLE
from touchpoint.db import erasures, losses, offsets, replays
from touchpoint.db.engine import Sessions, raw_connection, sqlstate, transaction
from touchpoint.db.offsets import FenceLostError
from touchpoint.db.replays import Replay
from touchpoint.db.shadow import Shadow
from touchpoint.kafka import fold
from touchpoint.kafka.batch import HaltError
from touchpoint.replay.fence import ReplayFence, ShadowFence, TrialFence
from touchpoint.replay.run import Run
from touchpoint.verify.compare import compare, find_forgotten
from touchpoint.verify.report import Fault, Report
from touchpoint.verify.subject import Effect, Subject

NEAR = 2000
"""Lag behind the live consumer, in records, that can be applied while that consumer is blocked."""
HOLD_SECONDS = 2.0
"""How long a swap blocks writers, at most, to apply the rest and empty the outbox; then it is retried later."""
LOCK_SECONDS = 2
"""Lock timeout of the swap in seconds. Readers queue behind its lock request, so for no longer than this."""
RETRY_SECONDS = 1.0
ATTEMPTS = 30
OUTBOX_SECONDS = 0.02
"""Poll interval for the outbox to become empty."""
MEMORY = "64MB"
"""work_mem for each sort of the comparison; larger sorts use PostgreSQL's temporary files."""

MOST_EXAMPLES = 20
"""The most rows listed for each kind of difference."""

INBOX = Effect(
    "inbox",
    ("event_id",),
    """SELECT event_id, concat_ws('/', topic, partition, "offset") AS row FROM {tables}.inbox""",
    shown=True,
)
"""The applied events, and the offsets they were applied from."""


class NotYetError(Exception):
    """The tables cannot be swapped now, but perhaps later; the message gives the reason."""


class Rebuild:
    """Resumed from its checkpoints: `prepare`, `check_log`, then `step` until `finished`: built or swapped."""

    def __init__(
        self, replay: Replay, subject: Subject, kafka: AIOKafkaConsumer, settings: KafkaSettings, sessions: Sessions
    ) -> None:
        self._replay = replay
        self._subject = subject
        self._kafka = kafka
        self._settings = settings
        self._sessions = sessions
        self._shadow = Shadow(f"rebuild_{str(replay.id)[:8]}", subject.projection_tables, subject.decision_tables)
        self._fence = ShadowFence(replay.id, replay.consumer, self._shadow)
        self._run = self._make_run(sessions, self._fence)
        self._attempts = 0
        self.finished = False

    async def prepare(self) -> None:
        """Create the second schema if it does not exist. Raises HaltError if that is impossible."""
        async with transaction(self._sessions) as session:
            await self._make_shadow(session)
            await replays.follow(session, self._replay.id)
        await self._run.prepare()

    async def check_log(self) -> None:
        """Raise HaltError if the log is no longer the one that was planned."""
        await self._run.check_log()

    async def step(self) -> float:
        """Build, compare or swap; returns the seconds to pause. Raises what `Batches.apply` raises."""
        if not self._run.finished:
            return await self._run.step()
        async with transaction(self._sessions) as session:
            now = await replays.get(session, str(self._replay.id))
            if (behind := await replays.behind(session, now)) > NEAR:
                await replays.follow(session, now.id)
        if behind > NEAR:
            await self._run.prepare()
        elif "compared" not in now.summary:
            await self._compare()
        elif now.swap:
            if (why := replays.last_copies(now)) is not None:
                raise HaltError(f"{why} Abort it")
            return await self._try_to_swap()
        else:
            async with transaction(self._sessions) as session:
                await replays.end(session, now.id, self._worker, state="built")
            self.finished = True
        return 0.0

    @property
    def _worker(self) -> str:
        """The actor, for the audit trail."""
        return f"{self._replay.consumer} worker"

    def _make_run(self, sessions: Sessions, fence: ReplayFence, *, alone: bool = False) -> Run:
        handlers = self._subject.handlers
        return Run(self._replay, handlers, self._kafka, self._settings, sessions, fence=fence, alone=alone)

    async def _make_shadow(self, session: AsyncSession) -> None:
        raw = await raw_connection(session)
        if await self._shadow.exists(raw):
            return
        if any(checkpoint.next for checkpoint in await replays.checkpoints(session, self._replay.id)):
            raise HaltError(
                f"schema {self._shadow.schema} with the rebuilt tables is gone: abort this rebuild and start another"
            )
        if lost := await self._shadow.would_lose(raw):
            raise HaltError(f"a swap would lose {lost}: drop it first, and create it again afterwards")
        try:
            await self._shadow.create(raw)
        except asyncpg.InsufficientPrivilegeError as error:
            raise HaltError(f"the worker may not create a second schema in PostgreSQL: {explain(error)}") from None
        await replays.tell(session, self._replay.id, {"erased_before": await erasures.count(raw)})

    async def _catch_up(self, session: AsyncSession, fence: ReplayFence) -> None:
        """Apply, in this transaction, the records that the live consumer has applied and the rebuild has not."""
        connection = await session.connection()
        await replays.follow(session, self._replay.id)
        inside = async_sessionmaker(connection, expire_on_commit=False, join_transaction_mode="create_savepoint")
        run = self._make_run(inside, fence, alone=True)
        await run.prepare()
        while not run.finished:
            await run.step()

    async def _compare(self) -> None:
        """Compare the live tables with the rebuilt ones in one snapshot, and store the differences.

        Both must be at equal offsets: the missing records are applied to the rebuilt tables, and then rolled back.
        Blocks neither readers nor writers.
        """
        async with transaction(self._sessions) as session:
            await self._shadow.analyze(await raw_connection(session))
        async with self._sessions() as session:
            await session.connection(execution_options={"isolation_level": "REPEATABLE READ"})
            raw = await raw_connection(session)
            await raw.execute(f"SET LOCAL work_mem = '{MEMORY}'")
            await self._catch_up(session, TrialFence(self._replay.id, self._replay.consumer, self._shadow))
            differences = await self._differences(session, raw)
        async with transaction(self._sessions) as session:
            await replays.tell(session, self._replay.id, {"compared": differences})

    async def _differences(self, session: AsyncSession, raw: asyncpg.Connection) -> dict[str, object]:
        report = Report(self._replay.consumer, most_examples=MOST_EXAMPLES)
        await find_forgotten(raw, self._subject.effects, report, made=self._shadow.schema)
        await self._fold_on(session, raw)
        for effect in (*self._subject.effects, INBOX):
            await compare(raw, effect, report, made=self._shadow.schema)
        for row in await raw.fetch(
            f'SELECT topic, partition, "offset", event_id, type, error, reason FROM {self._shadow.schema}.dead_letters'  # noqa: S608 (no user input)
        ):
            report.find(Fault.REFUSED, row["topic"], dict(row))
        letters = "SELECT count(*) FROM dead_letters WHERE consumer = $1 AND state <> 'redriven'"
        return {
            "at": await raw.fetchval("SELECT now()"),
            "rows": report.rows,
            "findings": [finding.as_json() for finding in report.findings],
            "only_here": await losses.only_here(raw, self._replay.consumer, self._shadow.schema),
            "dead_letters_left_out": await raw.fetchval(letters, self._replay.consumer),
        }

    async def _fold_on(self, session: AsyncSession, raw: asyncpg.Connection) -> None:
        """Apply, in this transaction, the decisions that the live consumer has not read yet: the live tables have them.

        Their records are read again later, from where the live consumer is, and change nothing then.
        """
        handlers, consumer = self._subject.handlers, self._replay.consumer
        if not self._subject.decides:
            return
        await self._shadow.enter(raw)
        async for records in fold.unread(consumer, handlers, self._settings, self._sessions):
            await fold.apply(session, handlers, records)
        await fold.apply(session, handlers, await fold.unsent(raw, consumer, handlers))
        await self._shadow.leave(raw)

    async def _try_to_swap(self) -> float:
        try:
            await self._swap()
        except Exception as error:
            if (why := _why_not_yet(error)) is None:
                raise
            self._attempts += 1
            if self._attempts < ATTEMPTS:
                return RETRY_SECONDS
            raise HaltError(f"tried to swap {ATTEMPTS} times: {why}") from None
        self.finished = True
        return 0.0

    async def _swap(self) -> None:
        """Block the writers, apply the rest, and make the rebuilt tables the live ones, in one transaction."""
        async with transaction(self._sessions) as session:
            raw = await raw_connection(session)
            # If this process freezes, PostgreSQL ends the transaction and so unblocks the writers.
            await raw.execute(
                f"SET LOCAL lock_timeout = '{LOCK_SECONDS}s'; "
                f"SET LOCAL idle_in_transaction_session_timeout = '{2 * HOLD_SECONDS}s'"
            )
            if holder := await self._shadow.held_by(raw):
                raise NotYetError(f"a long transaction holds its tables: {holder}")
            await offsets.hold(raw)
            writers = time.monotonic()
            async with asyncio.timeout(HOLD_SECONDS):
                await self._catch_up(session, self._fence)
                await _wait_for_empty_outbox(raw)
                await self._fold_on(session, raw)
            await self._refuse_erased(session, raw)
            readers = time.monotonic()
            await self._shadow.replace_live(raw)
            await offsets.mark_inbox_whole(raw, self._replay.consumer)
            held = {"writers": time.monotonic() - writers, "readers": time.monotonic() - readers}
            await replays.tell(session, self._replay.id, {"held_seconds": held})
            if not await replays.end(session, self._replay.id, self._worker):
                raise FenceLostError("the rebuild was stopped")
        telemetry.log().info(telemetry.REPLAY_SWAPPED, consumer=self._replay.consumer, held_seconds=held)

    async def _refuse_erased(self, session: AsyncSession, raw: asyncpg.Connection) -> None:
        """Raise HaltError if a customer was erased meanwhile: erasure does not delete rows in the second schema."""
        await erasures.hold(raw)
        before = (await replays.get(session, str(self._replay.id))).summary["erased_before"]
        if await erasures.count(raw) != before:
            raise HaltError(
                "a customer was erased meanwhile, but is in the rebuilt tables: abort this rebuild and start another"
            )


async def _wait_for_empty_outbox(raw: asyncpg.Connection) -> None:
    """Wait until all events of the service are in Kafka, so that none from the old tables follows those of the new."""
    while await raw.fetchval("SELECT EXISTS (SELECT FROM public.outbox)"):  # noqa: ASYNC110 (the relay empties it)
        await asyncio.sleep(OUTBOX_SECONDS)


def _why_not_yet(error: Exception) -> str | None:
    """Why the tables could not be swapped now; None if a retry does not help."""
    if isinstance(error, NotYetError):
        return str(error)
    if isinstance(error, TimeoutError):
        return f"applying the rest and emptying the outbox took more than {HOLD_SECONDS:.0f} s; does the relay run?"
    if sqlstate(error) == LOCK_NOT_AVAILABLE:
        return "a long transaction holds its tables, or a consumer is frozen"
    return None
