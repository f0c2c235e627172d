"""The limits on clients, tested on running processes over real sockets."""

import asyncio
import gzip
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import asyncpg
import httpx
import pytest

from touchpoint.testing import eventually
from touchpoint.testing.system import System

BATCH = "application/cloudevents-batch+json"
MIB = 2**20
MOST_MIB = 150
"""The budget for bodies is 64 MiB, half of it for one tenant; a parsed body takes more memory than its bytes."""
HEAD = b"POST /v1/events HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %s\r\nContent-Type: " + BATCH.encode() + b"\r\n"


@pytest.fixture(scope="module")
async def system(running) -> AsyncIterator[System]:
    async with running(STATEMENT_SECONDS="60", QUERY_SECONDS="60", EVENTS_PER_SECOND="1000000") as started:
        yield started


@pytest.fixture(scope="module")
async def key(system) -> str:
    return await system.create_key("acme")


@pytest.fixture
async def gateway(system, key) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=system.url, headers={"Authorization": f"Bearer {key}"}, timeout=60) as client:
        yield client


@pytest.fixture
async def slow_feedback(system) -> AsyncIterator[asyncpg.Connection]:
    """A connection to feedback-svc's database, in which every query of feedback takes a minute."""
    connection = await asyncpg.connect(system.dsn("feedback-svc"))
    await connection.execute(
        "ALTER TABLE feedback RENAME TO quick; "
        "CREATE VIEW feedback AS SELECT * FROM quick WHERE (SELECT pg_sleep(60)::text) IS NOT NULL; "
        "GRANT SELECT ON feedback TO feedback_svc_api"
    )
    yield connection
    await connection.execute("DROP VIEW feedback; ALTER TABLE quick RENAME TO feedback")
    await connection.close()


async def test_a_client_that_disconnects_ends_its_query_in_the_services_database(gateway, slow_feedback):
    async def queries() -> int:
        return await slow_feedback.fetchval(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' "
            "AND query LIKE '%FROM feedback%' AND pid <> pg_backend_pid()"
        )

    asked = asyncio.create_task(gateway.get("/v1/feedback"))
    await eventually(queries)
    asked.cancel()

    async def ended() -> bool:
        return await queries() == 0

    await eventually(ended)


@pytest.fixture
async def bounded_memory(system) -> AsyncIterator[None]:
    """Fails if the gateway's memory grows by MOST_MIB or more while the test runs."""
    process = system.process(("gateway", "api")).handle
    before = peak = process.memory_info().rss

    async def watch() -> None:
        nonlocal peak
        while True:
            peak = max(peak, process.memory_info().rss)
            await asyncio.sleep(0.01)

    watching = asyncio.create_task(watch())
    yield
    watching.cancel()
    assert (peak - before) / MIB < MOST_MIB


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (b"GET /", b"a" * 65_536),
        (b"GET / HTTP/1.1\r\nX: ", b"a" * 65_536),
        (b"GET / HTTP/1.1\r\n", b"a: b\r\n" * 10_000),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n1;", b"a" * 65_536),
        (HEAD + b"Transfer-Encoding: chunked\r\n\r\n1\r\n[\r\n0\r\n", b"a: b\r\n" * 10_000),
    ],
    ids=["an address", "a header", "headers", "a chunk extension", "trailers"],
)
async def test_an_endless_part_of_a_request_is_refused_before_it_takes_memory(system, key, bounded_memory, start, more):
    async with _connected(system.url) as (reader, writer):
        ended, sent = asyncio.create_task(_answer(reader)), 0
        writer.write(start % key.encode() if b"%s" in start else start)
        with suppress(ConnectionError):
            while not ended.done() and sent < 100 * MIB:
                writer.write(more)
                await writer.drain()
                await asyncio.sleep(0)  # drain() alone does not let the reader's task run
                sent += len(more)
        await ended
    assert sent < 20 * MIB, "what the sockets' buffers hold, and no more"


async def test_gzip_bombs_are_refused(gateway, bounded_memory):
    bomb = gzip.compress(b" " * 100_000_000)
    headers = {"Content-Type": BATCH, "Content-Encoding": "gzip"}
    answers = await asyncio.gather(*(gateway.post("/v1/events", content=bomb, headers=headers) for _ in range(20)))
    assert {answer.status_code for answer in answers} <= {413, 503}
    assert (await gateway.post("/v1/events", content=bomb, headers=headers)).status_code == 413


async def test_a_batch_with_very_many_errors_gets_a_bounded_response(gateway, bounded_memory):
    mistakes = json.dumps([{f"a{number}": {} for number in range(90)}] * 5000)
    refused = await gateway.post("/v1/events", content=mistakes, headers={"Content-Type": BATCH})
    assert (refused.status_code, len(refused.content) < 2_000_000) == (422, True)


async def test_a_tenants_unfinished_bodies_take_half_of_the_budget_and_other_requests_are_answered(
    system, key, gateway, bounded_memory
):
    """Each body declares 8 MiB; 7 are sent at once and the rest just fast enough not to be timed out."""
    clients, places = 50, 4  # 32 MiB

    async def send() -> bytes:
        async with _connected(system.url) as (reader, writer):
            writer.write(HEAD % key.encode() + b"Content-Length: %d\r\n\r\n" % (8 * MIB) + b" " * 7 * MIB)
            answer = asyncio.ensure_future(_answer(reader))
            while not (await asyncio.wait({answer}, timeout=1))[0]:
                writer.write(b" " * 4096)
            return answer.result()

    sending = [asyncio.create_task(send()) for _ in range(clients)]
    await eventually(lambda: sum(task.done() for task in sending) >= clients - places)
    assert {task.result() for task in sending if task.done()} == {b"HTTP/1.1 503 Service Unavailable\r\n"}

    for token in (key, await system.create_key("globex")):
        feedback = {"kind": "text", "channel": "web", "text": "All is well."}
        answer = await gateway.post("/v1/feedback", json=feedback, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 202
    assert not all(task.done() for task in sending)
    for task in sending:
        task.cancel()
    await asyncio.wait(sending)


@asynccontextmanager
async def _connected(url: str) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection that is aborted at the end."""
    host, _, port = url.removeprefix("http://").partition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield reader, writer
    finally:
        writer.transport.abort()


async def _answer(reader: asyncio.StreamReader) -> bytes:
    """The first line of the response; empty if the connection was reset."""
    with suppress(ConnectionError):
        return await reader.readline()
    return b""
