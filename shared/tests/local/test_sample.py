"""The sample of a stack: history, the last day live, then what comes; nothing twice, whenever it is started again."""

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from touchpoint.base.errors import TransientError, UsageError
from touchpoint.contracts import touchpoints  # noqa: F401 # registers the contracts
from touchpoint.contracts.base import REGISTRY
from touchpoint.importer import gateway as sender
from touchpoint.importer.gateway import Gateway
from touchpoint.local import sample
from touchpoint.local.sample import HISTORY_DAYS, Sample
from touchpoint.testing import eventually
from touchpoint.testing.gateway import FakeGateway, busy, taken

DAY, HOUR = 86_400.0, 3600.0
NOW = 1_795_339_800.5
"""2026-11-22, half past nine UTC."""
YESTERDAY = 1_795_219_200


@pytest.fixture
def fake() -> Iterator[FakeGateway]:
    with FakeGateway().serving() as serving:
        yield serving


@pytest.fixture
def gateway(fake: FakeGateway) -> Iterator[Gateway]:
    with httpx.Client(base_url=fake.url, headers={"authorization": f"Bearer {fake.key}"}) as client:
        yield Gateway(client, threading.Event().wait)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sample.json"


@asynccontextmanager
async def background(work: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Run until the end of the block, as the stack does until Ctrl-C."""
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def due(made: Sample, now: float) -> list[dict[str, Any]]:
    return [json.loads(event) for event in made.due(now)]


def test_every_event_keeps_its_contract(file: Path) -> None:
    for event in due(Sample(file, "embedded", NOW), NOW):
        read = REGISTRY[event["type"]].read(json.dumps(event["data"]).encode())
        assert read.broken_rules() == []


def test_the_last_day_and_what_follows_is_live_and_all_before_is_history(file: Path) -> None:
    events = due(Sample(file, "embedded", NOW), NOW)
    times = [event["time"] for event in events]
    assert times == sorted(times)
    assert times[0] == "2026-10-24T00:00:00Z"
    assert "2026-11-22T08:30" < times[-1] <= "2026-11-22T09:30:00Z"
    for event in events:
        assert ("backfill" in event) == (event["time"] < "2026-11-21T00:00:00Z")


def test_it_is_small_enough_for_the_burst_of_a_key(file: Path) -> None:
    assert len(due(Sample(file, "embedded", NOW), NOW)) < 4500


def test_the_sample_has_something_to_show_everywhere(file: Path) -> None:
    events = due(Sample(file, "embedded", NOW), NOW)
    assert {event["data"].get("kind") for event in events} >= {"nps", "csat", "ces", "review", "delivery"}
    assert any(event["data"].get("tier") == "key" for event in events)
    assert any(event["data"].get("priority") == "urgent" for event in events)
    assert any(event["data"].get("status") == "resolved" for event in events)
    assert any(event["data"].get("customer_id") == "C-1042" for event in events)


def test_what_was_sent_is_not_sent_again(file: Path, fake: FakeGateway, gateway: Gateway) -> None:
    made = Sample(file, "embedded", NOW)
    made.send(gateway, NOW)
    made.send(gateway, NOW)
    made.send(gateway, NOW + 6 * HOUR)
    whole = due(Sample(file.with_name("another.json"), "embedded", NOW), NOW + 6 * HOUR)
    assert fake.events == whole


def test_a_restart_goes_on_with_the_same_world(file: Path, fake: FakeGateway, gateway: Gateway) -> None:
    Sample(file, "embedded", NOW).send(gateway, NOW)
    Sample(file, "embedded", NOW + 5 * HOUR).send(gateway, NOW + 5 * HOUR)
    whole = due(Sample(file.with_name("another.json"), "embedded", NOW), NOW + 5 * HOUR)
    assert fake.events == whole


def test_after_a_long_pause_what_was_missed_is_history(file: Path, fake: FakeGateway, gateway: Gateway) -> None:
    Sample(file, "embedded", NOW).send(gateway, NOW)
    before = len(fake.events)
    Sample(file, "embedded", NOW + 10 * DAY).send(gateway, NOW + 10 * DAY)
    missed = fake.events[before:]
    whole = due(Sample(file.with_name("another.json"), "embedded", NOW), NOW + 10 * DAY)
    assert [event["id"] for event in fake.events] == [event["id"] for event in whole]
    for event in missed:
        assert ("backfill" in event) == (event["time"] < "2026-12-01T00:00:00Z")


def test_what_was_not_acknowledged_is_sent_again_unchanged(
    file: Path, fake: FakeGateway, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sender, "GIVE_UP_SECONDS", 0)
    fake.answers = [lambda _: busy()]
    made = Sample(file, "embedded", NOW)
    with pytest.raises(TransientError):
        made.send(gateway, NOW)
    assert not file.exists()
    made.send(gateway, NOW)
    assert fake.batches[0] == fake.batches[1]


def test_other_servers_get_the_same_world_from_its_start(file: Path, gateway: Gateway) -> None:
    Sample(file, "embedded", NOW).send(gateway, NOW)
    later = NOW + 2 * HOUR
    assert due(Sample(file, "kafka.example:9092 embedded", later), later) == due(
        Sample(file.with_name("another.json"), "embedded", NOW), later
    )


def test_a_broken_file_is_as_none(file: Path) -> None:
    file.write_text('{"start": 5')
    assert Sample(file, "embedded", NOW).progress.start == YESTERDAY - HISTORY_DAYS * DAY


async def test_loading_says_in_a_line_what_the_gateway_refuses(file: Path, fake: FakeGateway) -> None:
    problem = {"status": 422, "title": "Invalid", "errors": [{"field": "data.kind", "reason": "unknown"}]}
    fake.answers = [lambda batch: taken(batch, {0: problem})]
    with pytest.raises(UsageError, match=r"refused 1 events of the sample, such as: data\.kind: unknown"):
        await sample.load(Sample(file, "embedded", NOW), fake.url, fake.key)


async def test_life_goes_on_says_once_why_it_stopped_and_survives(
    file: Path, fake: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, lines = [NOW], list[str]()
    monkeypatch.setattr(sample, "LOOK_SECONDS", 0.01)
    monkeypatch.setattr(sample.time, "time", lambda: clock[0])
    made = Sample(file, "embedded", NOW)
    await sample.load(made, fake.url, fake.key)
    before, key, fake.key = len(fake.events), fake.key, "tp_rotated"
    clock[0] += 3 * HOUR
    async with background(sample.go_on(made, fake.url, key, lines.append)):
        await eventually(lambda: len(lines) == 1)
        fake.key = key
        await eventually(lambda: len(fake.events) > before)
    [line] = lines
    assert line == "No sample events are sent: the gateway does not take these events: 401 This API key is not known."
    assert fake.events == due(Sample(file.with_name("another.json"), "embedded", NOW), clock[0])


async def test_it_ends_at_once_while_it_waits_for_a_busy_gateway(
    file: Path, fake: FakeGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake.answers = [lambda _: busy(retry_after="3600")]
    ended, send = list[bool](), sample._send

    def noted(*arguments: Any) -> None:
        send(*arguments)
        ended.append(True)

    monkeypatch.setattr(sample, "_send", noted)
    monkeypatch.setattr(sample, "LOOK_SECONDS", 0.01)
    made = Sample(file, "embedded", NOW)
    async with background(sample.go_on(made, fake.url, fake.key, print)):
        await eventually(lambda: fake.batches)
        assert not ended
    await eventually(lambda: ended)
    assert made.progress.sent < made.progress.start
