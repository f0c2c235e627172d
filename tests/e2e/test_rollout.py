"""A new version's processes start before its migration has run."""

import httpx

from touchpoint.db import databases, migrate
from touchpoint.kafka import admin
from touchpoint.testing import eventually
from touchpoint.testing.system import READS, System

CONSUMER = ("metrics-svc", "consumer")


async def test_a_process_waits_for_its_migration_and_can_be_stopped_meanwhile(servers, tmp_path):
    system = System(servers, tmp_path)
    await admin.provision(system.kafka, READS)
    dsn = await databases.create(servers.dsn, system.databases["metrics-svc"])

    async def waits() -> bool:
        try:
            async with httpx.AsyncClient(base_url=system.admin_urls[CONSUMER]) as client:
                assert (await client.get("/healthz")).is_success
                reason = (await client.get("/readyz")).json()["checks"]["migration"]
        except httpx.TransportError:
            return False
        return reason == "waiting for PostgreSQL, or for `python -m metrics_svc migrate` of this version"

    try:
        system.start_part(CONSUMER)
        await eventually(waits, 60)
        assert await system.stop_part(CONSUMER) == 0

        system.start_part(CONSUMER)
        await eventually(waits, 60)
        await migrate.upgrade("metrics_svc", dsn)
        await system.ready([CONSUMER])
    finally:
        await system.stop()
