"""What a service declares so that it can be verified."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from touchpoint.db.tables import Table
from touchpoint.kafka.handlers import Handlers


@dataclass(frozen=True)
class Effect:
    """Rows that follow from the log: a query with equal results on the stored and on the rebuilt tables.

    `query` selects the columns of `key`, and one text column `row` with all other values that must be equal. It refers
    to tables as `{tables}.feedback`.
    """

    name: str
    key: Sequence[str]
    query: str
    per_event: bool = False
    """Each row follows from one event alone, so it can be compared when only a part of the log was read."""
    besides: str = ""
    """A query like `query` for stored rows (`{stored}.clocks`) that are correct without an event, such as by time."""
    shown: bool = False
    """Whether a report may quote `row`, because it contains no customer data."""
    table: str = ""
    """The table it is about, if that is not `name`."""

    @classmethod
    def of(cls, table: Table[Any], key: Sequence[str], *, per_event: bool = False) -> "Effect":
        """The effect that compares all columns of a table."""
        query = f"SELECT {', '.join(key)}, {table.name}::text AS row FROM {{tables}}.{table.name}"  # noqa: S608 (our names)
        return cls(table.name, key, query, per_event)


@dataclass(frozen=True)
class Subject:
    """A consumer, its handlers and their effects; the package's entry point in the group `touchpoint.verify`."""

    consumer: str
    handlers: Handlers
    effects: Sequence[Effect] = field(default=())
    """One for each table that the handlers read or write, except the outbox."""

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables of its effects."""
        return tuple(effect.table or effect.name for effect in self.effects)
