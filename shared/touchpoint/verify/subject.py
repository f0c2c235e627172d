"""What a service tells about itself so that its promises can be checked."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from touchpoint.db.tables import Table
from touchpoint.kafka.handlers import Handlers


@dataclass(frozen=True)
class Effect:
    """Rows that follow from the log: a query that must answer the same of the stored tables and of those made anew.

    `query` has the columns of `key` and one text, `row`, of all else that must be equal; it names its tables as
    `{tables}.feedback`.
    """

    name: str
    key: Sequence[str]
    query: str
    per_event: bool = False
    """Each row follows from one event alone: it can be checked when only a part of the log is read."""
    besides: str = ""
    """A query like `query`, of stored rows (`{stored}.clocks`) that are right without an event, such as by time."""
    shown: bool = False
    """Whether a report may quote `row`: it holds nothing of a customer."""

    @classmethod
    def of(cls, table: Table[Any], key: Sequence[str], *, per_event: bool = False) -> "Effect":
        """The rows of a table, all of their columns."""
        query = f"SELECT {', '.join(key)}, {table.name}::text AS row FROM {{tables}}.{table.name}"  # noqa: S608 (our names)
        return cls(table.name, key, query, per_event)


@dataclass(frozen=True)
class Subject:
    """A consumer, its handlers, and what they do. Given by the entry point `touchpoint.verify` of its package."""

    consumer: str
    handlers: Handlers
    tables: Sequence[str] = ()
    """All that the handlers read and write, beside the outbox."""
    effects: Sequence[Effect] = field(default=())
