"""Runs the service's handlers again, on empty copies of its tables."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncSession

from touchpoint.db.engine import blames_database
from touchpoint.kafka.batch import Entry
from touchpoint.kafka.handlers import Context, Handlers


class Rebuild:
    """Rebuilds tables from events, as temporary tables of a snapshot."""

    def __init__(self, connection: AsyncConnection, handlers: Handlers) -> None:
        self._connection = connection
        self._handlers = handlers

    async def apply(self, entries: Sequence[Entry]) -> list[tuple[Entry, Exception]]:
        """Pass events to the handlers, in log order; returns the events the handlers refuse, with the error."""
        refused, pending = [], [list(entries)]
        while pending:
            part = pending.pop()
            try:
                await self._handle(part)
            except Exception as error:
                # Includes SQLSTATE 25006 (read-only): a handler writes to a table that the subject does not name.
                if blames_database(error):
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
