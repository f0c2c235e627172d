"""Dead letters of a bug are redriven after its fix: the tables then equal those of a run without the bug."""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator
from contextlib import asynccontextmanager
from datetime import timedelta

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from metrics_svc.counting import repository
from metrics_svc.counting.models import Group, Moment
from metrics_svc.verify import subject
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.base import Event
from touchpoint.db import databases, replays
from touchpoint.db.engine import Sessions, transaction
from touchpoint.replay.plan import redrive
from touchpoint.replay.worker import Replayer
from touchpoint.testing import eventually
from touchpoint.testing import factories as make
from touchpoint.testing.consuming import append, consume
from touchpoint.testing.fixtures import Database
from touchpoint.verify.run import verify

CONSUMER = "metrics-svc"
CUSTOMERS, MOMENTS = 40, 20
SEGMENTS = ("retail", "industry", "retail", "industry", "public")
"""One customer in five is in the segment `public`, which the bug affects."""

EVERYTHING = """
SELECT array_agg(row ORDER BY row) FROM (
    SELECT concat_ws('/', tenant_id, metric, quarter, scale, channel, segment, tier, bucket, sum(n), sum(total)) AS row
      FROM rollups GROUP BY tenant_id, metric, quarter, scale, channel, segment, tier, bucket HAVING sum(n) <> 0
     UNION ALL SELECT changes::text FROM changes
     UNION ALL SELECT answers::text FROM answers
     UNION ALL SELECT tickets::text FROM tickets
) AS rows
"""


def log() -> Iterator[Event]:
    """Feedback, tickets and replies of every customer. Customers of other segments than `public` also change tier."""
    for number in range(CUSTOMERS):
        segment = SEGMENTS[number % len(SEGMENTS)]
        yield make.customer_updated(customer_id=f"c{number}", segment=segment, tier="key")
    for moment in range(MOMENTS):
        when = {"time": make.NOON + timedelta(minutes=moment)}
        for number in range(CUSTOMERS):
            who, ticket = {"customer_id": f"c{number}"}, {"ticket_id": f"t{number}-{moment}"}
            yield make.feedback(**who, **when, score=(number + moment) % 11)
            if moment % 4 == 0:
                yield make.ticket_opened(**who, **ticket, **when)
                yield make.ticket_replied(**who, **ticket, time=make.NOON + timedelta(minutes=moment + number))
            if moment == MOMENTS // 2 and SEGMENTS[number % len(SEGMENTS)] != "public":
                yield make.customer_updated(**who, tier="standard")


async def test_after_a_bug_is_fixed_and_its_dead_letters_redriven_the_tables_equal_a_run_without_it(
    kafka: KafkaSettings, database: Database, sessions: Sessions, dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    await append(kafka, *log())
    with monkeypatch.context() as shipped:
        shipped.setattr(repository, "read_groups", _groups_with_a_bug)
        await consume(CONSUMER, subject().handlers, kafka, dsn)
    failed = CUSTOMERS // len(SEGMENTS) * (MOMENTS + MOMENTS // 4)
    assert await _count(sessions, "open") == failed

    async with _redriven(kafka, sessions) as replay:
        assert (replay.state, replay.applied, replay.failed) == ("done", failed, 0)
    assert await _count(sessions, "redriven") == failed

    without_bug = await database("metrics_svc")
    await consume(CONSUMER, subject().handlers, kafka, without_bug)
    assert await _everything(dsn) == await _everything(without_bug)
    assert (await verify(subject(), dsn, kafka)).findings == []


read_groups = repository.read_groups


async def _groups_with_a_bug(session: AsyncSession, moments: Collection[Moment]) -> dict[Moment, Group]:
    result = await read_groups(session, moments)
    known = {"retail", "industry", "unknown"}
    return {moment: dict.fromkeys(known, group)[group.segment] for moment, group in result.items()}


@asynccontextmanager
async def _redriven(kafka: KafkaSettings, sessions: Sessions) -> AsyncIterator[replays.Replay]:
    """Have a worker redrive all dead letters; yields the replay once it has ended."""
    stop = asyncio.Event()
    worker = asyncio.create_task(Replayer(CONSUMER, subject().handlers, kafka, sessions).run(stop))
    async with transaction(sessions) as session:
        places = [
            tuple(row) for row in await session.execute(text('SELECT topic, partition, "offset" FROM dead_letters'))
        ]
        planned = await redrive(session, CONSUMER, places, "ada", "mended")

    async def ended() -> replays.Replay | None:
        async with transaction(sessions) as session:
            result = await replays.get(session, str(planned.id))
        return result if result.state in ("done", "failed") else None

    try:
        yield await eventually(ended, 60)
    finally:
        stop.set()
        await worker


async def _count(sessions: Sessions, state: str) -> int:
    async with transaction(sessions) as session:
        statement = text("SELECT count(*) FROM dead_letters WHERE state = :state")
        return int((await session.execute(statement, {"state": state})).scalar_one())


async def _everything(dsn: str) -> list[str]:
    async with databases.connected(dsn) as connection:
        rows: list[str] = await connection.fetchval(EVERYTHING)
    return rows
