"""`make alerts`: injects four faults and measures the seconds until Alertmanager has each alert.

The whole system runs under a small load, monitored by a real Prometheus with the shipped scrape interval and rules, and
a real Alertmanager. Measured for every alert that a fault causes: seconds from the fault until Alertmanager has the
alert, and from the repair until Alertmanager has resolved it.
"""

import asyncio
import contextlib
import logging
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import NamedTuple

import httpx

from touchpoint.contracts.record import Record, encode
from touchpoint.db import consumers
from touchpoint.db.consumers import ConsumerState
from touchpoint.db.engine import transaction_on
from touchpoint.kafka.producer import Producer
from touchpoint.local import monitoring
from touchpoint.local.monitoring import Alertmanager, Prometheus, Target
from touchpoint.testing import factories, ports, servers
from touchpoint.testing.system import READS, System

SCRAPE_SECONDS = 15
LOOK_SECONDS = 0.5
PATIENCE_SECONDS = 480
STOPPED = ("metrics-svc", "consumer")
FEW, MANY = 60, 300
"""Numbers of events with invalid JSON: fewer and more than the hundred in a row at which a consumer halts."""
CALM_SECONDS = 30
"""Seconds of normal load before a fault: rules compute rates over the samples that Prometheus has."""

Alert = tuple[str, str]
"""The alert's name, and the service or consumer that it concerns."""


class Trial(NamedTuple):
    """A fault: how to inject and repair it, and the alerts that it must cause."""

    name: str
    hurt: Callable[[], Awaitable[object]]
    mend: Callable[[], Awaitable[object]]
    expected: Sequence[Alert]
    lasting: Sequence[Alert] = ()
    """Further alerts that it must cause; they are resolved only after a window of half an hour."""


async def main() -> int:
    """Run all trials, and print the measured times."""
    if not (monitoring.prometheus() and monitoring.alertmanager()):
        print("Prometheus and Alertmanager are not installed (Debian: apt install prometheus prometheus-alertmanager)")
        return 2
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)
    print(f"scrape and evaluation every {SCRAPE_SECONDS} s\n")
    print("| fault | alert | about | fires after | resolved after the repair |\n|---|---|---|---|---|")
    async with servers.own_kafka() as broker, servers.own_postgres() as postgres:
        where = servers.Servers(servers.reached([broker]), postgres.server.address)
        with tempfile.TemporaryDirectory() as folder:
            system = System(where, Path(folder))
            try:
                await system.start()
                async with _load(system), _watched(system, Path(folder)) as alerts:
                    for trial in _trials(system, broker):
                        await _try(trial, alerts)
            finally:
                await system.stop()
    return 0


def _trials(system: System, broker: servers.Mortal) -> list[Trial]:
    return [
        Trial(
            "a consumer is stopped",
            lambda: system.stop_part(STOPPED),
            lambda: _started(system),
            [("ProcessDown", STOPPED[0]), ("ConsumerLags", STOPPED[0])],
        ),
        Trial(
            "Kafka is killed",
            broker.kill,
            broker.start,
            [*(("KafkaUnreachable", each) for each in READS), ("RequestsFail", "gateway")],
            lasting=[("IngestBurnsBudget", "")],
        ),
        Trial(
            f"{FEW} events nobody can read",
            lambda: _poison(system, FEW),
            lambda: asyncio.sleep(0),  # nothing to repair: no further ones are sent
            [("DeadLettersRise", each) for each in READS],
        ),
        Trial(
            f"{MANY} events nobody can read",
            lambda: _poison(system, MANY),
            lambda: _resume(system),
            [("ConsumerHalted", each) for each in READS],
        ),
    ]


async def _try(trial: Trial, alerts: httpx.AsyncClient) -> None:
    """Inject the fault, wait for its alerts, repair it, and wait until they are resolved."""
    await asyncio.sleep(CALM_SECONDS)
    hurt = time.monotonic()
    await trial.hurt()
    every = [*trial.expected, *trial.lasting]
    fired = await asyncio.gather(*(_when(alerts, alert, True, hurt) for alert in every))
    mended = time.monotonic()
    await trial.mend()
    resolved = await asyncio.gather(*(_when(alerts, alert, False, mended) for alert in trial.expected))
    for (name, about), after, end in zip_longest(every, fired, resolved):
        ended = "with its windows" if end is None else f"{end:.0f} s"
        print(f"| {trial.name} | `{name}` | {about or 'all'} | {after:.0f} s | {ended} |", flush=True)


async def _when(alerts: httpx.AsyncClient, alert: Alert, firing: bool, since: float) -> float:
    """Wait until Alertmanager has the alert, or no longer has it; returns the seconds since `since`."""
    while (alert in await _firing(alerts)) is not firing:
        if time.monotonic() - since > PATIENCE_SECONDS:
            sys.exit(f"{alert} {'did not fire' if firing else 'was not resolved'} within {PATIENCE_SECONDS} s")
        await asyncio.sleep(LOOK_SECONDS)
    return time.monotonic() - since


async def _firing(alerts: httpx.AsyncClient) -> set[Alert]:
    """The alerts that Alertmanager has, inhibited or not."""
    alerts_now = (await alerts.get("/api/v2/alerts")).raise_for_status().json()
    labels = [each["labels"] for each in alerts_now]
    return {(each["alertname"], each.get("consumer") or each.get("service", "")) for each in labels}


@contextlib.asynccontextmanager
async def _watched(system: System, folder: Path) -> AsyncIterator[httpx.AsyncClient]:
    """Run Prometheus and Alertmanager; yields a client of Alertmanager's API."""
    mine, its = ports.reserve(2)
    manager = Alertmanager(folder / "alertmanager", folder / "alertmanager.log", its)
    targets = [Target(url, *part) for part, url in system.admin_urls.items()]
    prometheus = Prometheus(
        folder / "prometheus", folder / "prometheus.log", mine, targets, [manager], scrape_seconds=SCRAPE_SECONDS
    )
    started = [(server, server.prepare().start()) for server in (manager, prometheus)]
    try:
        for server, process in started:
            await server.ready(process)
        async with httpx.AsyncClient(base_url=manager.url, timeout=10) as client:
            yield client
    finally:
        await asyncio.gather(*(process.stop() for _, process in started))


@contextlib.asynccontextmanager
async def _load(system: System) -> AsyncIterator[None]:
    """Sends 20 feedback events per second through the gateway; an event answered with 503 is not sent again."""
    key = await system.create_key("acme")

    async def send() -> None:
        async with httpx.AsyncClient(base_url=system.url, headers={"Authorization": f"Bearer {key}"}) as client:
            feedback = {"kind": "nps", "channel": "web", "score": {"value": 9, "min": 0, "max": 10}}
            while True:
                with contextlib.suppress(httpx.TransportError):
                    await client.post("/v1/feedback", json=feedback)
                await asyncio.sleep(0.2)

    senders = [asyncio.create_task(send()) for _ in range(4)]
    try:
        yield
    finally:
        for sender in senders:
            sender.cancel()
        await asyncio.gather(*senders, return_exceptions=True)


async def _started(system: System) -> None:
    system.start_part(STOPPED)


async def _poison(system: System, count: int) -> None:
    """Write events with invalid JSON to the topic."""
    good = [encode(factories.feedback(customer_id=f"C-{number}")) for number in range(count)]
    producer = Producer(system.kafka, "poison")
    await producer.start()
    outcomes = await producer.send_all([Record(record.topic, record.key, b"{", record.headers) for record in good], 30)
    await producer.stop()
    assert not any(outcomes)


async def _resume(system: System) -> None:
    """Resume all consumers, as `touchpoint consumer resume NAME --skip 300` does."""
    for service in READS:
        async with transaction_on(system.dsn(service), "tests") as session:
            await consumers.set_state(session, service, ConsumerState("running", "resumed", may_skip=MANY))


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
