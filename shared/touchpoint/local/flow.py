"""Shows a stack's counts and rates of events from the services' metrics: a live table, or lines without a terminal."""

import asyncio
import time
from collections import deque
from contextlib import nullcontext
from dataclasses import dataclass

import httpx
from prometheus_client.parser import text_string_to_metric_families
from rich.console import Console
from rich.live import Live
from rich.table import Table

from touchpoint.local.services import ESCALATION, FEEDBACK, GATEWAY, METRICS, LocalService

LOOK_SECONDS = 1.0
RATE_READINGS = 6
"""Rates are taken over the last five seconds."""

LAG = "touchpoint_consumer_lag_records"
PENDING = "touchpoint_outbox_pending_rows"
HALTED = "touchpoint_consumer_halted"
PAUSED = "touchpoint_consumer_paused"

DONE = {
    GATEWAY: ("events accepted", "touchpoint_gateway_events_accepted_total"),
    FEEDBACK: ("feedback stored", "touchpoint_feedback_stored_total"),
    ESCALATION: ("cases opened", "touchpoint_escalation_cases_opened_total"),
    METRICS: ("scores and times counted", "touchpoint_metrics_measurements_total"),
}
"""For each service the label of its main work and the counter metric that counts it."""


@dataclass(frozen=True)
class Reading:
    """A service's metrics at a moment, summed over labels; None while it does not answer."""

    moment: float
    values: dict[str, float] | None

    def get(self, name: str) -> float | None:
        """One value; 0 when the service has not counted yet, None when it does not answer or has no such metric."""
        return None if self.values is None else self.values.get(name)


Readings = dict[LocalService, Reading]


async def show(base_port: int, console: Console) -> None:
    """Show the counts until cancelled: on a terminal a live table, else the table once and a line for each change."""
    async with httpx.AsyncClient(timeout=2) as client:
        readings = deque([await read(client, base_port)], maxlen=RATE_READINGS)
        if not console.is_terminal:
            console.print(table(readings[-1], readings[0]))
        with Live(console=console, auto_refresh=False) if console.is_terminal else nullcontext() as live:
            while True:
                readings.append(await read(client, base_port))
                if live:
                    live.update(table(readings[-1], readings[0]), refresh=True)
                elif line(readings[-1]) != line(readings[-2]):
                    console.print(line(readings[-1]), highlight=False, soft_wrap=True)
                await asyncio.sleep(LOOK_SECONDS)


async def read(client: httpx.AsyncClient, base_port: int) -> Readings:
    """All services' metrics now."""
    readings = await asyncio.gather(*(_read(client, service, base_port) for service in DONE))
    return dict(zip(DONE, readings, strict=True))


async def _read(client: httpx.AsyncClient, service: LocalService, base_port: int) -> Reading:
    try:
        text = (await client.get(f"{service.admin_url(base_port)}/metrics")).text
    except httpx.TransportError:
        return Reading(time.monotonic(), None)
    values: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            values[sample.name] = values.get(sample.name, 0) + sample.value
    return Reading(time.monotonic(), values)


def line(readings: Readings) -> str:
    """The readings in one line."""
    done = [f"{what} {_number(readings[service].get(name) or 0)}" for service, (what, name) in DONE.items()]
    lag = sum(reading.get(LAG) or 0 for reading in readings.values())
    return " · ".join([*done, f"lag {_number(lag)}"])


def table(now: Readings, before: Readings) -> Table:
    """The readings beside each other; rates are since `before`."""
    shown = Table(caption="counted since each service started · Ctrl-C stops everything", caption_justify="left")
    shown.add_column("service")
    for title in ("done", "", "per second", "lag", "outbox"):
        shown.add_column(title, justify="left" if not title else "right")
    for service, (what, name) in DONE.items():
        reading = now[service]
        if reading.values is None:
            shown.add_row(service.name, "", "[yellow]not answering[/]", "", "", "")
            continue
        halted = " [red]halted: see touchpoint doctor[/]" if reading.get(HALTED) or reading.get(PAUSED) else ""
        count = reading.get(name) or 0
        shown.add_row(
            service.name,
            _number(count),
            what + halted,
            _rate(count, reading, before.get(service), name),
            _number(reading.get(LAG)),
            _number(reading.get(PENDING)),
        )
    return shown


def _rate(count: float, now: Reading, before: Reading | None, name: str) -> str:
    earlier = before.get(name) if before else None
    if before is None or earlier is None or count < earlier or now.moment <= before.moment:
        return ""
    return f"{(count - earlier) / (now.moment - before.moment):,.1f}"


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:,.0f}"
