"""What a service declares so that it can be verified."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from importlib.metadata import entry_points
from typing import Any

from touchpoint.base.errors import UsageError
from touchpoint.db.tables import Table
from touchpoint.kafka.handlers import Handlers


@dataclass(frozen=True)
class Effect:
    """Rows that follow from the log: a query with equal results on the stored and on the rebuilt tables.

    `query` selects the columns of `key`, and one text column `row` with all other values that must be equal. It refers
    to tables as `{tables}.feedback`.

    The rows of a decision (`decided`) were changed by a person or a timer, which published each change to the service's
    own topic. Their query also selects `version`, an integer that each change increases: the stored row may be newer
    than the records that the consumer has read, but not newer than what is published or in the outbox.
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
    decided: bool = False

    @classmethod
    def of(cls, table: Table[Any], key: Sequence[str], *, per_event: bool = False) -> "Effect":
        """The effect that compares all columns of a table."""
        query = f"SELECT {', '.join(key)}, {table.name}::text AS row FROM {{tables}}.{table.name}"  # noqa: S608 (our names)
        return cls(table.name, key, query, per_event)

    @classmethod
    def decisions(cls, table: Table[Any], version: str) -> "Effect":
        """The effect that compares all columns of a table of decisions."""
        key = ", ".join(table.key)
        query = f"SELECT {key}, {table.name}::text AS row, {version} AS version FROM {{tables}}.{table.name}"  # noqa: S608 (our names)
        return cls(table.name, table.key, query, decided=True)


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
        return tuple(dict.fromkeys(effect.table or effect.name for effect in self.effects))

    @property
    def decides(self) -> bool:
        """Whether any of its rows are decisions."""
        return any(effect.decided for effect in self.effects)

    @property
    def decision_tables(self) -> tuple[str, ...]:
        """The tables that hold nothing but decisions: a rebuild compares them, and leaves the live ones in place."""
        projected = {effect.table or effect.name for effect in self.effects if not effect.decided}
        return tuple(table for table in self.tables if table not in projected)

    @property
    def projection_tables(self) -> tuple[str, ...]:
        """The tables that a rebuild replaces."""
        return tuple(table for table in self.tables if table not in self.decision_tables)


def installed(consumer: str) -> Subject:
    """The subject of a consumer whose package is installed here. Raises UsageError if it is not."""
    for entry_point in entry_points(group="touchpoint.verify", name=consumer):
        subject: Subject = entry_point.load()()
        return subject
    raise UsageError(f"{consumer}'s code is not installed here: run this command in {consumer}'s container")
