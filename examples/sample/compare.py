"""Asks a gateway for the planted truths of a sample, and compares its answers with the truths file.

It uses the standard library alone and nothing of the generator:

    touchpoint sample --customers 1000 --to http://127.0.0.1:8080 --truths truths.json
    python examples/sample/compare.py truths.json http://127.0.0.1:8080

The API key is in TOUCHPOINT_API_KEY (scope metrics:read). Its tenant must hold this sample alone. Exit codes: 0 all
numbers are equal, 1 some differ, 2 the gateway or the file cannot be read.
"""

import json
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path
from typing import Any

Item = dict[str, Any]


class Comparison:
    """Asks, compares, and writes a line for each number."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self.key = url, key
        self.differences = 0

    def ask(self, metric: str, begin: str, end: str, group_by: str = "") -> dict[str, Item]:
        """A metric of a range of time: an item for each group; without groups its name is empty."""
        query = {"from": begin, "to": end} | ({"group_by": group_by} if group_by else {})
        address = f"{self.url}/v1/metrics/{metric}?{urllib.parse.urlencode(query)}"
        request = urllib.request.Request(address)  # noqa: S310 (the caller's own URL)
        request.add_header("Authorization", f"Bearer {self.key}")
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310 (as above)
            items = json.load(answer)["items"]
        return {item["group"].get(group_by, ""): item for item in items}

    def line(self, text: str, expected: float | None, answered: float | None) -> None:
        """Compare two numbers; floats to a thousandth."""
        equal = expected == answered or (
            None not in (expected, answered) and abs(float(expected or 0) - float(answered or 0)) < 0.001
        )
        self.differences += not equal
        sys.stdout.write(f"{'=' if equal else 'DIFFERS'}  {text}: expected {expected}, answered {answered}\n")

    def mix(self, truth: Item) -> None:
        """The NPS of each segment and of all, in the first and in the last quarter."""
        sys.stdout.write(f"\n{truth['truth']}\n")
        for name, quarter in truth["counted"].items():
            overall = self.ask("nps", quarter["from"], quarter["to"])[""]
            by_segment = self.ask("nps", quarter["from"], quarter["to"], "segment")
            for segment, expected in quarter["segments"].items():
                answered = by_segment.get(segment, {})
                for field in ("n", "promoters", "detractors"):
                    self.line(f"{name} quarter, {segment}, {field}", expected[field], answered.get(field, 0))
                share = round(answered["n"] / overall["n"], 4)
                self.line(f"{name} quarter, {segment}, share of answers", expected["share"], share)
                self.line(f"{name} quarter, {segment}, NPS", expected["nps"], _rounded(answered["value"], 2))
            self.line(f"{name} quarter, all, NPS", quarter["overall"]["nps"], _rounded(overall["value"], 2))

    def exports(self, truth: Item) -> None:
        """The CSAT of the weeks before, during and after."""
        sys.stdout.write(f"\n{truth['truth']}\n")
        for phase in ("before", "broken", "after"):
            if expected := truth["counted"][phase]:
                answered = self.ask("csat", expected["from"], expected["to"])[""]
                self.line(f"{phase}, csat answers", expected["csat_n"], answered["n"])
                self.line(f"{phase}, csat", expected["csat"], _rounded(answered["value"], 4))

    def channels(self, truth: Item, world: Item) -> None:
        """The mean first-response time of each channel."""
        sys.stdout.write(f"\n{truth['truth']}\n")
        answered = self.ask("first-response", world["start"], world["until"], "channel")
        for channel, expected in truth["counted"]["channels"].items():
            self.line(f"{channel}, first responses", expected["n"], answered[channel]["n"])
            seconds = _rounded(answered[channel]["mean_seconds"], 3)
            self.line(f"{channel}, mean seconds", expected["mean_seconds"], seconds)
        slow, compared = (truth["planted"][name] for name in ("channel", "compared_with"))
        ratio = answered[slow]["mean_seconds"] / answered[compared]["mean_seconds"]
        self.line(f"{slow} / {compared}", truth["counted"]["ratio"], _rounded(ratio, 3))


def _rounded(value: float | None, digits: int) -> float | None:
    return None if value is None else round(value, digits)


def main(file: str, url: str) -> int:
    """Compare all truths that metrics can show; returns the exit code."""
    try:
        truths = json.loads(Path(file).read_text("utf-8"))
        comparison = Comparison(url, os.environ.get("TOUCHPOINT_API_KEY", ""))
        comparison.mix(truths["changed_mix"])
        comparison.exports(truths["broken_exports"])
        comparison.channels(truths["slow_channel"], truths["world"])
    except (OSError, ValueError) as error:
        sys.stderr.write(f"compare: {error}\n")
        return 2
    sys.stdout.write(f"\n{comparison.differences} numbers differ\n")
    return 1 if comparison.differences else 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: compare.py TRUTHS_FILE GATEWAY_URL")
    sys.exit(main(*sys.argv[1:]))
