"""A running Touchpoint to break."""

from collections.abc import AsyncIterator

import pytest
from touchpoint.testing.servers import Servers
from touchpoint.testing.system import System


@pytest.fixture
async def system(servers: Servers) -> AsyncIterator[System]:
    """All services on their own topics and databases."""
    made = System(servers)
    try:
        await made.start()
        yield made
    finally:
        await made.stop()
