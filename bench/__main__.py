"""`python -m bench [NAME …]`: measure scenarios against their floors; one line each on standard output."""

from pathlib import Path
from typing import Annotated

import typer

from bench import (
    aggregate,
    fairness,
    ingest_batch,
    ingest_single,
    latency,
    plot,
    read,
    relay,
    replay,
    replay_live,
    results,
    store,
)
from bench.command import console, on_servers, run
from bench.scenario import Bench
from touchpoint.local.progress import Progress

MODULES = (ingest_single, ingest_batch, store, aggregate, relay, latency, read, fairness, replay, replay_live)
SCENARIOS = {module.SCENARIO.name: module.SCENARIO for module in MODULES}


def main(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]…", help=f"of {', '.join(SCENARIOS)}")] = None,
    runs: Annotated[int, typer.Option(min=1, help="measured pairs of floor and ours, after one warm-up pair")] = 5,
    json: Annotated[
        Path, typer.Option(help="file of the results; the chart is written next to it (.svg)")
    ] = results.LATEST,
) -> None:
    """Measure scenarios against their floors; bench/README.md describes them."""
    unknown = set(names or ()) - set(SCENARIOS)
    if unknown:
        raise typer.BadParameter(f"{', '.join(sorted(unknown))}: there are {', '.join(SCENARIOS)}")

    async def measure(bench: Bench) -> None:
        progress = Progress(console)
        for scenario in [SCENARIOS[name] for name in names or SCENARIOS]:
            with progress.step(scenario.name) as say:
                result = await scenario.run(bench, runs, say)
            plot.ratios(results.keep(json, result), json.with_suffix(".svg"))
            print(result.line(), flush=True)

    on_servers(measure)


if __name__ == "__main__":
    run(main)
