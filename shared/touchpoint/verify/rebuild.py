"""The service's own handlers once more, on empty copies of its tables, and what differs afterwards."""

from collections.abc import AsyncIterator, Sequence

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from touchpoint.db.engine import is_transient, sqlstate
from touchpoint.kafka.batch import Entry
from touchpoint.kafka.handlers import Context, Handlers
from touchpoint.verify.subject import Effect

READ_ONLY = "25006"
"""SQLSTATE of a write to a table that is not temporary: the subject does not name all its tables."""

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


class Rebuild:
    """Tables made anew from events, as temporary tables of a snapshot."""

    def __init__(self, connection: AsyncConnection, raw: asyncpg.Connection, handlers: Handlers) -> None:
        self._connection = connection
        self._raw = raw
        self._handlers = handlers

    async def apply(self, entries: Sequence[Entry]) -> list[tuple[Entry, Exception]]:
        """Give events to the handlers, in log order; answers those that the handlers refuse, and why."""
        refused, pending = [], [list(entries)]
        while pending:
            part = pending.pop()
            try:
                await self._handle(part)
            except Exception as error:
                if is_transient(error) or sqlstate(error) == READ_ONLY:
                    raise
                if len(part) == 1:
                    refused.append((part[0], error))
                else:
                    middle = len(part) // 2
                    pending += [part[middle:], part[:middle]]
        return refused

    async def _handle(self, part: Sequence[Entry]) -> None:
        prepared = [e.prepared or self._handlers.prepare(e.event) for e in part if e.event is not None]
        async with (
            self._connection.begin_nested(),
            AsyncSession(self._connection, join_transaction_mode="rollback_only") as session,
        ):
            await self._handlers.handle(prepared, Context(session))

    async def rows(self, effect: Effect) -> int:
        """How many rows of an effect there should be."""
        query = effect.query.format(tables="pg_temp")
        found: int = await self._raw.fetchval(f"SELECT count(*) FROM ({query}) AS expected")  # noqa: S608 (our own)
        return found

    async def differences(self, effect: Effect, *, whole: bool) -> AsyncIterator[asyncpg.Record]:
        """The keys of an effect's rows that differ: key, numbers expected and stored, and one row of each.

        Of a part of the log nobody knows what else there should be: then (not `whole`) only its own rows are told.
        """
        expected = effect.query.format(tables="pg_temp")
        if effect.besides:
            expected += " UNION " + effect.besides.format(stored="public")
        query = _DIFFERENT.format(
            key=", ".join(effect.key),
            row="row" if effect.shown else "md5(row)",
            expected=expected,
            stored=effect.query.format(tables="public"),
            those="" if whole else "count(*) FILTER (WHERE NOT found) > 0 AND",
        )
        async for row in self._raw.cursor(query, prefetch=1000):
            yield row
