"""Tables declared by their row type, on a real PostgreSQL."""

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple
from uuid import UUID

import msgspec
import pytest
from sqlalchemy import text

from touchpoint.db.engine import COPY_FROM, create_engine, sessions, transaction
from touchpoint.db.tables import BigInt, Json, Table

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


class State(StrEnum):
    OPEN = "open"
    CLOSED = "closed"


class Terms(msgspec.Struct, frozen=True):
    seconds: int
    at: datetime | None = None


class Everything(NamedTuple):
    tenant_id: str
    id: UUID
    state: State
    number: int
    large: BigInt
    ratio: float
    amount: Decimal
    day: date
    at: datetime
    times: tuple[datetime, ...]
    flag: bool
    raw: bytes
    document: Json
    terms: Terms | None
    history: list[Terms]


@dataclass
class Counter:
    tenant_id: str
    name: str
    n: int = 0
    times: tuple[datetime, ...] = ()
    before: int = field(init=False, default=0)

    def __post_init__(self) -> None:
        self.before = self.n

    @property
    def is_large(self) -> bool | None:
        return None if self.n == 0 else self.n > 10


EVERYTHING = Table("everything", Everything, key=("tenant_id", "id"))
COUNTERS = Table("counters", Counter, key=("tenant_id", "name"), computed=("is_large",))

CREATE = """
CREATE TABLE everything (
    tenant_id text, id uuid, state text, number int, large bigint, ratio double precision, amount numeric, day date,
    at timestamptz, times timestamptz[], flag boolean, raw bytea, document jsonb, terms jsonb, history jsonb,
    PRIMARY KEY (tenant_id, id)
);
CREATE TABLE counters (
    tenant_id text, name text, n int, times timestamptz[], is_large boolean, PRIMARY KEY (tenant_id, name)
);
"""


@pytest.fixture
async def session(empty_database):
    """A transaction on a database with both tables."""
    engine = create_engine(empty_database, "tests")
    async with transaction(sessions(engine)) as opened:
        for statement in CREATE.split(";")[:-1]:
            await opened.execute(text(statement))
        yield opened
    await engine.dispose()


def everything(number: int, /, **changes: object) -> Everything:
    values = Everything(
        tenant_id="acme", id=UUID(int=number), state=State.OPEN, number=number, large=2**40, ratio=0.5,
        amount=Decimal("1.20"), day=date(2026, 11, 20), at=NOON, times=(NOON, NOON.replace(hour=13)), flag=True,
        raw=b"\0x", document='{"a": [1, "ü"]}', terms=Terms(5, NOON), history=[Terms(1), Terms(2, NOON)],
    )  # fmt: skip
    return values._replace(**changes)


async def stored(session):
    return await EVERYTHING.fetch(session, f"SELECT {EVERYTHING.select} FROM everything ORDER BY id")


@pytest.mark.parametrize("rows", [1, COPY_FROM])
async def test_rows_are_read_as_they_were_inserted(session, rows):
    given = [everything(number) for number in range(rows)]
    await EVERYTHING.insert(session, given)
    assert await stored(session) == given


async def test_null_is_read_as_none(session):
    empty = Everything("acme", UUID(int=1), *(None,) * (len(Everything._fields) - 2))
    await EVERYTHING.upsert(session, [empty])
    assert await stored(session) == [empty]


async def test_an_upsert_inserts_new_rows_and_updates_existing_ones(session):
    await EVERYTHING.insert(session, [everything(1), everything(2)])
    changed = everything(2, state=State.CLOSED, times=(), terms=None, history=[], document="[]", raw=b"")
    await EVERYTHING.upsert(session, [everything(3), changed])
    assert await stored(session) == [everything(1), changed, everything(3)]


async def test_insert_missing_returns_the_keys_of_the_rows_it_inserted(session):
    await EVERYTHING.insert(session, [everything(1)])
    added = await EVERYTHING.insert_missing(session, [everything(2), everything(1, number=9)])
    assert added == {("acme", UUID(int=2))}
    assert await stored(session) == [everything(1), everything(2)]


async def test_an_update_changes_all_columns_or_those_named(session):
    await EVERYTHING.insert(session, [everything(1), everything(2), everything(3)])
    await EVERYTHING.update(session, [everything(1, number=7, flag=False)])
    await EVERYTHING.update(session, [everything(2, number=7, flag=False)], only=("flag",))
    assert await stored(session) == [everything(1, number=7, flag=False), everything(2, flag=False), everything(3)]


async def test_locked_rows_are_loaded_in_the_order_of_their_keys(session):
    await EVERYTHING.insert(session, [everything(number) for number in (3, 1, 2)])
    keys = [("acme", UUID(int=number)) for number in (3, 1, 9, 3)] + [("other", UUID(int=2))]
    assert await EVERYTHING.load(session, keys, lock=True) == [everything(1), everything(3)]
    assert await EVERYTHING.find(session, "acme", UUID(int=2)) == everything(2)
    assert await EVERYTHING.find(session, "acme", UUID(int=9)) is None


async def test_without_rows_no_statement_is_executed(session):
    for write in (EVERYTHING.insert, EVERYTHING.upsert, EVERYTHING.update, EVERYTHING.add):
        await write(session, [])
    assert await EVERYTHING.insert_missing(session, []) == set()
    assert await EVERYTHING.load(session, []) == []


async def test_computed_columns_are_written_and_fields_without_a_column_are_not(session):
    large = Counter("acme", "large", 11, (NOON,))
    await COUNTERS.insert(session, [large, Counter("acme", "small", 3)])
    await COUNTERS.update(session, [replace(large, n=12)])
    loaded = await COUNTERS.find(session, "acme", "large")
    assert loaded == replace(large, n=12)
    assert loaded.before == 12
    rows = (await session.execute(text("SELECT name, n, is_large FROM counters ORDER BY name"))).all()
    assert [tuple(row) for row in rows] == [("large", 12, True), ("small", 3, False)]


async def test_add_increases_the_sums_of_existing_rows(session):
    class Sum(NamedTuple):
        tenant_id: str
        name: str
        n: int

    sums = Table("counters", Sum, key=("tenant_id", "name"))
    await sums.add(session, [Sum("acme", "a", 1), Sum("acme", "b", 5)])
    await sums.add(session, [Sum("acme", "a", -3)])
    assert sorted(await sums.load(session, [("acme", "a"), ("acme", "b")])) == [("acme", "a", -2), ("acme", "b", 5)]
