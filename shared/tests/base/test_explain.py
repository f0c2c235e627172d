"""An error in one line: enough to find its cause, and no customer data."""

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from touchpoint.base.explain import explain, where
from touchpoint.db.engine import create_engine, raw_connection, sessions, transaction

SECRET = "Ada Lovelace"

TABLE = """
CREATE TEMP TABLE remarks (
    words text CONSTRAINT words_known CHECK (words <> 'Ada Lovelace'), number int NOT NULL, UNIQUE (words)
)
"""


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        (
            "SELECT sentiment FROM remarks WHERE words = :w",
            'UndefinedColumnError: 42703 column "sentiment" does not exist',
        ),
        ("INSERT INTO remarks VALUES (:w, 1)", "CheckViolationError: 23514 (schema pg_temp"),
        ("INSERT INTO remarks VALUES (:w || '!', NULL)", "NotNullViolationError: 23502 (schema pg_temp"),
        ("INSERT INTO remarks VALUES (:w || '?', 1), (:w || '?', 2)", "UniqueViolationError: 23505 (schema pg_temp"),
        ("SELECT CAST(CAST(:w AS text) AS int)", "InvalidTextRepresentationError: 22P02"),
        ("SELECT chr(0) || :w", "ProgramLimitExceededError: 54000"),
    ],
)
async def test_an_error_of_postgresql_names_column_and_constraint_and_no_value(servers, statement, expected):
    engine = create_engine(servers.dsn, "tests", pool_size=1)
    try:
        async with engine.connect() as connection:
            await connection.execute(text(TABLE))
            with pytest.raises(DBAPIError) as raised:
                await connection.execute(text(statement), {"w": SECRET})
    finally:
        await engine.dispose()
    assert explain(raised.value).startswith(expected)
    assert explain(raised.value) == explain(raised.value.orig)
    assert SECRET not in explain(raised.value)


async def test_a_violated_constraint_is_named_without_its_detail(servers):
    connection = await asyncpg.connect(servers.dsn)
    await connection.execute(TABLE)
    with pytest.raises(asyncpg.CheckViolationError) as raised:
        await connection.execute("INSERT INTO remarks VALUES ($1, 1)", SECRET)
    await connection.close()
    line = explain(raised.value)
    assert line.endswith("table remarks, constraint words_known)")
    assert SECRET not in line


def test_an_unknown_librarys_error_is_described_by_its_class_alone():
    assert explain(ValueError(SECRET)) == "ValueError"
    assert explain(OSError(13, "denied")) == "PermissionError: [Errno 13] denied"


async def test_where_names_the_innermost_frame_of_our_packages(servers):
    engine = create_engine(servers.dsn, "tests")
    with pytest.raises(asyncpg.UndefinedTableError) as raised:
        async with transaction(sessions(engine)) as session:
            await (await raw_connection(session)).execute("SELECT * FROM nowhere")
    await engine.dispose()
    line, name = raised.value.__traceback__.tb_lineno, test_where_names_the_innermost_frame_of_our_packages.__name__
    assert where(raised.value, {__name__.partition(".")[0]}) == f"{__name__}:{line} {name}"
    assert where(raised.value, {"elsewhere"}) is None
