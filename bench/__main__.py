"""`python -m bench [NAME …]`: measure scenarios against their floors; one line each on standard output."""

import logging
import os
import signal
from pathlib import Path
from typing import Annotated

import typer
import uvloop
from rich.console import Console

from bench import aggregate, ingest_batch, ingest_single, latency, read, relay, results, store
from bench.scenario import Bench, Scenario
from touchpoint.local.progress import Progress
from touchpoint.testing import servers

MODULES = (ingest_single, ingest_batch, store, aggregate, relay, latency, read)
SCENARIOS = {module.SCENARIO.name: module.SCENARIO for module in MODULES}

POSTGRES = (
    ("fsync", "on"),
    ("synchronous_commit", "on"),
    ("full_page_writes", "on"),
    ("shared_buffers", "1GB"),
    ("max_wal_size", "4GB"),
    ("max_connections", "200"),
)
"""A commit is on the disk before it is told, as in production, and memory is that of a small server."""

console = Console(stderr=True, highlight=False)


def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]…", help=f"of {', '.join(SCENARIOS)}")] = None,
    runs: Annotated[int, typer.Option(min=1, help="pairs of floor and ours that count; one more warms up")] = 5,
    json: Annotated[Path, typer.Option(help="where the results go, beside those of other scenarios")] = results.LATEST,
) -> None:
    """Measure scenarios against their floors; bench/README.md tells what each is."""
    unknown = set(names or ()) - set(SCENARIOS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(SCENARIOS)}")
    if os.getloadavg()[0] > 1:
        console.print(f"[yellow]The machine is busy (load {os.getloadavg()[0]:.1f}): figures will be low.[/]")
    chosen = [SCENARIOS[name] for name in names or SCENARIOS]
    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # it tells of each try while the broker starts
    signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
    servers.stop_abandoned()
    folder = servers.new_folder()
    try:
        uvloop.run(_measure(chosen, folder, runs, json))
    finally:
        servers.stop(folder)


async def _measure(chosen: list[Scenario], folder: Path, runs: int, json: Path) -> None:
    progress = Progress(console)
    with progress.step("Kafka and PostgreSQL"):
        bench = Bench(await servers.ensure(folder, POSTGRES), folder / "logs")
    for scenario in chosen:
        with progress.step(scenario.name) as say:
            result = await scenario.run(bench, runs, say)
        results.keep(json, result)
        print(result.line(), flush=True)


if __name__ == "__main__":
    typer.run(main)
