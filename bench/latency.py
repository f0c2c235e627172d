"""`latency`: time from the 202 until `GET /v1/feedback` shows the event, at 500 events/s; the floor is Kafka alone."""

import asyncio
import random
import re
import time
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from itertools import count
from typing import Any, NamedTuple
from urllib.parse import quote

from bench import door, floors, load
from bench.apart import apart, settle
from bench.cpu import Cpu
from bench.payloads import CUSTOMERS, event, feedback
from bench.scenario import Bench, Pair, Sample, Scenario
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.testing.system import System

RATE = 500
SECONDS = 12
WARM_SECONDS = 2
"""The seconds at the beginning of a run that are not counted."""
CONNECTIONS = 32
TENANT = "acme"
PROBED = 5
"""One event of `PROBED` is polled for: polling for all would fill every page and measure reading instead."""
PAUSE_SECONDS = 0.002
PATIENCE_SECONDS = 30
_EVENT_ID = re.compile(rb'"event_id": ?"([^"]+)"')


@asynccontextmanager
async def prepare(bench: Bench) -> AsyncIterator[Pair]:
    """The gateway and every role of feedback-svc. A first run writes the records that the floor sends."""
    async with bench.system() as system:
        keys = await door.opened(system)
        parts = [("feedback-svc", role) for role in ("api", "consumer", "worker")]
        for part in parts:
            system.start_part(part)
        await system.ready(parts)
        ours = partial(_ours, system, keys[TENANT], count(1))
        await ours()
        yield Pair(partial(_floor, system), ours)


async def _ours(system: System, key: str, numbers: "count[int]") -> Sample:
    cpu = Cpu()
    seen = await apart(observe, url=system.url, key=key, seed=next(numbers))
    return Sample(seen["p99_ms"], {**seen, "cpu_us": cpu.each(RATE * SECONDS)})


async def _floor(system: System) -> Sample:
    seen = await apart(pass_through, kafka=floors.reached(system.kafka))
    return Sample(seen["p99_ms"], seen)


class Planned(NamedTuple):
    """An event, and when to send it: `after` in seconds since the start of the run, `at` as the event's time."""

    id: str
    after: float
    at: datetime
    request: bytes


@dataclass
class Observed:
    """When events were sent, accepted and first seen, by event id, on the clock of `perf_counter`."""

    sent: dict[str, float] = field(default_factory=dict)
    accepted: dict[str, float] = field(default_factory=dict)
    readable: dict[str, float] = field(default_factory=dict)
    looked: deque[float] = field(default_factory=deque)
    """The duration of each poll, in seconds."""


async def observe(url: str, key: str, seed: int) -> dict[str, float]:
    """Send events on a fixed schedule, and poll `GET /v1/feedback` for the probes meanwhile.

    Returns percentiles of the time from the 202 (`p50_ms`, `p99_ms`) and from sending (`from_sending_…`) to the page
    that shows the event, the duration of a poll, which is the resolution of these times, and the accepted events/s.
    """
    survey = f"probe-{seed}"
    probes, others = _plan(key, seed, survey)
    senders, [reader] = await load.connect(url, CONNECTIONS), await load.connect(url, 1)
    settle()
    seen, begun = Observed(), time.perf_counter()
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_send(sorted(probes + others, key=lambda p: p.after), senders, begun, seen))
        tasks.create_task(_look(probes, reader, partial(_page, key, survey), seen))
    counted = [probe.id for probe in probes if probe.after >= WARM_SECONDS]
    accepted_for = max(seen.accepted.values()) - min(seen.accepted.values())
    return {
        **load.percentiles(seen.readable[probe] - seen.accepted[probe] for probe in counted),
        **load.percentiles((seen.readable[probe] - seen.sent[probe] for probe in counted), "from_sending_"),
        "look_p50_ms": load.percentiles(seen.looked)["p50_ms"],
        "events_per_second": len(seen.accepted) / accepted_for,
        "probes": len(counted),
    }


def _plan(key: str, seed: int, survey: str) -> tuple[list[Planned], list[Planned]]:
    """The probes, and all other events."""
    chance, begin = random.Random(seed), datetime.now(UTC) + timedelta(seconds=1)
    probes, others = list[Planned](), list[Planned]()
    for number in range(RATE * SECONDS):
        after = number / RATE
        at = begin + timedelta(seconds=after)
        is_probe = number % PROBED == 0
        data = feedback(chance, f"C-{chance.randrange(CUSTOMERS):05d}", survey if is_probe else None)
        payload = event(chance, TENANT, "feedback.submitted", at, data)
        planned = Planned(payload.id, after, at, door.single(payload, {TENANT: key}))
        (probes if is_probe else others).append(planned)
    return probes, others


async def _send(planned: list[Planned], connections: list[load.Connection], begun: float, seen: Observed) -> None:
    free = asyncio.Queue[load.Connection]()
    for connection in connections:
        free.put_nowait(connection)
    async with asyncio.TaskGroup() as tasks:
        for each in planned:
            await asyncio.sleep(begun + each.after - time.perf_counter())
            tasks.create_task(_send_one(each, await free.get(), free, seen))


async def _send_one(
    each: Planned, connection: load.Connection, free: "asyncio.Queue[load.Connection]", seen: Observed
) -> None:
    seen.sent[each.id] = time.perf_counter()
    status, body = await connection.ask(each.request)
    seen.accepted[each.id] = time.perf_counter()
    free.put_nowait(connection)
    if status != 202:
        raise RuntimeError(f"expected 202, not {status}: {body[:500].decode()}")


def _page(key: str, survey: str, since: datetime) -> bytes:
    return load.request("GET", f"/v1/feedback?survey_id={survey}&limit=200&from={quote(since.isoformat())}", key)


async def _look(
    probes: list[Planned], connection: load.Connection, page: Callable[[datetime], bytes], seen: Observed
) -> None:
    """Poll for the probes since the oldest one that no page has shown yet, until all were shown."""
    missing = {probe.id: probe.at for probe in probes}
    deadline = time.perf_counter() + SECONDS + PATIENCE_SECONDS
    while missing:
        asked = time.perf_counter()
        status, body = await connection.ask(page(next(iter(missing.values()))))
        answered = time.perf_counter()
        if status != 200 or answered > deadline:
            raise RuntimeError(f"{len(missing)} events cannot be read; {status}: {body[:500].decode()}")
        seen.looked.append(answered - asked)
        for event_id in _EVENT_ID.findall(body):
            if missing.pop(event_id.decode(), None):
                seen.readable[event_id.decode()] = answered
        await asyncio.sleep(PAUSE_SECONDS)


async def pass_through(kafka: dict[str, Any]) -> dict[str, float]:
    """The floor: send the same records at the same rate from a bare producer to a bare consumer in the same process."""
    settings = KafkaSettings(**kafka)
    records = list((await floors.records(settings, TOUCHPOINTS, RATE * SECONDS)).values())
    return await floors.pass_through(settings, records, RATE, RATE * WARM_SECONDS)


SCENARIO = Scenario("latency", "ms", least=0.1, aim=0.3, prepare=prepare, lower_is_better=True)
