"""An error in the log: its place, its class and its causes, and no customer data."""

import json
import logging
from collections.abc import Callable, Iterator

import asyncpg
import pytest
import structlog
from pydantic import BaseModel
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError

from touchpoint.base import telemetry
from touchpoint.base.errors import PermanentError, UsageError
from touchpoint.db.engine import create_engine
from touchpoint.testing.servers import Servers

CUSTOMER_TEXT = "what a customer wrote"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[BaseException], str]]:
    """A function that logs an error as a library does, and returns the log line's `exception`."""
    handlers: list[logging.Handler] = []
    monkeypatch.setattr(logging, "basicConfig", lambda **options: handlers.extend(options["handlers"]))
    telemetry.configure_logging("tests", "debug", "json")

    def log(error: BaseException) -> str:
        cause = (type(error), error, error.__traceback__)
        record = logging.LogRecord("uvicorn.error", logging.ERROR, "", 0, "Exception in ASGI application", (), cause)
        return str(json.loads(handlers[0].format(record))["exception"])

    yield log
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()


class Form(BaseModel):
    text: int


def caught(fail: Callable[[], object]) -> BaseException:
    try:
        fail()
    except BaseException as error:
        return error
    raise AssertionError("it did not fail")


@pytest.mark.parametrize(
    ("fail", "kind"),
    [
        (lambda: int(CUSTOMER_TEXT), "builtins.ValueError"),
        (lambda: {}[CUSTOMER_TEXT], "builtins.KeyError"),
        (lambda: Form(text=CUSTOMER_TEXT), "ValidationError"),
        (lambda: json.loads(CUSTOMER_TEXT), "json.decoder.JSONDecodeError"),
    ],
)
def test_an_unknown_librarys_error_is_logged_with_class_and_place_only(logged, fail, kind):
    trace = logged(caught(fail))
    assert kind in trace
    assert f'test_logging.py", line {fail.__code__.co_firstlineno}' in trace
    assert CUSTOMER_TEXT not in trace


@pytest.mark.parametrize("error", [UsageError("set the port"), PermanentError("no such kind"), OSError(13, "denied")])
def test_our_errors_and_the_operating_systems_are_logged_with_their_message(logged, error):
    assert str(error) in logged(error)


def test_causes_of_an_error_and_members_of_a_group_are_logged_too(logged):
    def fail():
        try:
            int(CUSTOMER_TEXT)
        except ValueError as error:
            raise ExceptionGroup(CUSTOMER_TEXT, [UsageError("one"), TypeError(CUSTOMER_TEXT)]) from error

    trace = logged(caught(fail))
    assert trace.index("ValueError") < trace.index("which led to") < trace.index("ExceptionGroup") < trace.index("one")
    assert "TypeError" in trace
    assert CUSTOMER_TEXT not in trace


@pytest.mark.parametrize(
    ("statement", "logged_part"),
    [
        ("SELECT * FROM nowhere WHERE 'x' = :words", '42P01 relation "nowhere" does not exist'),
        ("SELECT CAST(:words AS text)::int", "22P02"),
    ],
)
async def test_a_failed_statement_is_logged_without_its_values(logged, servers: Servers, statement, logged_part):
    engine = create_engine(servers.dsn, "tests")
    with pytest.raises(DBAPIError) as raised:
        async with engine.connect() as connection:
            await connection.execute(text(statement), {"words": CUSTOMER_TEXT})
    await engine.dispose()
    trace = logged(raised.value)
    assert logged_part in trace
    assert CUSTOMER_TEXT not in trace


async def test_a_violated_constraint_is_logged_without_the_row(logged, servers: Servers):
    connection = await asyncpg.connect(servers.dsn)
    await connection.execute("CREATE TEMP TABLE remarks (words text CHECK (words = ''))")
    with pytest.raises(asyncpg.CheckViolationError, match=CUSTOMER_TEXT) as raised:
        await connection.execute("INSERT INTO remarks VALUES ($1)", CUSTOMER_TEXT)
    await connection.close()
    trace = logged(raised.value)
    assert "CheckViolationError: 23514" in trace
    assert CUSTOMER_TEXT not in trace
