"""Worlds that the tests look at, each made once, as the lines that the command writes."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from touchpoint.sample import world
from touchpoint.sample.dates import DAY
from touchpoint.sample.schedule import Frame, encode
from touchpoint.sample.truths import Truths

START = 1_735_516_800
"""2024-12-30, a Monday."""

Events = list[dict[str, Any]]


def _lines(frame: Frame) -> list[bytes]:
    """A world of its nominal length."""
    return [encode(event, backfill=True) for event in world.events(frame, frame.start + frame.days * DAY)]


@pytest.fixture(scope="session")
def lines() -> Callable[[Frame], list[bytes]]:
    """Makes another world."""
    return _lines


@pytest.fixture(scope="session")
def small() -> list[bytes]:
    """A small company's year: lines of JSON."""
    return _lines(Frame(customers=40, days=365, seed=3, start=START))


@pytest.fixture(scope="session")
def small_events(small: list[bytes]) -> Events:
    return [json.loads(line) for line in small]


@pytest.fixture(scope="session")
def year() -> tuple[Events, dict[str, Any]]:
    """A larger company's year, and the description of its truths as JSON."""
    frame = Frame(customers=1200, days=365, seed=11, start=START)
    truths, events, until = Truths(frame, START + 365 * DAY), Events(), START + 365 * DAY
    for event in world.events(frame, until):
        truths.count(event)
        if event.type != "usage.reported":
            events.append(json.loads(encode(event, backfill=True)))
    return events, json.loads(json.dumps(truths.describe()))
