"""Compares stored rows with the same rows rebuilt in another schema of the same database."""

from collections.abc import AsyncIterator, Iterable, Mapping
from typing import Any

import asyncpg

from touchpoint.verify.report import Fault, Report
from touchpoint.verify.subject import Effect

LONGEST_SECONDS = 86_400.0
"""Timeout of the comparing statements: a large table takes long, so the connection's timeout does not apply."""

_DIFFERENT = """
SELECT {key}, count(*) FILTER (WHERE NOT found) AS expected, count(*) FILTER (WHERE found) AS stored,
       min(row) FILTER (WHERE NOT found) AS expected_row, max(row) FILTER (WHERE found) AS stored_row
  FROM (
    SELECT {key}, {row} AS row, false AS found FROM ({expected}) AS expected
     UNION ALL
    SELECT {key}, {row}, true FROM ({stored}) AS stored
  ) AS compared
 GROUP BY {key}
HAVING {those} (count(*) FILTER (WHERE NOT found) <> count(*) FILTER (WHERE found) OR min(row) <> max(row))
"""


_FORGOTTEN = """
SELECT {key}, expected.version AS expected, stored.version AS stored
  FROM ({expected}) AS expected LEFT JOIN ({stored}) AS stored USING ({key})
 WHERE stored.version IS NULL OR stored.version < expected.version
"""
_UNFOUNDED = """
SELECT {key}, expected.version AS expected, stored.version AS stored
  FROM ({stored}) AS stored LEFT JOIN ({expected}) AS expected USING ({key})
 WHERE expected.version IS NULL OR expected.version < stored.version
    OR (expected.version = stored.version AND md5(expected.row) <> md5(stored.row))
"""


async def find_forgotten(raw: asyncpg.Connection, effects: Iterable[Effect], report: Report, *, made: str) -> None:
    """Report decisions that are missing or older in the live tables than in the schema `made`.

    `made` must have the records that the consumer has read, and no later ones.
    """
    for effect in effects:
        if effect.decided:
            async for row in _rows(raw, effect, _FORGOTTEN, made):
                fault = Fault.MISSING if row["stored"] is None else Fault.FORGOTTEN
                report.find(fault, effect.name, {name: row[name] for name in effect.key})


async def _compare_decisions(raw: asyncpg.Connection, effect: Effect, report: Report, *, made: str) -> None:
    """Report stored decisions that are not in `made`, or differ. Newer rows in `made` are later than the snapshot."""
    async for row in _rows(raw, effect, _UNFOUNDED, made):
        if row["expected"] is None:
            fault = Fault.UNEXPLAINED
        else:
            fault = Fault.UNPUBLISHED if row["expected"] < row["stored"] else Fault.CHANGED
        report.find(fault, effect.name, {name: row[name] for name in effect.key})


async def _rows(raw: asyncpg.Connection, effect: Effect, query: str, made: str) -> AsyncIterator[asyncpg.Record]:
    expected, stored = effect.query.format(tables=made), effect.query.format(tables="public")
    filled = query.format(key=", ".join(effect.key), expected=expected, stored=stored)
    async for row in raw.cursor(filled, prefetch=1000, timeout=LONGEST_SECONDS):
        yield row


async def compare(raw: asyncpg.Connection, effect: Effect, report: Report, *, made: str, whole: bool = True) -> None:
    """Report the number of an effect's rows in the rebuilt schema `made`, and the stored rows that differ.

    If only a part of the log was read (not `whole`), stored rows without a rebuilt counterpart are not reported: they
    may come from earlier events.
    """
    expected = effect.query.format(tables=made)
    count = f"SELECT count(*) FROM ({expected}) AS expected"  # noqa: S608 (our own query)
    report.rows[effect.name] = await raw.fetchval(count, timeout=LONGEST_SECONDS)
    if effect.decided:
        await _compare_decisions(raw, effect, report, made=made)
        return
    async for row in _differences(raw, effect, expected, whole=whole):
        report.find(_fault(row), effect.name, _difference(row, effect))


async def _differences(
    raw: asyncpg.Connection, effect: Effect, expected: str, *, whole: bool
) -> AsyncIterator[asyncpg.Record]:
    """The rows that differ: key, counts expected and stored, and an example of each."""
    if effect.besides:
        expected += " UNION " + effect.besides.format(stored="public")
    query = _DIFFERENT.format(
        key=", ".join(effect.key),
        row="row" if effect.shown else "md5(row)",
        expected=expected,
        stored=effect.query.format(tables="public"),
        those="" if whole else "count(*) FILTER (WHERE NOT found) > 0 AND",
    )
    async for row in raw.cursor(query, prefetch=1000, timeout=LONGEST_SECONDS):
        yield row


def _fault(row: Mapping[str, Any]) -> Fault:
    if row["expected"] == 0:
        return Fault.UNEXPLAINED
    if row["stored"] == 0:
        return Fault.MISSING
    return Fault.TWICE if row["stored"] > row["expected"] else Fault.CHANGED


def _difference(row: Mapping[str, Any], effect: Effect) -> dict[str, Any]:
    key = {name: row[name] for name in effect.key}
    return key | ({"expected": row["expected_row"], "stored": row["stored_row"]} if effect.shown else {})
