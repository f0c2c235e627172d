"""The relay: sends the rows of the outbox to Kafka in order. One process per service is active at a time."""

import asyncio
import time
from collections.abc import Mapping, Sequence

import asyncpg
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base import telemetry
from touchpoint.base.explain import explain
from touchpoint.base.pausing import pause
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.record import Record
from touchpoint.db import locks, outbox
from touchpoint.db.engine import Sessions, blames_database, raw_connection, transaction
from touchpoint.kafka.producer import NotAcknowledgedError, Producer, RecordTooLargeError, SendError
from touchpoint.kafka.watch import TopicWatch

BATCH_ROWS = 1000
IDLE_SECONDS = 0.1
RETRY_SECONDS = 1.0
SEND_SECONDS = 15.0
"""Send timeout. Below idle_in_transaction_session_timeout: the transaction that holds the lock is idle meanwhile."""


class Relay:
    """Sends outbox rows in the order of their ids. A row that fails blocks later rows with the same key, no others.

    A row too large for Kafka is parked: it stays in the outbox with the reason, is not retried, and blocks nothing.
    Consumers tolerate a missing event as they tolerate a dead letter.

    The advisory lock is held by the transaction: PostgreSQL's idle timeout takes it from a frozen relay, and another
    relay takes over. Records sent by both arrive twice with the same id; consumers apply them once.
    """

    def __init__(
        self, service: str, settings: KafkaSettings, sessions: Sessions, watch: TopicWatch | None = None
    ) -> None:
        """`watch`: watches the topics written; nothing is sent while a deviation stops work."""
        self._service = service
        self._sessions = sessions
        self._producer = Producer(settings, f"{service} relay", watch=watch)

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop` is set, then send the remaining rows, in one round of bounded time."""
        await self._producer.start()
        try:
            while not stop.is_set():
                await pause(stop, await self._try_round())
            await self._try_round()
        finally:
            await self._producer.stop()

    async def _try_round(self) -> float:
        """Run a round; return the seconds to wait before the next one."""
        try:
            sent = await self.round()
        except Exception as error:
            if not blames_database(error):
                raise
            telemetry.RELAY_FAILURES.inc()
            telemetry.log().warning(telemetry.RELAY_FAILED, service=self._service, error=explain(error))
            return RETRY_SECONDS
        if sent is None:
            return RETRY_SECONDS
        return 0 if sent else IDLE_SECONDS

    async def round(self) -> int | None:
        """Send the next rows, delete those acknowledged, and return the number of rows.

        None if a send failed or another relay is active.
        """
        started = time.perf_counter()
        async with transaction(self._sessions) as session:
            if not await locks.acquire(session, "relay"):
                return None
            ids, records = await self._unsent(session)
            if not records:
                return 0
            outcomes = await self._producer.send_all(records, SEND_SECONDS)
            by_row = zip(ids, outcomes, strict=True)
            parked = {row_id: str(outcome) for row_id, outcome in by_row if isinstance(outcome, RecordTooLargeError)}
            sent = _in_order(ids, records, outcomes)
            raw = await raw_connection(session)
            await raw.execute("DELETE FROM outbox WHERE id = ANY($1)", sent)
            await self._park(raw, parked)
        telemetry.RELAYED.inc(len(sent))
        telemetry.RELAY_SECONDS.observe(time.perf_counter() - started)
        if len(sent) + len(parked) < len(ids):
            telemetry.RELAY_FAILURES.inc()
            error = next(outcome for outcome in outcomes if isinstance(outcome, NotAcknowledgedError))
            telemetry.log().warning(telemetry.RELAY_FAILED, service=self._service, error=str(error))
            return None
        return len(ids)

    async def _park(self, raw: asyncpg.Connection, parked: Mapping[int, str]) -> None:
        for row_id, reason in parked.items():
            await raw.execute("UPDATE outbox SET parked = $2 WHERE id = $1", row_id, reason)
            telemetry.RELAY_PARKED.inc()
            telemetry.log().error(telemetry.RELAY_ROW_PARKED, service=self._service, row=row_id, error=reason)

    async def _unsent(self, session: AsyncSession) -> tuple[list[int], list[Record]]:
        raw = await raw_connection(session)
        rows = await raw.fetch(
            "SELECT id, topic, partition, key, value, headers FROM outbox WHERE parked IS NULL ORDER BY id LIMIT $1",
            BATCH_ROWS,
        )
        return [row["id"] for row in rows], [outbox.record(row) for row in rows]


def _in_order(ids: list[int], records: list[Record], outcomes: Sequence[SendError | None]) -> list[int]:
    """The rows that are done: acknowledged, with no failed row of the same key before them.

    A failed row is sent again, and so are all later rows of its key, to keep the order; consumers drop the duplicates.
    """
    failed, done = set(), []
    for row_id, record, outcome in zip(ids, records, outcomes, strict=True):
        lane = (record.topic, record.partition, record.key)
        if isinstance(outcome, RecordTooLargeError):
            continue
        if outcome is not None or lane in failed:
            failed.add(lane)
        else:
            done.append(row_id)
    return done
