"""Declare a table by the type of its rows; the statements that read and write it are derived from that type.

    class Remark(NamedTuple):
        tenant_id: str
        id: UUID
        text: str | None

    REMARKS = Table("remarks", Remark, key=("tenant_id", "id"))
    await REMARKS.insert(session, [Remark("acme", UUID(int=1), None)])

A row is a NamedTuple, or a dataclass if it is mutable. The migration creates the table; `tests/test_migrations.py`
compares the two.
"""

import dataclasses
import types
from collections.abc import Callable, Iterable, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from operator import attrgetter
from typing import Annotated, Any, Generic, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints
from uuid import UUID

import msgspec
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db.engine import insert, raw_connection

R = TypeVar("R")
Encode = Callable[[Any], Any]

Json = Annotated[str, "jsonb"]
"""A JSON column that is read and written as text."""
BigInt = Annotated[int, "bigint"]

_TYPES: dict[Any, str] = {
    str: "text",
    bool: "boolean",
    int: "integer",
    float: "double precision",
    Decimal: "numeric",
    datetime: "timestamptz",
    date: "date",
    UUID: "uuid",
    bytes: "bytea",
}


class Column(NamedTuple):
    """A column: its PostgreSQL type, and the conversions of a row's value to the column's and back (None: as it is)."""

    name: str
    type: str
    nullable: bool
    encode: Encode | None
    decode: Encode | None

    @classmethod
    def of(cls, name: str, hint: Any) -> "Column":
        """The column of a field with this type. A type without a PostgreSQL equivalent is stored as JSON."""
        kind, nullable = _without_none(hint)
        if get_origin(kind) is Annotated:
            return cls(name, get_args(kind)[1], nullable, None, None)
        if kind in _TYPES:
            return cls(name, _TYPES[kind], nullable, None, None)
        if isinstance(kind, type) and issubclass(kind, StrEnum):
            return cls(name, "text", nullable, None, kind)
        if get_origin(kind) is tuple and get_args(kind)[0] is datetime:
            return cls(name, "timestamptz[]", nullable, list, tuple)
        return cls(name, "jsonb", nullable, _to_json, msgspec.json.Decoder(kind).decode)

    @property
    def selected(self) -> str:
        """The expression that reads the column: JSON as text."""
        return f"{self.name}::text" if self.type == "jsonb" else self.name

    def placeholder(self, number: int) -> str:
        """The argument of `unnest` for this column. Arrays are passed as text, as `unnest` would flatten them."""
        return f"${number}::text[]" if self.type.endswith("[]") else f"${number}::{self.type}[]"

    def parameter(self, values: Iterable[Any]) -> list[Any]:
        """The value of `placeholder` for a column's values."""
        encode = _array if self.type.endswith("[]") else self.encode
        return list(values) if encode is None else [None if each is None else encode(each) for each in values]

    @property
    def given(self) -> str:
        """The expression that reads the column from a row of `unnest`."""
        return f"{self.name}::{self.type}" if self.type.endswith("[]") else self.name


class Table(Generic[R]):
    """Reads and writes rows of one table, many per statement, in the session's transaction.

    `key`: the columns of the primary key. `computed`: properties of the row that are written to columns, but not read.
    Rows are locked and written in the order of their keys, so that two transactions cannot deadlock.
    """

    def __init__(self, name: str, row: type[R], key: Sequence[str], computed: Sequence[str] = ()) -> None:
        self.name, self.key = name, tuple(key)
        self._row = row
        read = [Column.of(field, hint) for field, hint in _fields(row)]
        written = [
            Column.of(each, get_type_hints(getattr(row, each).fget, include_extras=True)["return"]) for each in computed
        ]
        self.columns = (*read, *written)
        self.names = tuple(column.name for column in self.columns)
        self.select = ", ".join(column.selected for column in read)
        """The select list whose records `read` converts."""
        self._decoders = [(place, c.decode) for place, c in enumerate(read) if c.decode is not None]
        self._values = attrgetter(*self.names)
        self._key_of = attrgetter(*self.key)
        self._updates: dict[tuple[str, ...], tuple[str, Sequence[Column]]] = {}
        self._is_values = issubclass(row, tuple) and not written and all(c.encode is None for c in read)

    def read(self, record: Sequence[Any]) -> R:
        """The row of a record that was selected with `select`."""
        if not self._decoders:
            return self._row(*record)
        values = list(record)
        for place, decode in self._decoders:
            if values[place] is not None:
                values[place] = decode(values[place])
        return self._row(*values)

    async def insert(self, session: AsyncSession, rows: Iterable[R]) -> None:
        """Insert new rows in order; fails on an existing key."""
        values: list[Any] = list(rows) if self._is_values else [self._encoded(row) for row in rows]
        await insert(session, self.name, self.names, values)

    async def insert_missing(self, session: AsyncSession, rows: Iterable[R]) -> set[tuple[Any, ...]]:
        """Insert the rows whose key does not exist yet; returns their keys."""
        return {tuple(record) for record in await self._write(session, rows, self._inserting_missing, self.columns)}

    async def upsert(self, session: AsyncSession, rows: Iterable[R]) -> None:
        """Insert rows; a row with an existing key overwrites that row."""
        await self._write(session, rows, self._upserting, self.columns)

    async def upsert_newer(
        self, session: AsyncSession, rows: Iterable[R], version: str, *, keep: tuple[str, ...] = ()
    ) -> None:
        """Insert rows; a row with an existing key overwrites that row if its `version` is higher.

        `keep`: columns of the existing row that stay as they are.
        """
        await self._write(session, rows, self._upserting_newer(version, keep), self.columns)

    async def add(self, session: AsyncSession, rows: Iterable[R]) -> None:
        """Insert rows of sums; if the key exists, add the values to those of the existing row."""
        await self._write(session, rows, self._adding, self.columns)

    async def update(self, session: AsyncSession, rows: Iterable[R], only: tuple[str, ...] = ()) -> None:
        """Update existing rows by their keys: all other columns, or `only` these."""
        if only not in self._updates:
            self._updates[only] = self._updating(only or self._beside_key)
        await self._write(session, rows, *self._updates[only])

    async def load(self, session: AsyncSession, keys: Iterable[tuple[Any, ...]], *, lock: bool = False) -> list[R]:
        """The existing rows with these keys; `lock` locks them until the transaction ends."""
        asked = sorted(set(keys))
        if not asked:
            return []
        statement = self._locking if lock else self._loading
        return await self.fetch(session, statement, *map(list, zip(*asked, strict=True)))

    async def find(self, session: AsyncSession, *key: Any, lock: bool = False) -> R | None:
        """The row with this key, or None; `lock` locks it until the transaction ends."""
        return next(iter(await self.load(session, [key], lock=lock)), None)

    async def fetch(self, session: AsyncSession, statement: str, *values: Any) -> list[R]:
        """The rows of a statement whose select list is `select`."""
        raw = await raw_connection(session)
        return [self.read(record) for record in await raw.fetch(statement, *values)]

    @cached_property
    def _loading(self) -> str:
        columns = {column.name: column for column in self.columns}
        arrays = ", ".join(columns[name].placeholder(number) for number, name in enumerate(self.key, 1))
        key = ", ".join(self.key)
        return f"SELECT {self.select} FROM {self.name} JOIN unnest({arrays}) AS asked ({key}) USING ({key})"  # noqa: S608 (our names)

    @cached_property
    def _locking(self) -> str:
        return f"{self._loading} ORDER BY {', '.join(self.key)} FOR UPDATE OF {self.name}"

    @cached_property
    def _inserting(self) -> str:
        return f"INSERT INTO {self.name} ({', '.join(self.names)}) {_unnest(self.columns)}"

    @cached_property
    def _inserting_missing(self) -> str:
        return f"{self._inserting} ON CONFLICT DO NOTHING RETURNING {', '.join(self.key)}"

    @cached_property
    def _upserting(self) -> str:
        changes = ", ".join(f"{name} = excluded.{name}" for name in self._beside_key)
        return f"{self._inserting} ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {changes}"

    def _upserting_newer(self, version: str, keep: Sequence[str]) -> str:
        changes = ", ".join(f"{name} = excluded.{name}" for name in self._beside_key if name not in keep)
        return (
            f"{self._inserting} ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {changes} "
            f"WHERE {self.name}.{version} < excluded.{version}"
        )

    @cached_property
    def _adding(self) -> str:
        sums = ", ".join(f"{name} = {self.name}.{name} + excluded.{name}" for name in self._beside_key)
        return f"{self._inserting} ON CONFLICT ({', '.join(self.key)}) DO UPDATE SET {sums}"

    def _updating(self, changed: Sequence[str]) -> tuple[str, Sequence[Column]]:
        columns = [column for column in self.columns if column.name in (*self.key, *changed)]
        changes = ", ".join(f"{name} = new.{name}" for name in changed)
        same_key = " AND ".join(f"{self.name}.{name} = new.{name}" for name in self.key)
        return f"UPDATE {self.name} SET {changes} FROM ({_unnest(columns)}) AS new WHERE {same_key}", columns  # noqa: S608 (our names)

    @cached_property
    def _beside_key(self) -> tuple[str, ...]:
        return tuple(name for name in self.names if name not in self.key)

    async def _write(
        self, session: AsyncSession, rows: Iterable[R], statement: str, columns: Sequence[Column]
    ) -> list[Any]:
        """Run a statement whose parameters are an array per column."""
        ordered = sorted(rows, key=self._key_of)
        if not ordered:
            return []
        values = attrgetter(*(column.name for column in columns))
        by_column = zip(columns, zip(*map(values, ordered), strict=True), strict=True)
        arrays = [column.parameter(given) for column, given in by_column]
        return list(await (await raw_connection(session)).fetch(statement, *arrays))

    def _encoded(self, row: R) -> Sequence[Any]:
        return [
            value if column.encode is None or value is None else column.encode(value)
            for column, value in zip(self.columns, self._values(row), strict=True)
        ]


def _unnest(columns: Sequence[Column]) -> str:
    """A SELECT that returns rows from an array per column."""
    arrays = ", ".join(column.placeholder(number) for number, column in enumerate(columns, 1))
    names = ", ".join(column.name for column in columns)
    return f"SELECT {', '.join(column.given for column in columns)} FROM unnest({arrays}) AS given ({names})"  # noqa: S608 (our names)


def _fields(row: type) -> list[tuple[str, Any]]:
    """The fields that a row's constructor takes, with their types."""
    hints = get_type_hints(row, include_extras=True)
    if dataclasses.is_dataclass(row):
        return [(field.name, hints[field.name]) for field in dataclasses.fields(row) if field.init]
    return list(hints.items())


def _without_none(hint: Any) -> tuple[Any, bool]:
    if get_origin(hint) not in (Union, types.UnionType):
        return hint, False
    kinds = [kind for kind in get_args(hint) if kind is not type(None)]
    return kinds[0], len(kinds) < len(get_args(hint))


def _to_json(value: Any) -> str:
    return msgspec.json.encode(value).decode()


def _array(moments: Iterable[datetime]) -> str:
    """An array of times in PostgreSQL's text format."""
    return f"{{{','.join(moment.isoformat() for moment in moments)}}}"
