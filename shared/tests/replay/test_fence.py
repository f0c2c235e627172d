"""The basis of fencing: raw queries join the transaction, a frozen lock holder is terminated, one process wins."""

import asyncio
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from touchpoint.db import offsets
from touchpoint.db.engine import raw_connection, transaction
from touchpoint.db.offsets import FenceLostError, Move
from touchpoint.kafka import consumer as consumer_module
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback

TOPIC = "touchpoints.v1"


async def test_copy_on_the_raw_connection_is_rolled_back_with_the_session(ledger):
    with pytest.raises(RuntimeError, match="roll back"):
        async with transaction(ledger.sessions) as session:
            raw = await raw_connection(session)
            await raw.copy_records_to_table("ledger", records=[("copied",)], columns=["event_id"])
            raise RuntimeError("roll back")
    assert await ledger.ids() == []


async def test_copy_on_the_raw_connection_commits_with_the_session(ledger):
    async with transaction(ledger.sessions) as session:
        raw = await raw_connection(session)
        await raw.copy_records_to_table("ledger", records=[("copied",)], columns=["event_id"])
    assert await ledger.ids() == ["copied"]


async def test_of_two_transactions_that_move_one_fence_the_second_fails(ledger):
    await _create(ledger, {0: 0, 1: 0})
    async with transaction(ledger.sessions) as session:
        await offsets.advance(await raw_connection(session), "ledger-svc", [Move(TOPIC, 0, 0, 5)])
    with pytest.raises(FenceLostError, match="no longer at 0"):
        async with transaction(ledger.sessions) as session:
            raw = await raw_connection(session)
            await offsets.advance(raw, "ledger-svc", [Move(TOPIC, 1, 0, 9), Move(TOPIC, 0, 0, 5)])
    assert await ledger.next() == {0: 5, 1: 0}


async def test_fences_are_locked_in_the_same_order_whatever_the_order_of_the_batch(ledger):
    await _create(ledger, {0: 0, 1: 0, 2: 0})
    row = f"SELECT 1 FROM offsets WHERE topic = '{TOPIC}' AND partition = "
    async with transaction(ledger.sessions) as held, transaction(ledger.sessions) as free:
        await held.execute(text(f"{row} 1 FOR UPDATE"))
        waiting = asyncio.create_task(
            _advance(ledger, Move(TOPIC, 2, 0, 9), Move(TOPIC, 0, 0, 9), Move(TOPIC, 1, 0, 9))
        )
        ours = "datname = current_database()"  # other tests on this server wait for locks, too
        await eventually(
            lambda: ledger.query(f"SELECT 1 FROM pg_stat_activity WHERE {ours} AND wait_event_type = 'Lock'")
        )
        await free.execute(text(f"{row} 2 FOR UPDATE NOWAIT"))
        with pytest.raises(DBAPIError, match="could not obtain lock"):
            await free.execute(text(f"{row} 0 FOR UPDATE NOWAIT"))
        await free.rollback()
        await held.rollback()
        await waiting
    assert await ledger.next() == {0: 9, 1: 9, 2: 9}


async def test_a_member_that_lost_a_partition_cannot_mark_it_as_read_through(ledger):
    await _create(ledger, {0: 7})
    [now] = await ledger.query("SELECT clock_timestamp() AS at")
    async with transaction(ledger.sessions) as session:
        raw = await raw_connection(session)
        await offsets.mark_read_through(raw, "ledger-svc", [(TOPIC, 0, 6, now.at)])
    assert await ledger.query("SELECT 1 FROM offsets WHERE read_through IS NOT NULL") == []


async def test_read_through_can_move_back_after_postgresqls_clock_was_ahead(ledger):
    await _create(ledger, {0: 7})
    [now] = await ledger.query("SELECT clock_timestamp() AS at")
    for moment in (now.at + timedelta(hours=1), now.at):
        async with transaction(ledger.sessions) as session:
            await offsets.mark_read_through(await raw_connection(session), "ledger-svc", [(TOPIC, 0, 7, moment)])
    [row] = await ledger.query("SELECT read_through FROM offsets")
    assert row.read_through == now.at, "else a clock that is due within the hour would not wait for the consumer"


@pytest.mark.parametrize("frozen_in", ["idle in transaction", "the middle of a COPY"])
async def test_the_connection_of_a_frozen_process_that_holds_the_fences_lock_is_terminated(
    log, ledger, consuming, monkeypatch, frozen_in
):
    monkeypatch.setattr(consumer_module, "FROZEN_SECONDS", 0.5)
    async with consuming():
        await log.append(feedback(id="before"))
        await eventually(lambda: _ids(ledger, ["before"]))
        frozen = await _connect_like(ledger)
        release = asyncio.Event()
        holding = asyncio.create_task(_hold(frozen, frozen_in, release))
        await eventually(lambda: _locked(ledger, frozen.get_server_pid()))
        await log.append(feedback(id="after"))
        await eventually(lambda: _ids(ledger, ["before", "after"]), 30)
        release.set()
        with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
            await holding
    frozen.terminate()


async def _hold(connection, how, release):
    """Lock the rows of the offsets and stay idle."""
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("UPDATE offsets SET next = next + 100")
    if how == "the middle of a COPY":

        async def rows():
            yield b"one\n"
            await release.wait()
            yield b"two\n"

        await connection.copy_to_table("ledger", source=rows(), columns=["event_id"])
    await release.wait()
    await transaction.commit()


async def _connect_like(ledger):
    """A connection like that of another process of the same service."""
    async with transaction(ledger.sessions) as session:
        raw = await raw_connection(session)
        database = await raw.fetchval("SELECT current_database()")
        params, address = raw._params, raw._addr
    host, port = address if isinstance(address, tuple) else (address.rpartition("/")[0], None)
    return await asyncpg.connect(host=host, port=port, user=params.user, password=params.password, database=database)


async def _locked(ledger, pid):
    async with transaction(ledger.sessions) as session:
        held = text(
            "SELECT count(*) FROM pg_locks WHERE pid = :pid AND granted AND relation = 'offsets'::regclass "
            "AND mode = 'RowExclusiveLock'"
        )
        return (await session.execute(held, {"pid": pid})).scalar_one()


async def _ids(ledger, expected):
    return await ledger.ids() == expected


async def _create(ledger, begins):
    async with transaction(ledger.sessions) as session:
        raw = await raw_connection(session)
        await offsets.create(raw, "ledger-svc", "cluster", [((TOPIC, p), begin) for p, begin in begins.items()])


async def _advance(ledger, *moves):
    async with transaction(ledger.sessions) as session:
        await offsets.advance(await raw_connection(session), "ledger-svc", moves)
