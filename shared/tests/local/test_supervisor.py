"""Restarts: soon after a long run, with growing pauses while a program keeps ending."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from touchpoint.local.supervisor import LONGEST_PAUSE_SECONDS, Kept


@dataclass
class FakeProgram:
    """Starts processes that run until a test ends them."""

    name: str = "trial"
    log: Path = Path("trial.log")
    started: list["FakeProcess"] = field(default_factory=list)

    def start(self) -> "FakeProcess":
        self.started.append(FakeProcess())
        return self.started[-1]


@dataclass
class FakeProcess:
    lives: bool = True

    def alive(self) -> bool:
        return self.lives


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Any:
    class Clock:
        now = 1000.0

    monkeypatch.setattr("touchpoint.local.supervisor.time.monotonic", lambda: Clock.now)
    return Clock


def seconds_until_restart(kept: Kept, clock: Any) -> float:
    """End the process and call `look` every tenth of a second until another one has started."""
    kept.process.lives = False
    begun, restarts = clock.now, kept.restarts
    while kept.restarts == restarts:
        kept.look()
        clock.now += 0.1
    return round(float(clock.now - begun), 0)


@pytest.fixture
def kept(clock: Any) -> Kept:
    program: Any = FakeProgram()
    return Kept(program, program.start())


def test_a_running_program_is_not_restarted(kept: Kept, clock: Any) -> None:
    clock.now += 3600
    assert kept.look() is None
    assert len(kept.program.started) == 1


def test_the_pause_doubles_up_to_a_limit_while_the_program_keeps_ending(kept: Kept, clock: Any) -> None:
    assert [seconds_until_restart(kept, clock) for _ in range(7)] == [1, 2, 4, 8, 16, LONGEST_PAUSE_SECONDS, 30]


def test_after_a_long_run_a_program_is_restarted_soon(kept: Kept, clock: Any) -> None:
    for _ in range(4):
        seconds_until_restart(kept, clock)
    clock.now += 3600
    assert seconds_until_restart(kept, clock) == 1


def test_an_end_and_a_restart_are_each_reported_once(kept: Kept, clock: Any) -> None:
    kept.process.lives = False
    messages = []
    for _ in range(30):
        messages.append(kept.look())
        clock.now += 0.1
    assert [line for line in messages if line] == [
        "trial has ended; restart in 1 s; log: trial.log",
        "trial was restarted",
    ]
