"""An error in one line for logs, dead letters and operators: what, in which table, at which place of our code.

Never with what was to be stored. An error's own text is repeated only where that is known to quote no customer.
"""

import traceback
from collections.abc import Collection
from types import FrameType

from aiokafka.errors import KafkaError

from touchpoint.base.errors import PermanentError, TransientError, UsageError
from touchpoint.base.sqlstates import quotes_values

_NAMES = ("schema_name", "table_name", "column_name", "constraint_name", "data_type_name")
"""What PostgreSQL names apart from its message: definitions, no values."""
_HARMLESS = (UsageError, TransientError, PermanentError, OSError, KafkaError)
LONGEST = 500


def explain(error: BaseException) -> str:
    """The kind of error and what is known of its cause, e.g. `UndefinedColumnError: 42703 column "x" …`."""
    return ": ".join(filter(None, [kind(error), text(error)]))[:LONGEST]


def kind(error: BaseException) -> str:
    """The name of its class; for a database's error of that which the driver raised."""
    return type(_of_driver(error)).__name__


def text(error: BaseException) -> str:
    """What an error says, in one line: our own words, Kafka's, the operating system's, and PostgreSQL's."""
    cause = _of_driver(error)
    if isinstance(cause, _HARMLESS):
        return " ".join(str(cause).split())
    state = getattr(cause, "sqlstate", None)
    if state is None:
        return ""
    message = "" if quotes_values(state) or not cause.args else str(cause.args[0])
    names = [f"{name.removesuffix('_name')} {found}" for name in _NAMES if (found := getattr(cause, name, None))]
    return " ".join([state, *message.split(), *([f"({', '.join(names)})"] if names else [])])


def where(error: BaseException, packages: Collection[str]) -> str | None:
    """The innermost place of these packages' own code in the traceback: `feedback_svc.repository:41 store`."""
    deepest = None
    for frame, line in traceback.walk_tb(error.__traceback__):
        if _module(frame).partition(".")[0] in packages:
            deepest = f"{_module(frame)}:{line} {frame.f_code.co_name}"
    return deepest


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", ""))


def _of_driver(error: BaseException) -> BaseException:
    """The driver's error under SQLAlchemy's two layers, else the error itself."""
    orig = getattr(error, "orig", None)
    if not isinstance(orig, BaseException):
        return error
    return orig.__cause__ if isinstance(orig.__cause__, BaseException) and hasattr(orig.__cause__, "sqlstate") else orig
