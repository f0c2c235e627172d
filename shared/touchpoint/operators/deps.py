"""FastAPI dependencies of the operators' routes: the caller with their scopes, a session of the tables' owner, Kafka.

`Reader` requires the scope `ops:read`, `Operator` requires `ops:replay`.
"""

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base.settings import KafkaSettings
from touchpoint.db.engine import Sessions, transaction
from touchpoint.http.errors import ProblemError
from touchpoint.http.identity import Caller, allowed
from touchpoint.http.scopes import Scope

Reader = Annotated[Caller, Depends(allowed(Scope.OPS_READ))]
Operator = Annotated[Caller, Depends(allowed(Scope.OPS_REPLAY))]


async def _above_tenants(request: Request) -> AsyncIterator[AsyncSession]:
    factory: Sessions | None = request.app.state.above_tenants
    if factory is None:
        raise ProblemError(503, "no-operations", "This process does not serve the operators' routes.")
    async with transaction(factory) as session:
        yield session


Session = Annotated[AsyncSession, Depends(_above_tenants, scope="function")]


def _kafka(request: Request) -> KafkaSettings:
    settings: KafkaSettings = request.app.state.kafka
    return settings


Kafka = Annotated[KafkaSettings, Depends(_kafka)]
