"""A system with data of many tenants, for the tests of metrics, alerts and dashboards."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from datetime import UTC, datetime
from functools import partial

import httpx
import pytest

from gateway.keys import service as keys
from tests.deploy.foreign import program
from touchpoint.contracts.base import Event
from touchpoint.contracts.record import encode
from touchpoint.db.engine import transaction_on
from touchpoint.http.scopes import Scope
from touchpoint.kafka.producer import Producer
from touchpoint.local.monitoring import Prometheus, Target
from touchpoint.testing import eventually, factories, ports
from touchpoint.testing.policies import QUICK
from touchpoint.testing.system import READS, Part, System

TENANTS = 1000


@pytest.fixture(scope="package")
async def system(running) -> AsyncIterator[System]:
    """All services, and data of ten tenants."""
    async with running(QUICK, apart=True, BUSINESS_TENANTS='["tenant-3"]') as started:
        await use(started, range(10))
        yield started


async def use(system: System, tenants: Sequence[int]) -> None:
    """Write events of several types for each of these tenants; a hundred of them also send feedback to the gateway."""
    names = [f"tenant-{number}" for number in tenants]
    async with transaction_on(system.dsn("gateway"), "tests") as session:
        tokens = [(await keys.create(session, name, "tests", frozenset(Scope))).token for name in names[:100]]
    async with httpx.AsyncClient(base_url=system.url, timeout=30) as client:
        await _ask(client, tokens[0])
        for some in range(0, len(tokens), 20):
            await asyncio.gather(*(_call(client, token) for token in tokens[some : some + 20]))
    producer = Producer(system.kafka, "tests")
    await producer.start()
    outcomes = await producer.send_all([encode(event) for name in names for event in _events(name)], 30)
    await producer.stop()
    assert not any(outcomes)
    await eventually(system.is_quiet, 60)
    await eventually(partial(_is_measured, system), 60)


async def _is_measured(system: System) -> bool:
    """Whether the workers have measured every partition's lag and the configured tenant's business metrics."""
    partitions = sum(len(topics) for topics in READS.values()) * system.partitions
    text = "".join((await metrics(system)).values())
    named = [f"touchpoint_{name}{{" for name in ("metrics_nps_points", "escalation_open_cases")]
    return text.count("touchpoint_consumer_lag_records{") == partitions and all(name in text for name in named)


async def metrics(system: System) -> dict[Part, str]:
    """The text of `/metrics` of each process."""
    async with httpx.AsyncClient() as client:
        answers = [await client.get(f"{url}/metrics") for url in system.admin_urls.values()]
    return dict(zip(system.admin_urls, (answer.text for answer in answers), strict=True))


def _events(tenant: str) -> list[Event]:
    now = {"tenant": tenant, "time": datetime.now(UTC), "recorded": datetime.now(UTC)}
    ticket = {"ticket_id": f"T-{tenant}", "customer_id": f"C-{tenant}"}
    return [
        factories.customer_updated(customer_id=f"C-{tenant}", **now),
        factories.feedback(customer_id=f"C-{tenant}", score=2, **now),
        factories.feedback(customer_id=f"C-{tenant}", kind="csat", score=4, **now),
        factories.feedback(customer_id=f"C-{tenant}", kind="ces", score=6, **now),
        factories.ticket_opened(**ticket, **now),
        factories.ticket_replied(**ticket, **now),
        factories.ticket_opened(ticket_id=f"U-{tenant}", customer_id=f"C-{tenant}", **now),  # never answered
    ]


async def _call(client: httpx.AsyncClient, token: str) -> None:
    authorized = {"Authorization": f"Bearer {token}"}
    feedback = {"kind": "nps", "channel": "web", "score": {"value": 9, "min": 0, "max": 10}}
    assert (await client.post("/v1/feedback", headers=authorized, json=feedback)).status_code == 202


async def _ask(client: httpx.AsyncClient, token: str) -> None:
    """Send a few GET requests, one of them to an unknown path."""
    paths = {
        "/v1/feedback?limit=1": 200,
        "/v1/escalations": 200,
        "/v1/customers/C-1/timeline": 200,
        f"/v1/{token}": 404,
    }
    for path, status in paths.items():
        assert (await client.get(path, headers={"Authorization": f"Bearer {token}"})).status_code == status


@pytest.fixture(scope="package")
async def prometheus(system, tmp_path_factory) -> AsyncIterator[httpx.AsyncClient]:
    """A Prometheus that scrapes all processes every second and has samples of them under load."""
    program("prometheus")
    folder, [port] = tmp_path_factory.mktemp("prometheus"), ports.reserve(1)
    targets = [Target(url, *part) for part, url in system.admin_urls.items()]
    server = Prometheus(folder, folder / "prometheus.log", port, targets, scrape_seconds=1)
    process = server.prepare().start()
    try:
        await server.ready(process)
        async with httpx.AsyncClient(base_url=server.url, timeout=20) as client:
            await eventually(partial(_sees_all, client, len(targets)), 60)
            await use(system, range(2000, 2010))
            yield client
    finally:
        await process.stop()


async def _sees_all(client: httpx.AsyncClient, targets: int) -> bool:
    """Whether every target was scraped at least twice: a rate needs two samples."""
    answer = await client.get("/api/v1/query", params={"query": 'count(count_over_time(up{job="touchpoint"}[1m]) > 1)'})
    result = answer.json()["data"]["result"]
    return bool(result) and result[0]["value"][1] == str(targets)
