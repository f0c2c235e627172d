import uuid
from collections.abc import AsyncIterator
from urllib.parse import urlsplit

import pytest

from touchpoint.db import databases
from touchpoint.testing.servers import Servers


@pytest.fixture
async def user(servers: Servers) -> AsyncIterator[str]:
    """A PostgreSQL user who may log in and nothing else."""
    name = f"test_{uuid.uuid4().hex}"
    async with databases.connected(servers.dsn) as connection:
        await connection.execute(f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    yield name
    async with databases.connected(servers.dsn) as connection:
        await connection.execute(f"DROP ROLE {name}")


@pytest.fixture
def user_dsn(servers: Servers, user: str) -> str:
    """The server's URL as that user."""
    place = urlsplit(servers.dsn)
    return place._replace(netloc=f"{user}:secret@{place.netloc.rpartition('@')[2]}").geturl()
