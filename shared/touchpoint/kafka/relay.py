"""The relay: sends the outbox to Kafka in order, one process per service at a time."""

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
from touchpoint.db import locks
from touchpoint.db.engine import Sessions, blames_database, raw_connection, transaction
from touchpoint.db.outbox import load_headers
from touchpoint.kafka.producer import NotAcknowledgedError, Producer, RecordTooLargeError, SendError
from touchpoint.kafka.watch import TopicWatch

BATCH_ROWS = 1000
IDLE_SECONDS = 0.1
RETRY_SECONDS = 1.0
SEND_SECONDS = 15.0
"""Below idle_in_transaction_session_timeout: while Kafka is asked, the transaction holds the relay's lock."""


class Relay:
    """Sends unsent rows in the order of their ids; a row that fails holds up those after it under its key, no other.

    A row that Kafka can never take, because it is too large, is parked: it stays in the outbox with the reason, is not
    tried again, and holds up nothing. Consumers tolerate an event that is missing as they tolerate a dead letter.

    The lock is the transaction's: a frozen relay loses it to PostgreSQL's idle timeout, and another takes over. What
    both have sent then arrives twice with the same id; consumers apply it once.
    """

    def __init__(
        self, service: str, settings: KafkaSettings, sessions: Sessions, watch: TopicWatch | None = None
    ) -> None:
        """`watch`: of the topics that are written; nothing is sent while it says that work stops."""
        self._service = service
        self._sessions = sessions
        self._producer = Producer(settings, f"{service} relay", watch=watch)

    async def run(self, stop: asyncio.Event) -> None:
        """Relay until `stop` is set, then send what is left, within bounds."""
        await self._producer.start()
        try:
            while not stop.is_set():
                await pause(stop, await self._try_round())
            await self._try_round()
        finally:
            await self._producer.stop()

    async def _try_round(self) -> float:
        """Seconds to wait before the next round."""
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
        """Send the next rows and delete those acknowledged; None when a send failed or another relay is active."""
        started = time.perf_counter()
        async with transaction(self._sessions) as session:
            if not await locks.acquire(session, "relay"):
                return None
            ids, records = await self._unsent(session)
            if not records:
                return 0
            outcomes = await self._producer.send_all(records, SEND_SECONDS)
            found = zip(ids, outcomes, strict=True)
            parked = {row_id: str(outcome) for row_id, outcome in found if isinstance(outcome, RecordTooLargeError)}
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
        return [row["id"] for row in rows], [_record(row) for row in rows]


def _in_order(ids: list[int], records: list[Record], outcomes: Sequence[SendError | None]) -> list[int]:
    """The rows that are done: acknowledged, and nothing before them under their key has to be sent again.

    What failed is sent again, and so is all after it under the same key: the copy that came too early is a duplicate.
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


def _record(row: asyncpg.Record) -> Record:
    partition = -1 if row["partition"] is None else row["partition"]
    return Record(row["topic"], row["key"], row["value"], load_headers(row["headers"]), partition)
