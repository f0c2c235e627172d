"""PostgreSQL errors that are not caused by an event make no dead letters."""

from functools import partial
from urllib.parse import urlsplit

import pytest
from sqlalchemy import text
from sqlalchemy.exc import TimeoutError as NoConnectionError
from structlog.testing import capture_logs

from touchpoint.db import databases
from touchpoint.db.engine import create_engine, is_transient, sessions, transaction
from touchpoint.db.tenants import Tenants
from touchpoint.process.service import READ_ONLY, database_check
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback


async def set_read_only(dsn, value):
    """Switch the database to read-only, as an administrator or a failover does; open connections are terminated."""
    async with databases.connected(dsn) as connection:
        database = urlsplit(dsn).path[1:]
        await connection.execute("SET default_transaction_read_only = off")
        await connection.execute(f'ALTER DATABASE "{database}" SET default_transaction_read_only = {value}')
        if value == "on":
            await connection.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )


async def state_is(ledger, state):
    stored = await ledger.state()
    return stored if stored.state == state else None


async def dead_letters(ledger, count):
    letters = await ledger.query("SELECT reason FROM dead_letters")
    return letters if len(letters) == count else None


async def backing_off(consumer):
    why = await consumer.check()
    return why if why and why.startswith("backing off") else None


async def ids_are(ledger, expected):
    return await ledger.ids() == expected


async def test_a_consumer_retries_while_the_database_is_read_only(log, ledger, consuming):
    async with consuming() as consumer:
        await log.append(feedback(id="before"))
        await eventually(lambda: ids_are(ledger, ["before"]))
        await set_read_only(ledger.dsn, "on")
        await log.append(feedback(id="meanwhile"))
        assert (await eventually(partial(backing_off, consumer))).startswith(
            "backing off after an error: ReadOnlySQLTransactionError: 25006 cannot execute"
        )
        assert await ledger.ids() == ["before"]
        await set_read_only(ledger.dsn, "off")
        await eventually(lambda: ids_are(ledger, ["before", "meanwhile"]), 60)
        assert await ledger.query("SELECT 1 FROM dead_letters") == []


async def test_on_a_read_only_database_only_processes_that_write_are_not_ready(ledger):
    await set_read_only(ledger.dsn, "on")
    engine = create_engine(ledger.dsn, "tests")
    try:
        assert await database_check(engine)() is None
        assert await database_check(engine, writes=True)() == READ_ONLY
        assert len(await Tenants(engine).fetch("acme", "SELECT 1 WHERE caller.tenant = 'acme'")) == 1
    finally:
        await engine.dispose()


async def test_a_renamed_column_halts_the_consumer_and_makes_no_dead_letter(log, ledger, consuming, touchpoint):
    await ledger.query("ALTER TABLE ledger RENAME COLUMN position TO place")
    await log.append(*(feedback(id=f"{n}") for n in range(20)))
    with capture_logs() as logged:
        async with consuming():
            halted = await eventually(partial(state_is, ledger, "halted"))
    assert halted.reason.startswith(
        'UndefinedColumnError: 42703 column "position" of relation "ledger" does not exist, at '
    )
    assert "conftest:" in halted.reason
    assert halted.reason.endswith(" write_down")
    assert [entry["reason"] for entry in logged if entry["event"] == "consumer.halted"] == [halted.reason]
    assert await ledger.query("SELECT 1 FROM dead_letters") == []
    await ledger.query("ALTER TABLE ledger RENAME COLUMN place TO position")
    async with consuming():
        await touchpoint("consumer", "resume", "ledger-svc", "--reason", "renamed back")
        await eventually(lambda: ids_are(ledger, [str(n) for n in range(20)]))


async def test_an_operator_may_skip_events_that_do_not_fit_the_tables(log, ledger, consuming, touchpoint):
    await ledger.query("ALTER TABLE ledger RENAME COLUMN position TO place")
    await log.append(*(feedback(id=f"{n}") for n in range(3)))
    async with consuming():
        await eventually(partial(state_is, ledger, "halted"))
        await touchpoint("consumer", "resume", "ledger-svc", "--reason", "not now", "--skip", "3")
        letters = await eventually(partial(dead_letters, ledger, 3))
    assert all('column "position" of relation "ledger"' in letter.reason for letter in letters)


@pytest.mark.parametrize("state", ["42501", "28000", "25P03", "53100", "55006"])
async def test_errors_that_an_administrator_must_fix_are_retried(log, ledger, consuming, state):
    await ledger.query(
        f"""
        CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql
        AS 'BEGIN RAISE EXCEPTION USING ERRCODE = ''{state}'', MESSAGE = ''not now''; END'
        """
    )
    await ledger.query("CREATE TRIGGER refuse BEFORE INSERT ON ledger FOR EACH ROW EXECUTE FUNCTION refuse()")
    async with consuming() as consumer:
        await log.append(feedback(id="it"))
        assert f"{state} not now" in await eventually(partial(backing_off, consumer))
        await ledger.query("DROP TRIGGER refuse ON ledger")
        await eventually(lambda: ids_are(ledger, ["it"]))
    assert await ledger.query("SELECT 1 FROM dead_letters") == []
    assert (await ledger.state()).state == "running"


async def test_a_value_that_cannot_be_stored_makes_a_dead_letter_without_the_value(log, ledger, consuming):
    await ledger.query("ALTER TABLE ledger ADD CONSTRAINT no_secrets CHECK (event_id <> 'a-secret')")
    with capture_logs() as logged:
        async with consuming():
            await log.append(feedback(id="first"), feedback(id="a-secret"), feedback(id="last"))
            await eventually(lambda: ids_are(ledger, ["first", "last"]))
    [letter] = await ledger.query("SELECT error, reason FROM dead_letters")
    assert letter.reason.startswith("23514 (schema public, table ledger, constraint no_secrets), at ")
    assert "a-secret" not in letter.reason
    [entry] = [entry for entry in logged if entry["event"] == "consumer.dead_letter"]
    assert entry["reason"] == letter.reason


async def test_an_exhausted_pool_is_a_transient_error(ledger):
    engine = create_engine(ledger.dsn, "tests", pool_size=1, pool_timeout=0.1)
    async with transaction(sessions(engine)) as session:
        await session.execute(text("SELECT 1"))
        with pytest.raises(NoConnectionError) as raised:
            async with transaction(sessions(engine)) as other:
                await other.execute(text("SELECT 1"))
    await engine.dispose()
    assert is_transient(raised.value)
