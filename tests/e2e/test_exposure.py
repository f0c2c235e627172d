"""The exposure of a running system: its ports, and secrets or customers' data in responses and logs when it fails.

Each secret and each piece of customer data is a canary: a unique text that is easy to find in any output.
"""

import ipaddress
import json
import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import replace
from typing import Any
from uuid import uuid4

import asyncpg
import httpx
import psutil
import pytest
from aiokafka import AIOKafkaConsumer

from touchpoint.contracts.record import Record, headers
from touchpoint.kafka.producer import Producer
from touchpoint.testing import eventually, factories
from touchpoint.testing.system import SERVICES, System


def canary(what: str) -> str:
    return f"canary-{what}-{uuid4().hex}"


SECRETS = {what: canary(what) for what in ("database", "kafka", "token")}
CUSTOMER = {"customer_id": canary("customer") + "@example.com", "text": canary("text"), "name": canary("name")}


@pytest.fixture(scope="module")
async def system(servers, tmp_path_factory) -> AsyncIterator[System]:
    """A system with log level debug, whose secrets are canaries."""
    started = System(
        replace(servers, dsn=servers.dsn.replace("postgres@", f"postgres:{SECRETS['database']}@")),
        tmp_path_factory.mktemp("system"),
        {
            "LOG_LEVEL": "debug",
            "INTERNAL_TOKEN_SECRETS": json.dumps([SECRETS["token"]]),
            "KAFKA_SASL_USERNAME": "touchpoint",
            "KAFKA_SASL_PASSWORD": SECRETS["kafka"],
        },
    )
    assert SECRETS["database"] in started.dsn("gateway") or "postgres@" not in servers.dsn
    try:
        await started.start()
        yield started
    finally:
        await started.stop()


class Heard:
    """Records every response of the gateway."""

    def __init__(self) -> None:
        self.answers: list[httpx.Response] = []

    async def note(self, answer: httpx.Response) -> None:
        await answer.aread()
        self.answers.append(answer)

    def text(self, *, refusals_only: bool = False) -> str:
        chosen = (answer for answer in self.answers if not refusals_only or answer.status_code >= 400)
        return "\n".join(f"{answer.headers}\n{answer.text}" for answer in chosen)


@pytest.fixture(scope="module")
def heard() -> Heard:
    return Heard()


@pytest.fixture(scope="module")
async def key(system) -> str:
    return await system.create_key("acme")


@pytest.fixture(scope="module")
async def door(system, heard, key) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(
        base_url=system.url,
        headers={"Authorization": f"Bearer {key}"},
        timeout=30,
        event_hooks={"response": [heard.note]},
    ) as client:
        yield client


async def test_every_port_is_on_the_loopback_interface_and_apis_have_their_own(system):
    for part, process in system._running.items():
        listening = [c.laddr for c in process.handle.net_connections("inet") if c.status == psutil.CONN_LISTEN]
        assert all(ipaddress.ip_address(address.ip).is_loopback for address in listening), part
        api, admin = system._ports[part]
        assert {address.port for address in listening} == ({api, admin} if part[1] == "api" else {admin}), part


async def test_no_process_shows_a_secret_in_its_command_line(system):
    for process in system._running.values():
        assert not found_in(" ".join(process.handle.cmdline()), SECRETS.values())


async def test_failures_show_no_secret_and_no_customer_data(system, door, heard, key):
    await _succeed(door)
    await _send_what_is_refused(door)
    await _ask_what_is_refused(door)
    await _come_with_keys_that_open_nothing(door, key)
    await _bring_poison(system)
    await _break_the_database(system, door)

    secrets = {*SECRETS.values(), key, key.rpartition("_")[2]}
    customer = set(CUSTOMER.values())
    assert not found_in(heard.text(), secrets)
    assert not found_in(heard.text(refusals_only=True), customer)
    logs = "\n".join(path.read_text() for path in sorted(system.logs.iterdir()))
    assert '"level": "error"' in logs, "something has failed"
    assert not found_in(logs, secrets | customer)
    assert not found_in(await _metrics(system), secrets | customer)
    assert not found_in(await _dead_letters(system), secrets | customer)


def found_in(text: str, canaries: Any) -> list[str]:
    """The lines of a text that contain a canary."""
    return [line[:2000] for line in text.splitlines() if any(canary in line for canary in canaries)]


async def _succeed(door: httpx.AsyncClient) -> None:
    about = {"kind": "nps", "channel": "email", "score": {"value": 2, "min": 0, "max": 10}}
    taken = await door.post(
        "/v1/feedback", json=about | {"customer_id": CUSTOMER["customer_id"], "text": CUSTOMER["text"]}
    )
    assert taken.status_code == 202
    person = {"customer_id": CUSTOMER["customer_id"], "name": CUSTOMER["name"]}
    assert (await _send(door, [_event("customer.updated", person)])).status_code == 202

    async def stored() -> bool:
        timeline = (await door.get(f"/v1/customers/{CUSTOMER['customer_id']}/timeline")).text
        return all(word in timeline for word in CUSTOMER.values())

    await eventually(stored, 40)
    await door.get("/v1/feedback", params={"customer_id": CUSTOMER["customer_id"]})


async def _send_what_is_refused(door: httpx.AsyncClient) -> None:
    """Send every example of the document, with each of its values in turn replaced by customer data."""
    schemas = (await door.get("/openapi.json")).json()["components"]["schemas"]
    types = [schemas[each["$ref"].rpartition("/")[2]] for each in schemas["CloudEvent"]["oneOf"]]
    word = CUSTOMER["text"]
    spoilt = [
        event
        for example in (each["example"] for each in types)
        for other in (word, [word], {"word": word})
        for event in _spoil(example, other)
    ]
    answer = await _send(door, spoilt)
    assert answer.status_code in (207, 422)
    problems = [json.dumps(item["problem"]) for item in answer.json()["refused"]]
    assert len(problems) > 100
    assert not found_in("\n".join(problems), CUSTOMER.values())
    for body in (f'{{"text": "{word}"', f'"{word}"', f'[{{"id": "{word}" "x"}}]', f'{{"text": "{word}\\ud800"}}'):
        for path in ("/v1/feedback", "/v1/events"):
            for media_type in (
                "application/json",
                "application/cloudevents+json",
                "application/cloudevents-batch+json",
            ):
                await door.post(
                    path, content=body, headers={"Content-Type": media_type, "ce-id": word, "ce-time": word}
                )


def _spoil(event: Any, other: Any) -> Iterator[Any]:
    """Copies of the event, each with one value replaced; the id is kept, because logs contain it."""
    places = [place for place in event.items() if place[0] != "id"] if isinstance(event, dict) else enumerate(event)
    for place, value in places:
        spoilt = deepcopy(event)
        spoilt[place] = other
        yield spoilt
        if isinstance(value, dict | list):
            for inner in _spoil(value, other):
                spoilt = deepcopy(event)
                spoilt[place] = inner
                yield spoilt


async def _ask_what_is_refused(door: httpx.AsyncClient) -> None:
    """Send customer data in every parameter and body of every operation."""
    word = CUSTOMER["text"]
    for path, operations in (await door.get("/openapi.json")).json()["paths"].items():
        for method, operation in operations.items():
            place = re.sub(r"\{metric\}", "nps", path)
            place = re.sub(r"\{\w+\}", word, place)
            for parameter in operation.get("parameters", []):
                where = {"query": "params", "header": "headers"}.get(parameter.get("in"))
                if where and method == "get":
                    await door.get(place, **{where: {parameter["name"]: word}})
            if "requestBody" in operation:
                await door.request(method, place, json={"by": {"word": word}, "resolution": [word]})
                await door.request(method, place, content=f'{{"by": "{word}')


async def _come_with_keys_that_open_nothing(door: httpx.AsyncClient, key: str) -> None:
    for wrong in (key[:-1], key.upper(), f"tp_{'0' * 12}_{key.rpartition('_')[2]}", SECRETS["token"]):
        for shown in ({"Authorization": f"Bearer {wrong}"}, {"Authorization": wrong}, {"Cookie": wrong}):
            await door.get("/v1/feedback", headers={"Authorization": "", **shown})
        await door.get("/v1/nowhere", params={"key": CUSTOMER["text"]})


async def _bring_poison(system: System) -> None:
    """Write records that the gateway would refuse, one with broken attributes, and one that PostgreSQL refuses."""
    word, about = CUSTOMER["text"], {"customer_id": CUSTOMER["customer_id"]}
    async with _database(system, "feedback-svc") as database:
        await database.execute("ALTER TABLE feedback ADD CHECK (language IS DISTINCT FROM 'zz')")
    unstorable = factories.feedback(**about, text=word, language="zz")
    others = [factories.feedback(**about) for _ in range(3)]
    bodies = [
        unstorable.data(),
        f'{{"text": "{word}'.encode(),
        json.dumps({"kind": word, "score": word}).encode(),
        b"{}",
    ]
    key = unstorable.partition_key.encode()
    producer = Producer(system.kafka, "tests")
    await producer.start()
    for event, body in zip((unstorable, *others), bodies, strict=True):
        await producer.send(Record("touchpoints.v1", key, body, headers(event.meta, type(event))))
    broken = [
        (name, word.encode() if name == "ce_time" else value)
        for name, value in headers(others[0].meta, type(others[0]))
    ]
    await producer.send(Record("touchpoints.v1", key, unstorable.data(), broken))
    await producer.stop()
    await eventually(system.is_quiet, 60)
    async with _database(system, "feedback-svc") as database:
        stages = {row["stage"] for row in await database.fetch("SELECT stage FROM dead_letters")}
    assert stages == {"decode", "validate", "handle"}


async def _break_the_database(system: System, door: httpx.AsyncClient) -> None:
    """Send requests while a table is missing, and while PostgreSQL's connections are being terminated."""
    async with _database(system, "feedback-svc") as database:
        await database.execute("ALTER TABLE timeline RENAME TO gone")
        await door.get(f"/v1/customers/{CUSTOMER['customer_id']}/timeline", params={"cursor": CUSTOMER["text"]})
        assert (await door.get(f"/v1/customers/{CUSTOMER['customer_id']}/timeline")).status_code == 500
        await database.execute("ALTER TABLE gone RENAME TO timeline")
    for service in SERVICES:
        async with _database(system, service) as database:
            for _ in range(3):
                await database.execute(
                    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
                )
                await _send(door, [_event("customer.updated", {"customer_id": CUSTOMER["customer_id"]})])
                await door.get("/v1/feedback", params={"customer_id": CUSTOMER["customer_id"]})
    await eventually(system.is_quiet, 60)


def _event(kind: str, data: dict[str, Any]) -> dict[str, Any]:
    return {"specversion": "1.0", "id": str(uuid4()), "source": "/tests", "type": kind, "data": data}


async def _send(door: httpx.AsyncClient, events: list[Any]) -> httpx.Response:
    return await door.post(
        "/v1/events", content=json.dumps(events), headers={"Content-Type": "application/cloudevents-batch+json"}
    )


async def _metrics(system: System) -> str:
    async with httpx.AsyncClient() as client:
        pages = [
            await client.get(f"http://127.0.0.1:{admin}/{page}")
            for _, admin in system._ports.values()
            for page in ("metrics", "readyz", "healthz")
        ]
    return "\n".join(page.text for page in pages)


async def _dead_letters(system: System) -> str:
    """The headers that we add to dead letters, and their rows in the index without the customer id."""
    logs = ""
    for service in SERVICES:
        if service != "gateway":
            async with _database(system, service) as database:
                logs += "\n".join(
                    map(
                        str,
                        await database.fetch(
                            "SELECT to_jsonb(d) - 'customer_id', c "
                            "FROM dead_letters d FULL JOIN consumers c USING (consumer)"
                        ),
                    )
                )
    consumer = AIOKafkaConsumer(**system.kafka.client_options(), auto_offset_reset="earliest")
    consumer.subscribe(pattern=f"^{re.escape(system.kafka.topic_prefix)}.*dlq$")
    await consumer.start()
    try:
        records = await eventually(lambda: consumer.getmany(timeout_ms=1000))
    finally:
        await consumer.stop()
    for record in (record for batch in records.values() for record in batch):
        logs += "\n" + str([(name, value) for name, value in record.headers if name.startswith("dlq_")])
    assert "dlq_reason" in logs
    return logs


@asynccontextmanager
async def _database(system: System, service: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(system.dsn(service))
    try:
        yield connection
    finally:
        await connection.close()
