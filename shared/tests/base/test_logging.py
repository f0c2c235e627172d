"""What a log line says of an error: enough to find it, and no customer's words."""

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

WORDS = "what a customer said"


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[BaseException], str]]:
    """What the log says of an error, as a library logs it."""
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
        (lambda: int(WORDS), "builtins.ValueError"),
        (lambda: {}[WORDS], "builtins.KeyError"),
        (lambda: Form(text=WORDS), "ValidationError"),
        (lambda: json.loads(WORDS), "json.decoder.JSONDecodeError"),
    ],
)
def test_a_strangers_error_is_told_by_its_kind_and_place(logged, fail, kind):
    said = logged(caught(fail))
    assert kind in said
    assert f'test_logging.py", line {fail.__code__.co_firstlineno}' in said
    assert WORDS not in said


@pytest.mark.parametrize("error", [UsageError("set the port"), PermanentError("no such kind"), OSError(13, "denied")])
def test_our_own_errors_and_the_operating_systems_say_their_text(logged, error):
    assert str(error) in logged(error)


def test_what_led_to_an_error_and_the_parts_of_a_group_are_told_too(logged):
    def fail():
        try:
            int(WORDS)
        except ValueError as error:
            raise ExceptionGroup(WORDS, [UsageError("one"), TypeError(WORDS)]) from error

    said = logged(caught(fail))
    assert said.index("ValueError") < said.index("which led to") < said.index("ExceptionGroup") < said.index("one")
    assert "TypeError" in said
    assert WORDS not in said


@pytest.mark.parametrize(
    ("statement", "told"),
    [
        ("SELECT * FROM nowhere WHERE 'x' = :words", '42P01 relation "nowhere" does not exist'),
        ("SELECT CAST(:words AS text)::int", "22P02"),
    ],
)
async def test_postgresql_says_what_is_wrong_with_a_statement_but_no_value(logged, servers: Servers, statement, told):
    engine = create_engine(servers.dsn, "tests")
    with pytest.raises(DBAPIError) as raised:
        async with engine.connect() as connection:
            await connection.execute(text(statement), {"words": WORDS})
    await engine.dispose()
    said = logged(raised.value)
    assert told in said
    assert WORDS not in said


async def test_a_constraint_that_is_broken_shows_no_row(logged, servers: Servers):
    connection = await asyncpg.connect(servers.dsn)
    await connection.execute("CREATE TEMP TABLE remarks (words text CHECK (words = ''))")
    with pytest.raises(asyncpg.CheckViolationError, match=WORDS) as raised:
        await connection.execute("INSERT INTO remarks VALUES ($1)", WORDS)
    await connection.close()
    said = logged(raised.value)
    assert "CheckViolationError: 23514" in said
    assert WORDS not in said
