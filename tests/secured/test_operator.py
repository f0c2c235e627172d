"""Operators' commands as the deployment's Kafka user `operator`, which may read every topic and write none."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from msgspec.structs import replace
from typer.testing import CliRunner

from touchpoint import cli
from touchpoint.contracts.record import encode
from touchpoint.kafka.producer import Producer
from touchpoint.testing import eventually, factories
from touchpoint.testing.system import READS

pytestmark = pytest.mark.servers

Command = Callable[..., Awaitable[Any]]


@pytest.fixture
def touchpoint(system, monkeypatch) -> Command:
    """Runs a command in the environment of a service's operators' pod; returns its output, parsed from JSON."""

    async def run(service: str, *arguments: str) -> Any:
        for name, value in system.environment_of_operators(service).items():
            monkeypatch.setenv(name, value)
        result = await asyncio.to_thread(
            CliRunner().invoke, cli.commands(), [*arguments, "--json"], standalone_mode=False
        )
        if result.exception:
            raise result.exception
        return json.loads(result.stdout)

    return run


@pytest.fixture(scope="module")
async def letters(system) -> None:
    """Each consumer has a dead letter, and its copy is in the dead-letter topic."""
    broken = replace(encode(factories.feedback(id="broken", customer_id="C-9")), value=b"{")
    producer = Producer(system.kafka, "tests")
    await producer.start()
    await producer.send(broken)
    await producer.stop()
    await eventually(system.is_quiet, 60)


@pytest.mark.parametrize("service", READS)
async def test_an_operator_may_run_verify_and_doctor(touchpoint, letters, service):
    [report] = await touchpoint(service, "verify")
    assert (report["consumer"], report["clean"]) == (service, True)
    assert report["outcomes"]["open"] == 1
    assert report["published"] > 0
    [kafka] = [finding for finding in await touchpoint(service, "doctor") if finding["where"].startswith("Kafka")]
    assert kafka["text"].startswith("all ")


async def test_an_operator_may_show_and_discard_a_dead_letter(touchpoint, letters):
    [letter] = await touchpoint("metrics-svc", "dlq", "list")
    place = f"{letter['topic']}/{letter['partition']}/{letter['offset']}"
    shown = await touchpoint("metrics-svc", "dlq", "show", place)
    assert shown["records"][0]["value"] == "{"
    done = await touchpoint(
        "metrics-svc", "dlq", "discard", "--consumer", "metrics-svc", "--execute", "--reason", "broken"
    )
    assert done == {"discarded": 1}
    [line] = await touchpoint("metrics-svc", "audit")
    assert (line["action"], line["reason"]) == ("dead_letters.discarded", "broken")


@pytest.mark.parametrize("service", READS)
async def test_an_operator_may_replay_a_window(touchpoint, letters, service):
    plan = await touchpoint(service, "replay", "plan", "--consumer", service, "--from", "1h")
    assert plan["summary"]["missing"] == 0
    assert (await touchpoint(service, "replay", "run", plan["id"], "--reason", "tried"))["state"] == "done"


async def test_an_operator_may_rebuild_tables(touchpoint, letters):
    built = await touchpoint("metrics-svc", "replay", "rebuild", "--consumer", "metrics-svc", "--reason", "tried")
    assert built["state"] == "built"
    aborted = await touchpoint("metrics-svc", "replay", "abort", built["id"], "--reason", "tried")
    assert aborted["state"] == "aborted"


async def test_an_operator_may_create_a_key(touchpoint):
    assert (await touchpoint("gateway", "keys", "create", "shop", "--tenant", "acme"))["token"]
