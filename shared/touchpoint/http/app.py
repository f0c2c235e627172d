"""The FastAPI application of every service: problem details, verification of the gateway's token, event status."""

import asyncio

from fastapi import APIRouter, Depends
from sqlalchemy.ext.asyncio import AsyncEngine

from touchpoint.base.settings import ServiceSettings
from touchpoint.db.tenants import Tenants
from touchpoint.http import errors, status
from touchpoint.http.health import Check
from touchpoint.http.leaving import UntilClientLeaves
from touchpoint.http.parameters import once_each
from touchpoint.http.straight import Straight
from touchpoint.http.timing import Timed
from touchpoint.kafka.handlers import Handlers


def create(
    name: str, settings: ServiceSettings, engine: AsyncEngine, *routers: APIRouter, handlers: Handlers | None = None
) -> Straight:
    """Create a service's API. `name` is the required audience of tokens; `engine` connects as the API's role.

    `handlers` are those of the service's consumer, if it has one. Set `app.state.checks` to the readiness checks and
    `app.state.above_tenants` to sessions of the tables' owner, which the operators' routes use. Commands are answered
    503 until the event `app.state.folded` is set: once the database has all decisions.
    """
    app = Straight(title=name, dependencies=[Depends(once_each)])
    app.state.name = name
    app.state.tenants = Tenants(engine)
    app.state.token_secrets = settings.internal_token_secrets
    app.state.handlers = handlers
    app.state.checks = dict[str, Check]()
    app.state.beside = None
    app.state.folded = asyncio.Event()
    app.state.folded.set()
    errors.install(app)
    app.add_middleware(UntilClientLeaves)
    app.add_middleware(Timed)
    for router in routers:
        app.include_router(router)
    if handlers is not None:
        app.state.above_tenants = None
        app.state.kafka = settings.kafka
        app.state.planning = asyncio.Lock()
        app.include_router(status.router)
    return app
