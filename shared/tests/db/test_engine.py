"""Which database errors are transient."""

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from touchpoint.db.engine import create_engine, is_transient, sessions, sqlstate, transaction, transaction_on


def of_state(state):
    error = asyncpg.PostgresError("it failed")
    error.sqlstate = state
    return error


@pytest.mark.parametrize("state", ["08006", "40001", "40P01", "53100", "53300", "57014", "57P01", "55P03"])
def test_errors_of_connections_rollbacks_resources_operators_and_locks_are_transient(state):
    assert is_transient(of_state(state))
    assert is_transient(DBAPIError("SELECT 1", None, of_state(state)))


@pytest.mark.parametrize("state", ["22001", "22003", "23505", "23503", "42P01", "55000", "XX000"])
def test_errors_of_data_constraints_and_bugs_are_not_transient(state):
    assert not is_transient(of_state(state))


@pytest.mark.parametrize("error", [OSError("refused"), TimeoutError(), asyncpg.InterfaceError("closed")])
def test_a_lost_connection_is_transient(error):
    assert is_transient(error)


def test_an_error_of_our_own_is_not_transient():
    assert not is_transient(ValueError("bug"))
    assert sqlstate(ValueError("bug")) is None


async def test_an_outdated_prepared_statement_after_a_migration_is_transient(database):
    dsn = await database("touchpoint.db")
    engine = create_engine(dsn, "an old process", pool_size=1)
    for_all = text("SELECT * FROM erasures")
    async with transaction(sessions(engine)) as session:
        await session.execute(for_all)
    async with transaction_on(dsn, "a migration") as session:
        await session.execute(text("ALTER TABLE erasures ADD COLUMN added int"))
    with pytest.raises(DBAPIError) as outdated:
        async with transaction(sessions(engine)) as session:
            await session.execute(for_all)
    assert is_transient(outdated.value)
    async with transaction(sessions(engine)) as session:
        assert list((await session.execute(for_all)).keys())[-1] == "added"
    await engine.dispose()
