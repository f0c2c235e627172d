"""SIGTERM ends every role within Kubernetes' grace period, also while Kafka is unreachable."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from touchpoint.testing.servers import Mortal, Servers, own_kafka, reached
from touchpoint.testing.system import System

KUBERNETES_KILLS_AFTER = 30

pytestmark = [pytest.mark.faults, pytest.mark.servers]


@pytest.fixture
async def mortal_kafka(servers: Servers) -> AsyncIterator[tuple[Servers, Mortal]]:
    """The run's PostgreSQL, and a Kafka of this test's own, which it may kill."""
    async with own_kafka() as broker:
        yield Servers(reached([broker]), servers.dsn), broker


async def test_every_role_stops_within_30_seconds_while_kafka_is_down(mortal_kafka, tmp_path):
    servers, kafka = mortal_kafka
    system = System(servers, tmp_path)
    try:
        await system.start()
        await kafka.kill()
        async with asyncio.timeout(KUBERNETES_KILLS_AFTER):
            codes = await system.terminate()
        assert set(codes.values()) == {0}, codes
    finally:
        await system.drop_databases()
