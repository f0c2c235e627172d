"""The parts that benchmark figures depend on: valid events, the HTTP client, the choice of the median pair."""

import asyncio
import contextlib
import json
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

import bench
from bench.__main__ import SCENARIOS
from bench.load import Connection, closed_loop, percentiles, request
from bench.payloads import day
from bench.scenario import Result, Sample, Scenario
from touchpoint.contracts.base import REGISTRY

README = Path(bench.__file__).with_name("README.md")
BEGIN = datetime(2026, 11, 20, tzinfo=UTC)


def test_a_days_events_are_valid_about_540_bytes_long_and_mostly_feedback():
    payloads = list(day(2000, BEGIN))
    for payload in payloads:
        REGISTRY[payload.type].model_validate(json.loads(payload.body)["data"])
    assert 500 < sum(len(payload.body) for payload in payloads) / len(payloads) < 580
    assert 1400 < sum(payload.type == "feedback.submitted" for payload in payloads) < 1600


def test_a_seed_always_gives_the_same_events_and_every_event_has_its_own_id():
    assert list(day(500, BEGIN)) == list(day(500, BEGIN))
    assert len({payload.id for seed in (1, 2) for payload in day(500, BEGIN, seed=seed)}) == 1000


def test_the_result_line_shows_the_pair_with_the_median_ratio():
    scenario = Scenario("store", "events/s", least=0.35, aim=0.6, prepare=contextlib.nullcontext)
    pairs = [(Sample(1000), Sample(100)), (Sample(200), Sample(90)), (Sample(500), Sample(100))]
    assert Result(scenario, pairs).line() == "store ratio=0.20 ours=100 floor=500 unit=events/s"


def test_less_time_than_the_floor_is_a_ratio_above_one():
    scenario = Scenario("latency", "ms", least=0.1, aim=0.3, prepare=contextlib.nullcontext, lower_is_better=True)
    assert scenario.ratio(Sample(20), Sample(10)) == 2


def test_the_readme_lists_every_scenario_with_its_required_ratio_and_aim():
    explained = re.findall(r"^\| `([a-z-]+)` \| ([\d.]+) \| ([\d.]+)", README.read_text(), re.MULTILINE)
    assert {name: (round(s.least, 2), s.aim) for name, s in SCENARIOS.items()} == {
        name: (float(least), float(aim)) for name, least, aim in explained
    }


def test_percentiles_are_nearest_rank_and_in_milliseconds():
    assert percentiles(n / 1000 for n in range(100)) == {"p50_ms": 50, "p99_ms": 99}


class Answering(asyncio.Transport):
    """The server's end of a connection: answers each request with these pieces, each in a separate loop iteration."""

    def __init__(self, *pieces: bytes) -> None:
        super().__init__()
        self.connection = Connection()
        self.connection.connection_made(self)
        self.pieces = pieces

    def write(self, data: bytes) -> None:
        for piece in self.pieces:
            asyncio.get_running_loop().call_soon(self.connection.data_received, piece)


async def test_a_response_received_in_pieces_is_read_whole():
    connection = Answering(b"HTTP/1.1 202 Acc", b"epted\r\nContent-Length: 4\r\n\r\nab", b"cd").connection
    for _ in range(2):
        assert await connection.ask(request("GET", "/", "key")) == (202, b"abcd")


async def test_an_unexpected_status_fails_the_run():
    connection = Answering(b"HTTP/1.1 429 No\r\nContent-Length: 8\r\n\r\nslow now").connection
    with pytest.raises(ExceptionGroup) as failed:
        await closed_loop([connection], [request("GET", "/", "key")], 202)
    assert "429: slow now" in str(failed.value.exceptions[0])
