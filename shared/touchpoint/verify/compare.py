"""What differs between rows that are stored and the same made anew, in another schema of one database."""

from collections.abc import AsyncIterator, Mapping
from typing import Any

import asyncpg

from touchpoint.verify.report import Fault, Report
from touchpoint.verify.subject import Effect

LONGEST_SECONDS = 86_400.0
"""A large table takes its time, whatever the connection allows for a statement."""

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


async def compare(raw: asyncpg.Connection, effect: Effect, report: Report, *, made: str, whole: bool = True) -> None:
    """Report how many rows of an effect there should be, as the schema `made` has them, and which stored ones differ.

    Of a part of the log nobody knows what else there should be: then (not `whole`) only its own rows are told.
    """
    expected = effect.query.format(tables=made)
    count = f"SELECT count(*) FROM ({expected}) AS expected"  # noqa: S608 (our own)
    report.rows[effect.name] = await raw.fetchval(count, timeout=LONGEST_SECONDS)
    async for row in _differences(raw, effect, expected, whole=whole):
        report.find(_fault(row), effect.name, _difference(row, effect))


async def _differences(
    raw: asyncpg.Connection, effect: Effect, expected: str, *, whole: bool
) -> AsyncIterator[asyncpg.Record]:
    """The keys of rows that differ: key, numbers expected and stored, and one row of each."""
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
    told = {name: row[name] for name in effect.key}
    return told | ({"expected": row["expected_row"], "stored": row["stored_row"]} if effect.shown else {})
