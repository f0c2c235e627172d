"""The database of a request: its caller's tenant, one transaction, committed before the answer goes out."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db.tenants import Tenants
from touchpoint.http.identity import Caller, current

Verified = Annotated[Caller, Depends(current)]
"""Whose request it is, by the gateway's token."""


async def _writing(request: Request, caller: Verified) -> AsyncIterator[AsyncSession]:
    async with request.app.state.tenants.transaction(caller.tenant) as session:
        yield session


async def _reading(request: Request, caller: Verified) -> AsyncIterator[AsyncSession]:
    async with request.app.state.tenants.transaction(caller.tenant, read_only=True) as session:
        yield session


async def _tenants(request: Request) -> Tenants:
    tenants: Tenants = request.app.state.tenants
    return tenants


Rows = Annotated[Tenants, Depends(_tenants)]
"""For a route that needs one SELECT: it costs one round trip, a session three."""

# The default scope would commit after the answer has been sent: a client could read its 200 before its write is there.
Transaction = Annotated[AsyncSession, Depends(_writing, scope="function")]
ReadOnly = Annotated[AsyncSession, Depends(_reading, scope="function")]
