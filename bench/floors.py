"""The least that could be done, without any of the promises: what each scenario is compared with."""

import time
from typing import Any, NamedTuple

import asyncpg

from bench.apart import settle
from touchpoint.kafka.consumer import BATCH_RECORDS


class Rows(NamedTuple):
    """A table's columns and its rows in the order they were written."""

    table: str
    columns: list[str]
    rows: list[tuple[Any, ...]]


async def insert(dsn: str, tables: list[str]) -> dict[str, Any]:
    """Rows that are in these tables, COPYed to a temp table and inserted into a copy of theirs, batch by batch.

    One connection, one transaction a batch, as many rows of the first table in one as a consumer's batch has records.
    """
    connection = await asyncpg.connect(dsn, server_settings={"jit": "off"})
    found = [await _rows(connection, table) for table in tables]
    for table in tables:
        await connection.execute(f"DROP TABLE IF EXISTS floor_{table}")
        await connection.execute(f"CREATE TABLE floor_{table} (LIKE {table} INCLUDING ALL)")
        await connection.execute(f"CREATE TEMP TABLE stage_{table} (LIKE {table}) ON COMMIT DELETE ROWS")
    batches = -(-len(found[0].rows) // BATCH_RECORDS)
    settle()
    begun = time.perf_counter()
    for number in range(batches):
        async with connection.transaction():
            for each in found:
                part = slice(number * len(each.rows) // batches, (number + 1) * len(each.rows) // batches)
                await _insert(connection, each, part)
    seconds = time.perf_counter() - begun
    await connection.close()
    return {"value": len(found[0].rows) / seconds, "details": {"seconds": seconds, "rows": len(found[0].rows)}}


async def _rows(connection: asyncpg.Connection, table: str) -> Rows:
    names = await connection.fetch(
        "SELECT attname FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped "
        "AND attidentity = '' AND attgenerated = '' ORDER BY attnum",
        table,
    )
    columns = [row["attname"] for row in names]
    rows = await connection.fetch(f"SELECT {_list(columns)} FROM {table} ORDER BY ctid")
    return Rows(table, columns, [tuple(row) for row in rows])


async def _insert(connection: asyncpg.Connection, each: Rows, part: slice) -> None:
    await connection.copy_records_to_table(f"stage_{each.table}", records=each.rows[part], columns=each.columns)
    columns = _list(each.columns)
    await connection.execute(
        f"INSERT INTO floor_{each.table} ({columns}) SELECT {columns} FROM stage_{each.table} ON CONFLICT DO NOTHING"
    )


def _list(columns: list[str]) -> str:
    return ", ".join(f'"{name}"' for name in columns)
