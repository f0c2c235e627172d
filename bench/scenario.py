"""A scenario and its ratio: the floor and Touchpoint run alternately; the pair with the median ratio is the result."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from touchpoint.local.progress import Say
from touchpoint.testing.servers import Servers
from touchpoint.testing.system import System

PARTITIONS = 12
"""Partitions of every topic: a deployment's default."""


@dataclass(frozen=True)
class Sample:
    """One run: its result in the scenario's unit, and further measurements."""

    value: float
    details: dict[str, Any] = field(default_factory=dict)


Measure = Callable[[], Awaitable[Sample]]


class Pair(NamedTuple):
    """The two programs that are measured alternately."""

    floor: Measure
    ours: Measure


@dataclass(frozen=True)
class Bench:
    """Shared by all scenarios: the servers, and a folder for the logs of processes."""

    servers: Servers
    logs: Path

    @asynccontextmanager
    async def system(self) -> AsyncIterator[System]:
        """Topics and databases of one scenario; nothing runs yet."""
        system = System(self.servers, self.logs, partitions=PARTITIONS)
        try:
            await system.prepare()
            yield system
        finally:
            await system.stop()


@dataclass(frozen=True)
class Scenario:
    """A benchmark: `prepare` yields the pair to measure; `least` is the required ratio, `aim` the desired one."""

    name: str
    unit: str
    least: float
    aim: float
    prepare: Callable[[Bench], AbstractAsyncContextManager[Pair]]
    lower_is_better: bool = False

    def ratio(self, floor: Sample, ours: Sample) -> float:
        """The performance relative to the floor: 1 equals it, higher is better."""
        return floor.value / ours.value if self.lower_is_better else ours.value / floor.value

    async def run(self, bench: Bench, runs: int, say: Say) -> "Result":
        """Measure one warm-up pair, then `runs` pairs."""
        result = Result(self)
        say("preparing")
        async with self.prepare(bench) as pair:
            for number in range(runs + 1):
                step = f"run {number} of {runs}" if number else "warming up"
                say(f"{step}, floor")
                floor = await pair.floor()
                say(f"{step}, ours")
                ours = await pair.ours()
                if number:
                    result.pairs.append((floor, ours))
        return result


@dataclass(frozen=True)
class Result:
    """A scenario's measured pairs, each (floor, ours)."""

    scenario: Scenario
    pairs: list[tuple[Sample, Sample]] = field(default_factory=list)

    @property
    def median(self) -> tuple[Sample, Sample]:
        """The pair with the median ratio: its two runs followed each other directly, so other load affected both."""
        ordered = sorted(self.pairs, key=lambda pair: self.scenario.ratio(*pair))
        return ordered[len(ordered) // 2]

    def line(self) -> str:
        """The line that is printed for the scenario."""
        floor, ours = self.median
        ratio = self.scenario.ratio(floor, ours)
        return (
            f"{self.scenario.name} ratio={ratio:.2f} ours={ours.value:.{_digits(ours)}f} "
            f"floor={floor.value:.{_digits(floor)}f} unit={self.scenario.unit}"
        )


def _digits(sample: Sample) -> int:
    return 0 if sample.value >= 100 else 2
