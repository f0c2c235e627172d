from collections.abc import AsyncIterator

import pytest

from feedback_svc.app import create_app
from feedback_svc.config import Settings
from touchpoint.db.engine import Sessions, create_engine
from touchpoint.db.engine import sessions as sessions_of
from touchpoint.testing.api import Client, clients
from touchpoint.testing.fixtures import Database


@pytest.fixture
async def dsn(database: Database) -> str:
    """A fresh database of this service."""
    return await database("feedback_svc")


@pytest.fixture
async def sessions(dsn: str) -> AsyncIterator[Sessions]:
    """Sessions on it, above tenants as the consumer's."""
    engine = create_engine(dsn, "tests")
    yield sessions_of(engine)
    await engine.dispose()


@pytest.fixture
async def client(dsn: str) -> AsyncIterator[Client]:
    """Makes clients of the API; give it a tenant and scopes."""
    async with clients(create_app, Settings, dsn) as make_client:
        yield make_client
