"""The database session of a request: one transaction, committed before the answer goes out."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db.engine import transaction


async def _writing(request: Request) -> AsyncIterator[AsyncSession]:
    async with transaction(request.app.state.sessions) as session:
        yield session


async def _reading(request: Request) -> AsyncIterator[AsyncSession]:
    async with transaction(request.app.state.sessions) as session:
        await session.execute(text("SET TRANSACTION READ ONLY"))
        yield session


# The default scope would commit after the answer has been sent: a client could read its 200 before its write is there.
Transaction = Annotated[AsyncSession, Depends(_writing, scope="function")]
ReadOnly = Annotated[AsyncSession, Depends(_reading, scope="function")]
