"""`python -m bench.kafka_gone`: a gateway under load whose broker is killed and comes back after minutes.

The clients hardly wait (`impatient.py`). Measured per second: the events accepted and refused, the time of the slowest
response, and the gateway's memory. At the end each accepted event must be in Kafka exactly once.
"""

import asyncio
import csv
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import Annotated, Any

import httpx
import typer
from aiokafka import AIOKafkaConsumer, TopicPartition

from bench import door, impatient, plot, results
from bench.apart import apart
from bench.command import console, on_servers
from bench.impatient import Second
from bench.scenario import Bench
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.testing.servers import Mortal, Servers, own_kafka, reached
from touchpoint.testing.system import System

RESULT = results.FOLDER / "kafka_gone.json"
BEFORE_SECONDS, AFTER_SECONDS = 10, 20
"""Seconds of load before the broker is killed, and after it answers again."""
FULL_RATE = 0.9
"""Share of the median rate before the outage from which on the gateway counts as recovered."""
ENVIRONMENT = {"EVENTS_PER_SECOND": "1000000"}


@dataclass
class Course:
    """What was measured in a run; times are seconds since the load began."""

    seconds: list[Second]
    killed: float
    started: float
    """When the broker's process was started again."""
    answering: float
    """When the broker answered requests again."""
    recovered: float
    """Time of the first 202 after `started`."""
    observed: list[dict[str, Any]]
    """The responses to a client that sends one event per second."""
    accepted: set[str] = field(repr=False)
    refused: set[str] = field(repr=False)

    def before(self) -> list[Second]:
        """The seconds before the broker was killed, without the first one, which is the warm-up."""
        return self.seconds[1 : int(self.killed)]

    def summary(self) -> dict[str, float]:
        """The figures by which to judge the run."""
        rate = median(second.accepted for second in self.before())
        full = [n for n, s in enumerate(self.seconds) if n >= int(self.started) and s.accepted >= FULL_RATE * rate]
        return {
            "outage_s": self.answering - self.killed,
            "events_per_second_before": rate,
            "first_accepted_after_answering_s": self.recovered - self.answering,
            "full_rate_after_answering_s": max(0.0, full[0] - self.answering) if full else float("inf"),
            "slowest_answer_ms": max(second.slowest_ms for second in self.seconds),
            "rss_before_mib": max(second.rss_mib for second in self.before()),
            "rss_peak_mib": max(second.rss_mib for second in self.seconds),
            "rss_at_the_end_mib": self.seconds[-1].rss_mib,
            "accepted": len(self.accepted),
            "refused": len(self.refused),
        }


def main(
    seconds: Annotated[int, typer.Option(help="how long the broker is gone")] = 180,
    path: Annotated[Path, typer.Option("--json", help="where the result goes; table and plot lie beside")] = RESULT,
) -> None:
    """Kill the broker of a gateway under load, and start it again."""

    async def measure(bench: Bench) -> None:
        async with outage(bench.servers, bench.logs, seconds, console.print) as (system, course):
            lost, repeated = await compare(system.kafka, course)
            keep(course, path, {"lost": lost, "repeated": repeated})
            typer.echo(json.dumps({**course.summary(), "lost": lost, "repeated": repeated}, indent=1))

    on_servers(measure)


@asynccontextmanager
async def outage(
    servers: Servers, logs: Path, seconds: float, say: Callable[[str], object]
) -> AsyncIterator[tuple[System, Course]]:
    """Run the outage on a broker of its own; yields the system, still running, and the measurements."""
    async with own_kafka() as broker:
        system = System(Servers(reached([broker]), servers.dsn), logs, ENVIRONMENT)
        await system.prepare()
        try:
            keys = await door.opened(system)
            yield system, await _course(system, broker, keys["acme"], seconds, say)
        finally:
            await system.stop()


async def _course(system: System, broker: Mortal, key: str, seconds: float, say: Callable[[str], object]) -> Course:
    begun, stop = time.time(), system.logs / "stop"
    async with asyncio.TaskGroup() as tasks:
        loading = tasks.create_task(apart(impatient.send, url=system.url, key=key, begun=begun, stop=str(stop)))
        memory = tasks.create_task(_memory(system, begun, loading))
        observing = tasks.create_task(_observe(system.url, key, begun, loading))
        await asyncio.sleep(BEFORE_SECONDS)
        await broker.kill()
        killed = time.time() - begun
        say(f"the broker is gone, for {seconds} s")
        await asyncio.sleep(seconds)
        started = time.time() - begun
        await broker.start()
        answering = time.time() - begun
        say("the broker answers again")
        await asyncio.sleep(AFTER_SECONDS)
        stop.touch()
    seen, rss = loading.result(), memory.result()
    return Course(
        [Second(**second | {"rss_mib": rss[number]}) for number, second in enumerate(seen["seconds"])],
        killed,
        started,
        answering,
        recovered=min(at for at in seen["accepted_at"] if at > started),
        observed=observing.result(),
        accepted=set(seen["accepted"]),
        refused=set(seen["refused"]),
    )


async def _memory(system: System, begun: float, loading: asyncio.Task[Any]) -> list[float]:
    """The gateway's resident memory in each second, in MiB."""
    process = system.process(("gateway", "api")).handle
    mib = list[float]()
    while not loading.done():
        await asyncio.sleep(begun + len(mib) + 0.99 - time.time())
        mib.append(process.memory_info().rss / 2**20)
    return mib


async def _observe(url: str, key: str, begun: float, loading: asyncio.Task[Any]) -> list[dict[str, Any]]:
    """Send one event per second, as a patient client does; returns each response's status, duration and Retry-After."""
    answers = list[dict[str, Any]]()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/cloudevents+json"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=60) as client:
        while not loading.done():
            await asyncio.sleep(begun + len(answers) - time.time())
            sent = time.time()
            answer = await client.post("/v1/events", content=impatient.event(f"o-{len(answers)}"))
            seen = {"at": sent - begun, "status": answer.status_code, "seconds": time.time() - sent}
            answers.append(seen | {"retry_after": answer.headers.get("retry-after")})
    return answers


async def compare(kafka: KafkaSettings, course: Course) -> tuple[int, int]:
    """The number of accepted events missing in Kafka, and the number of all events that are there more than once."""
    copies = Counter[str]()
    consumer = AIOKafkaConsumer(**kafka.client_options())
    await consumer.start()
    try:
        places = [TopicPartition(kafka.topic_prefix + TOUCHPOINTS, number) for number in range(kafka.partitions)]
        consumer.assign(places)
        await consumer.seek_to_beginning()
        left = sum((await consumer.end_offsets(places)).values())
        while copies.total() < left:
            for batch in (await consumer.getmany(timeout_ms=1000)).values():
                copies.update(dict(record.headers)["ce_id"].decode() for record in batch)
    finally:
        await consumer.stop()
    return sum(event_id not in copies for event_id in course.accepted), sum(n > 1 for n in copies.values())


def keep(course: Course, path: Path, more: dict[str, Any]) -> None:
    """Write the summary as JSON, the figures per second as CSV, and a chart as SVG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = [asdict(second) for second in course.seconds]
    document = {**course.summary(), **more, "observed": course.observed, "measured": results.machine()}
    path.write_text(json.dumps(document, indent=1) + "\n")
    with path.with_suffix(".csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, ["second", *rows[0]])
        writer.writeheader()
        writer.writerows({"second": number, **row} for number, row in enumerate(rows))
    panels = {
        "events a second": {name: [row[name] for row in rows] for name in ("accepted", "refused")},
        "slowest answer, ms": {"slowest": [row["slowest_ms"] for row in rows]},
        "memory of the gateway, MiB": {"rss": [row["rss_mib"] for row in rows]},
    }
    marks = {"killed": course.killed, "answers": course.answering}
    plot.over_time(panels, marks, path.with_suffix(".svg"))


if __name__ == "__main__":
    typer.run(main)
