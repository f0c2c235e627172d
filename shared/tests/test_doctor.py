"""`touchpoint doctor`: what is wrong is seen, and the page that helps exists."""

import asyncio
import json
import re
import socket
from pathlib import Path

import pytest
from typer import Exit

from touchpoint import doctor
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback

RUNBOOKS = Path(__file__).parents[2] / "docs" / "runbooks"


@pytest.fixture
async def pages(log, ledger, consuming, touchpoint):
    """Asks for the pages by what they are about, the consumer having applied an event and gone on."""

    async def ask():
        findings = await doctor.examine(ledger.dsn)
        return {finding.where.removeprefix("ledger-svc ").split()[0]: finding.page for finding in findings}

    async with consuming():
        await log.append(feedback())
        await eventually(ledger.ids)
        yield ask


async def test_all_is_well(pages, touchpoint):
    assert await pages() == {"Kafka": None, "consumer": None, "dead": None, "outbox": None}
    assert all(not one["page"] for one in json.loads(await touchpoint("doctor", "--json")))


@pytest.mark.parametrize(
    ("trouble", "about", "page"),
    [
        ("UPDATE offsets SET read_through = now() - interval '2 minutes'", "consumer", "lag-grows"),
        ("INSERT INTO consumers (consumer, state) VALUES ('ledger-svc', 'halted')", "consumer", "consumer-halted"),
        ("INSERT INTO consumers (consumer, state) VALUES ('ledger-svc', 'paused')", "consumer", "consumer-paused"),
        (
            'INSERT INTO dead_letters (consumer, topic, partition, "offset", stage, error, reason, fingerprint) '
            "VALUES ('ledger-svc', 'touchpoints.v1', 0, 7, 'handle', 'E', 'r', 'f')",
            "dead",
            "dead-letters-rise",
        ),
        (
            "INSERT INTO outbox (topic, headers, created_at) VALUES ('t', '', now() - interval '2 minutes')",
            "outbox",
            "outbox-grows",
        ),
    ],
)
async def test_trouble_is_told_with_its_page(log, ledger, consuming, touchpoint, trouble, about, page):
    async with consuming():
        await log.append(feedback())
        await eventually(ledger.ids)
    await ledger.query(trouble)
    wrong = [finding for finding in await doctor.examine(ledger.dsn) if finding.page]
    assert [(finding.where.split()[1], finding.page) for finding in wrong] == [(about, page)]
    with pytest.raises(Exit):
        await asyncio.to_thread(doctor.doctor, ledger.dsn)


async def test_a_database_that_is_away_is_told_and_the_rest_looked_at(ledger, touchpoint):
    away = re.sub("host=[^&]*", "host=/nowhere", ledger.dsn)
    assert [finding.page for finding in await doctor.examine(away)] == [None, "database-down"]


async def test_kafka_that_is_away_is_told_and_the_rest_looked_at(ledger, touchpoint, monkeypatch):
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    kafka, *rest = await doctor.examine(ledger.dsn)
    assert kafka.page == "broker-down"
    assert rest


async def test_kafka_that_hangs_is_not_waited_for(ledger, touchpoint, monkeypatch):
    monkeypatch.setattr(doctor, "KAFKA_SECONDS", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", f"127.0.0.1:{silent.getsockname()[1]}")
        kafka, *rest = await doctor.examine(ledger.dsn)
    assert (kafka.said, kafka.page) == ("does not answer within 0.5 s", "broker-down")
    assert rest


def test_every_page_it_names_is_there():
    named = set(re.findall(r'"([a-z]+-[a-z-]+)"', Path(doctor.__file__).read_text()))
    assert "consumer-halted" in named
    assert named <= {page.stem for page in RUNBOOKS.glob("*.md")}
