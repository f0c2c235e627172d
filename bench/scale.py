"""`python -m bench.scale`: cost per event while the tables grow from 10⁵ to 10⁷ events. It must stay constant.

At each point SQL fills the tables with copies of the first day; then events are sent through the gateway, and both
consumers apply them. At the end the outbox is filled and relayed continuously: rows left behind would make it grow.
"""

import asyncio
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from bench import backlog, door, floors, ingest_batch, plot, results
from bench.apart import apart
from bench.command import console, on_servers, run
from bench.cpu import Cpu
from bench.scenario import Bench
from touchpoint.db import databases
from touchpoint.testing.system import System

DAY = 100_000
"""Events per day."""
DAYS_AGO = 130
"""How many days ago the first day is; the other days follow it, so that rows are inserted in order of time."""
POINTS = (100_000, 200_000, 500_000, 1_000_000, 2_000_000, 5_000_000, 10_000_000)
MEASURED = 50_000
CONSUMERS = {"store": "feedback-svc", "aggregate": "metrics-svc"}
RELAYED_POINT = 100_000
CHUNK = 5_000
BACKLOG = 10_000
"""The next chunk is inserted once at most this number of rows waits for the relay."""
WAITING = "SELECT coalesce(max(id) - min(id), 0) FROM outbox"
RESULT = results.FOLDER / "scale.json"

LATER = "interval '1 day' * {day}"
FILLED: dict[str, dict[str, dict[str, str]]] = {
    "feedback-svc": {
        "inbox": {"event_id": "gen_random_uuid()"},
        "feedback": {
            "id": "gen_random_uuid()",
            "event_id": "gen_random_uuid()::text",
            "occurred_at": f"occurred_at + {LATER}",
            "recorded_at": f"recorded_at + {LATER}",
        },
        "timeline": {"id": "gen_random_uuid()", "occurred_at": f"occurred_at + {LATER}"},
    },
    "metrics-svc": {
        "inbox": {"event_id": "gen_random_uuid()"},
        "rollups": {"quarter": f"quarter + {LATER}"},
        "tickets": {"ticket_id": "ticket_id || '-{day}'"},
    },
}
"""The tables that grow, and the columns in which the rows of another day differ, as SQL."""


def main(
    rows: Annotated[int, typer.Option(help="events in the tables at the last point")] = POINTS[-1],
    relayed: Annotated[int, typer.Option(help="records that go through the outbox")] = 2_000_000,
    path: Annotated[
        Path, typer.Option("--json", help="file of the result; the chart is written next to it (.svg)")
    ] = RESULT,
) -> None:
    """Measure what an event costs while the tables grow."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    points = [point for point in POINTS if point <= rows]

    async def measure(bench: Bench) -> None:
        with Progress(*columns, console=console) as progress:
            async with bench.system() as system:
                scale = Scale(system, progress, progress.add_task("rows", total=points[-1]), path)
                await scale.first_day()
                for point in points:
                    await scale.grow(point)
                    await scale.measure(point)
                await scale.relay(relayed)

    on_servers(measure)


class Scale:
    """The growing tables of two services, and the measurements."""

    def __init__(self, system: System, progress: Progress, bar: TaskID, path: Path) -> None:
        self._system = system
        self._progress = progress
        self._bar = bar
        self._path = path
        self._days = 1
        self._sent = 0
        self._measurements: dict[str, list[dict[str, Any]]] = {"store": [], "aggregate": [], "relay": []}

    async def first_day(self) -> None:
        """Apply the first day's events and keep a copy of its rows as the model of the other days."""
        await self._send(DAY, days_ago=DAYS_AGO)
        for service, tables in FILLED.items():
            await backlog.consume(self._system, service, self._sent)
            async with databases.connected(self._system.dsn(service)) as connection:
                for table in [*tables, "outbox"]:
                    await connection.execute(f"CREATE TABLE model_{table} AS SELECT * FROM {table}")

    async def grow(self, point: int) -> None:
        """Fill the tables with whole days until they hold about `point` events."""
        while self._events() + DAY <= point:
            await asyncio.gather(*(self._fill_day(service, tables) for service, tables in FILLED.items()))
            self._days += 1
            self._progress.update(self._bar, completed=self._events())
        for service, tables in FILLED.items():
            async with databases.connected(self._system.dsn(service)) as connection:
                await connection.execute("TRUNCATE outbox")
                for table in tables:
                    await connection.execute(f"VACUUM (ANALYZE) {table}")

    async def _fill_day(self, service: str, tables: Mapping[str, Mapping[str, str]]) -> None:
        async with databases.connected(self._system.dsn(service)) as connection:
            for table, changed in tables.items():
                columns = await floors.columns(connection, table)
                values = [changed.get(name, f'"{name}"').format(day=self._days) for name in columns]
                await connection.execute(
                    f"INSERT INTO {table} ({floors.joined(columns)}) SELECT {', '.join(values)} FROM model_{table} "
                    "ON CONFLICT DO NOTHING"
                )

    async def measure(self, point: int) -> None:
        """Measure both consumers on events of the day after the last one."""
        rows = self._events()
        await self._send(MEASURED, days_ago=DAYS_AGO - self._days, seed=point)
        for name, service in CONSUMERS.items():
            seen = await backlog.consume(self._system, service, self._sent)
            self._keep(name, {"rows": rows, "us_per_event": 1e6 / seen.value, "cpu_us": seen.details["cpu_us"]})

    async def relay(self, count: int) -> None:
        """Fill the outbox as fast as the relay empties it, and measure the relay every `RELAYED_POINT` records."""
        bar = self._progress.add_task("relayed", total=count)
        async with databases.connected(self._system.dsn("feedback-svc")) as connection:
            columns = floors.joined(await floors.columns(connection, "outbox"))
            fill = f"INSERT INTO outbox ({columns}) SELECT {columns} FROM model_outbox LIMIT {CHUNK}"
            self._system.start_part(("feedback-svc", "worker"))
            for done in range(CHUNK, count + 1, CHUNK):
                if done % RELAYED_POINT == CHUNK:
                    begun, cpu = time.perf_counter(), Cpu()
                await connection.execute(fill)
                while await connection.fetchval(WAITING) > BACKLOG:  # noqa: ASYNC110 # another process empties it
                    await asyncio.sleep(backlog.LOOK_SECONDS)
                self._progress.update(bar, completed=done)
                if done % RELAYED_POINT == 0:
                    took = (time.perf_counter() - begun) / RELAYED_POINT
                    size = await connection.fetchval("SELECT pg_total_relation_size('outbox')")
                    seen = {"us_per_event": 1e6 * took, "cpu_us": cpu.each(RELAYED_POINT), "outbox_bytes": size}
                    self._keep("relay", {"rows": done, **seen})

    def _events(self) -> int:
        return DAY * (self._days - 1) + self._sent

    def _keep(self, name: str, measurement: dict[str, Any]) -> None:
        """Write the results at once, so that an interrupted run keeps them."""
        self._measurements[name].append(measurement)
        self._progress.console.print(
            f"{name} at {measurement['rows']:,}: {measurement['us_per_event']:.0f} µs an event"
        )
        self._path.write_text(json.dumps({**self._measurements, "measured": results.machine()}, indent=1) + "\n")
        measured = {name: points for name, points in self._measurements.items() if points}
        clock = {name: [(at["rows"], at["us_per_event"]) for at in points] for name, points in measured.items()}
        cpu = {name: [(at["rows"], sum(at["cpu_us"].values())) for at in points] for name, points in measured.items()}
        y_label = "µs an event, dashed: of CPU time in all processes"
        plot.curves(clock, cpu, self._path.with_suffix(".svg"), "events in the tables, or records relayed", y_label)

    async def _send(self, count: int, **which: float) -> None:
        keys = await door.opened(self._system)
        await apart(ingest_batch.send, url=self._system.url, keys=keys, count=count, **which)
        await self._system.terminate()
        self._sent += count


if __name__ == "__main__":
    run(main)
