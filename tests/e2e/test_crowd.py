"""Hundreds of slow or idle connections do not keep another tenant's requests from being answered.

All connections come from one address, as behind a proxy, so only their behaviour distinguishes them.
"""

import asyncio
import http.client
import json
import random
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import httpx
import pytest

from touchpoint.testing import eventually
from touchpoint.testing.system import System

CONNECTIONS = 900
"""More than the gateway's default limit."""
REQUESTS = 200
AT_ONCE = 4
MOST_SECONDS = 20
"""A response takes milliseconds; in this test the client, the attackers and the servers may share one busy core."""

SLOW_BODY = (
    b"POST /v1/feedback HTTP/1.1\r\nHost: touchpoint\r\nAuthorization: Bearer KEY\r\nContent-Type: application/json\r\n"
    b"Content-Length: 20000\r\n\r\n{"
)
SLOW_HEADERS = b"POST /v1/feedback HTTP/1.1\r\nHost: touchpoint\r\nX-"
IDLE = b"GET /nothing HTTP/1.1\r\nHost: touchpoint\r\n\r\n"
SLOW_READER = b"GET /openapi.json HTTP/1.1\r\nHost: touchpoint\r\n\r\n" * 20


@pytest.fixture(scope="module")
async def system(servers, tmp_path_factory) -> AsyncIterator[System]:
    """A gateway without any other service."""
    alone = System(servers, tmp_path_factory.mktemp("system"))
    try:
        await alone.prepare()
        alone.start_part(("gateway", "api"))
        await alone.ready([("gateway", "api")])
        yield alone
    finally:
        await alone.stop()


@pytest.fixture(scope="module")
async def keys(system) -> dict[str, str]:
    """API keys of two tenants."""
    return {tenant: await system.create_key(tenant, limited=True) for tenant in ("globex", "initech")}


@pytest.mark.parametrize(
    ("opening", "reads"),
    [(SLOW_BODY, True), (SLOW_HEADERS, True), (IDLE, True), (SLOW_READER, False)],
    ids=["slow bodies", "slow headers", "idle connections", "answers nobody reads"],
)
async def test_slow_and_idle_connections_do_not_shut_out_another_tenant(system, keys, opening, reads):
    async with _crowd(system, opening.replace(b"KEY", keys["initech"].encode()), reads):
        if not reads:  # at first the gateway is busy with the crowd's requests
            await eventually(lambda: _answers_soon(system), 60)
        answers, slowest = await _visit(system, keys["globex"])
    print(f"{answers}, slowest {slowest:.2f} s")
    assert answers.total() == REQUESTS
    assert answers[202] >= 0.99 * REQUESTS, answers
    assert slowest < MOST_SECONDS


async def test_a_key_with_too_many_concurrent_requests_gets_429_and_the_metric_counts_it(system, keys):
    async with _crowd(system, SLOW_BODY.replace(b"KEY", keys["initech"].encode()), reads=True):

        async def refused() -> httpx.Response | None:
            async with httpx.AsyncClient(base_url=system.url, timeout=60) as client:
                answer = await client.get("/v1/feedback", headers={"Authorization": f"Bearer {keys['initech']}"})
                return answer if answer.status_code == 429 else None

        answer = await eventually(refused)
    assert answer.json()["type"] == "urn:touchpoint:problem:too-many-at-once"
    assert (answer.headers["Retry-After"], answer.headers["Connection"]) == ("1", "close")
    async with httpx.AsyncClient(base_url=system.admin_url) as client:
        metrics = (await client.get("/metrics")).text
    [line] = [
        each for each in metrics.splitlines() if each.startswith('touchpoint_gateway_limited_total{limit="at-once"}')
    ]
    assert float(line.split()[-1]) > 0


@asynccontextmanager
async def _crowd(system: System, opening: bytes, reads: bool) -> AsyncIterator[None]:
    """Hold CONNECTIONS connections that send `opening` and then nothing more; reconnect each that the server closes."""
    host, _, port = system.url.removeprefix("http://").partition(":")
    inside = 0

    async def stay() -> None:
        nonlocal inside
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(sock=await _connected(host, int(port)))
                try:
                    if not reads:
                        writer.transport.pause_reading()
                    writer.write(opening)
                    inside += 1
                    if reads:
                        while await reader.read(65_536):
                            pass
                    else:
                        await asyncio.sleep(20)
                finally:
                    writer.transport.abort()
            await asyncio.sleep(random.uniform(0.5, 1.5))

    tasks = [asyncio.create_task(stay()) for _ in range(CONNECTIONS)]
    try:
        await eventually(lambda: inside >= CONNECTIONS, 60)
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _answers_soon(system: System) -> bool:
    """Whether the gateway has worked off the crowd's first requests: it answers within a second."""
    with suppress(httpx.TransportError):
        async with httpx.AsyncClient(base_url=system.url, timeout=1) as client:
            return (await client.get("/nothing")).status_code == 404
    return False


async def _connected(host: str, port: int) -> socket.socket:
    """A connected socket with a small receive buffer."""
    connected = socket.socket()
    connected.setblocking(False)
    connected.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    try:
        await asyncio.get_running_loop().sock_connect(connected, (host, port))
    except BaseException:
        connected.close()
        raise
    return connected


async def _visit(system: System, key: str) -> tuple[Counter[int], float]:
    """Send feedback, each on its own connection; the number of responses by status (0: none), and the longest wait.

    It uses threads: on the crowd's event loop a connected client would have to wait before it can send.
    """
    host, _, port = system.url.removeprefix("http://").partition(":")
    body = json.dumps({"kind": "text", "channel": "web", "text": "All is well."})
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    answers, took = Counter[int](), list[float]()

    def send() -> None:
        for _ in range(REQUESTS // AT_ONCE):
            begun = time.monotonic()
            connection = http.client.HTTPConnection(host, int(port), timeout=60)
            try:
                connection.request("POST", "/v1/feedback", body, headers)
                answers[connection.getresponse().status] += 1
            except (OSError, http.client.HTTPException):
                answers[0] += 1
            finally:
                connection.close()
            took.append(time.monotonic() - begun)

    await asyncio.gather(*(asyncio.to_thread(send) for _ in range(AT_ONCE)))
    return answers, max(took)
