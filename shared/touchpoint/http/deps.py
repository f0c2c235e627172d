"""FastAPI dependencies for the database: a transaction of the caller's tenant, committed before the answer is sent."""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db.tenants import Tenants
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller, current

Verified = Annotated[Caller, Depends(current)]
"""The caller of the request, verified by the gateway's token."""


async def _writing(request: Request, caller: Verified) -> AsyncIterator[AsyncSession]:
    if not request.app.state.folded.is_set():
        raise ProblemError(
            503,
            "decisions-unread",
            "The service is reading back what it has decided, such as acknowledgements; commands wait for that.",
            headers={"Retry-After": "1"},
        )
    async with request.app.state.tenants.transaction(caller.tenant) as session:
        yield session


async def _reading(request: Request, caller: Verified) -> AsyncIterator[AsyncSession]:
    async with request.app.state.tenants.transaction(caller.tenant, read_only=True) as session:
        yield session


async def _tenants(request: Request) -> Tenants:
    tenants: Tenants = request.app.state.tenants
    return tenants


Rows = Annotated[Tenants, Depends(_tenants)]
"""For a route with a single SELECT: this costs one round trip, a session three."""

# FastAPI's default scope would commit after the answer is sent: a client with a 200 might not find its own write.
Transaction = Annotated[AsyncSession, Depends(_writing, scope="function")]
ReadOnly = Annotated[AsyncSession, Depends(_reading, scope="function")]
