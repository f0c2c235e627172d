"""SIGTERM ends every role in good time, also with Kafka gone."""

import asyncio
import signal
from collections.abc import AsyncIterator

import pytest

from touchpoint.local.process import Process
from touchpoint.testing.servers import Servers, own_kafka
from touchpoint.testing.system import System

KUBERNETES_KILLS_AFTER = 30

pytestmark = pytest.mark.faults


@pytest.fixture
async def mortal_kafka(servers: Servers) -> AsyncIterator[tuple[Servers, Process]]:
    """The run's PostgreSQL with a Kafka of this test's own, which it may kill."""
    async with own_kafka() as (settings, process):
        yield Servers(settings, servers.dsn), process


async def test_every_role_stops_by_itself_within_its_time_with_kafka_gone(mortal_kafka, tmp_path):
    servers, kafka = mortal_kafka
    system = System(servers, tmp_path)
    try:
        await system.start()
        kafka.handle.send_signal(signal.SIGKILL)
        await kafka.ended()
        async with asyncio.timeout(KUBERNETES_KILLS_AFTER):
            codes = await system.terminate()
        assert set(codes.values()) == {0}, codes
    finally:
        await system.drop_databases()
