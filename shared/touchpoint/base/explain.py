"""Describe an error in one line for logs, dead letters and operators: its kind, its table, its place in our code.

The line never contains the values of the event or row. An error's own message is included only if it is known to quote
no values.
"""

import traceback
from collections.abc import Collection
from types import FrameType

from aiokafka.errors import KafkaError

from touchpoint.base.errors import PermanentError, TransientError, UsageError
from touchpoint.base.sqlstates import quotes_values

_NAMES = ("schema_name", "table_name", "column_name", "constraint_name", "data_type_name")
"""Fields of a PostgreSQL error that name parts of the schema and never contain values."""
_HARMLESS = (UsageError, TransientError, PermanentError, OSError, KafkaError)
"""Exceptions whose messages contain no customer data."""
LONGEST = 500
"""Characters of a description, at most."""


def explain(error: BaseException) -> str:
    """The error's class and cause, such as `UndefinedColumnError: 42703 column "x" …`; at most LONGEST characters."""
    return ": ".join(filter(None, [kind(error), text(error)]))[:LONGEST]


def kind(error: BaseException) -> str:
    """The name of the error's class; for a database error that SQLAlchemy wraps, the name of the driver's class."""
    return type(_of_driver(error)).__name__


def text(error: BaseException) -> str:
    """The error's message in one line if it contains no values: ours, Kafka's, the operating system's, PostgreSQL's."""
    cause = _of_driver(error)
    if isinstance(cause, _HARMLESS):
        return " ".join(str(cause).split())
    state = getattr(cause, "sqlstate", None)
    if state is None:
        return ""
    message = "" if quotes_values(state) or not cause.args else str(cause.args[0])
    names = [f"{name.removesuffix('_name')} {value}" for name in _NAMES if (value := getattr(cause, name, None))]
    return " ".join([state, *message.split(), *([f"({', '.join(names)})"] if names else [])])


def where(error: BaseException, packages: Collection[str]) -> str | None:
    """The innermost frame of the traceback in these packages, such as `feedback_svc.repository:41 store`; else None."""
    deepest = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if _module(frame).partition(".")[0] in packages:
            deepest = f"{_module(frame)}:{line} {frame.f_code.co_name}"
    return deepest


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _of_driver(error: BaseException) -> BaseException:
    """The driver's error that SQLAlchemy has wrapped twice; any other error itself."""
    orig = getattr(error, "orig", None)
    if not isinstance(orig, BaseException):
        return error
    return orig.__cause__ if isinstance(orig.__cause__, BaseException) and hasattr(orig.__cause__, "sqlstate") else orig
