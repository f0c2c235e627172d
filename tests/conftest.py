"""A running Touchpoint, as its users meet it."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import pytest

from touchpoint.testing.servers import Servers
from touchpoint.testing.system import System

Running = Callable[..., AbstractAsyncContextManager[System]]


@pytest.fixture(scope="session")
def running(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Running:
    """All services on topics and databases of their own; keyword arguments are further settings."""

    @asynccontextmanager
    async def run(**settings: str) -> AsyncIterator[System]:
        system = System(servers, tmp_path_factory.mktemp("system"), settings)
        try:
            await system.start()
            yield system
        finally:
            await system.stop()

    return run
