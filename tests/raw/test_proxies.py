"""The table of raw requests through real proxies: this server sees exactly the requests that the proxy passed on.

If the two split a connection's bytes into requests differently (request smuggling), the proxy does not see a request,
or a client gets another client's response. So the test compares the server's requests with each proxy's log, while
another client's requests go over the same connections.
"""

import asyncio
import json
import os
import re
import shutil
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from touchpoint.http.server import listen, serve
from touchpoint.testing import eventually, ports

from .table import Connection, rows

pytestmark = pytest.mark.servers

HOST = "127.0.0.1"
SECONDS = 3
"""Seconds that a proxy has to answer a truncated or malformed request."""
AT_ONCE = 40
"""Rows sent concurrently: most of their time is spent waiting for a proxy's timeout."""
KEPT_SECONDS = 1
"""Seconds that a proxy keeps a client's idle connection open."""


@dataclass
class Recorder:
    """An application that records each request's method and target, and returns them as the response."""

    seen: Counter[str] = field(default_factory=Counter)
    bodies: list[bytes] = field(default_factory=list)

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return
        body, more = b"", True
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                return
            body, more = body + message.get("body", b""), message.get("more_body", False)
        query = scope["query_string"]
        target = f"{scope['method']} {(scope['raw_path'] + (b'?' + query if query else b'')).decode()}"
        self.seen[target] += 1
        self.bodies.append(body)
        answer = target.encode()
        headers = [(b"content-length", b"%d" % len(answer)), (b"x-passed", b"1")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": answer})


def _nginx(folder: Path, port: int, behind: int, connection: str) -> tuple[list[str], str]:
    user = "user root;" if os.geteuid() == 0 else ""
    return (
        ["nginx", "-e", "stderr", "-c", "{config}"],
        f"""
daemon off; worker_processes 1; pid {folder}/nginx.pid; {user}
events {{ worker_connections 512; }}
http {{
  log_format passed escape=json
    '{{"method": "$request_method", "target": "$request_uri", "status": "$upstream_status"}}';
  access_log {folder}/passed.log passed;
  client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
  uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
  client_header_timeout {SECONDS}s; client_body_timeout {SECONDS}s; keepalive_timeout {KEPT_SECONDS}s;
  upstream behind {{ server {HOST}:{behind}; keepalive 4; }}
  server {{
    listen {HOST}:{port};
    location / {{
      proxy_pass http://behind; proxy_http_version 1.1; proxy_request_buffering off;
      {connection}
    }}
  }}
}}
""",
    )


def nginx(folder: Path, port: int, behind: int) -> tuple[list[str], str]:
    """As nginx's documentation recommends for keep-alive connections to the server."""
    return _nginx(folder, port, behind, 'proxy_set_header Connection "";')


def nginx_for_websockets(folder: Path, port: int, behind: int) -> tuple[list[str], str]:
    """As nginx's documentation recommends for WebSockets: it forwards a client's request for an upgrade."""
    headers = 'proxy_set_header Upgrade $http_upgrade; proxy_set_header Connection "upgrade";'
    return _nginx(folder, port, behind, headers)


def nginx_of_old(folder: Path, port: int, behind: int) -> tuple[list[str], str]:
    """With HTTP/1.0 to the server, nginx's former default."""
    command, config = _nginx(folder, port, behind, "")
    return command, config.replace("proxy_http_version 1.1", "proxy_http_version 1.0")


def haproxy(folder: Path, port: int, behind: int) -> tuple[list[str], str]:
    """HAProxy with connections to the server shared among all clients."""
    return (
        ["haproxy", "-f", "{config}"],
        f"""
global
  log stdout len 32768 format raw local0
  tune.http.logurilen 20480
defaults
  mode http
  log global
  log-format '{{"method": "%HM", "target": "%HU", "status": "%[var(txn.passed)]"}}'
  timeout connect 2s
  timeout client {SECONDS}s
  timeout server {SECONDS}s
  timeout http-request {SECONDS}s
  timeout http-keep-alive {KEPT_SECONDS}s
frontend before
  bind {HOST}:{port}
  http-response set-var(txn.passed) res.hdr(x-passed)
  default_backend behind
backend behind
  http-reuse always
  server behind {HOST}:{behind}
""",
    )


Proxy = Callable[[Path, int, int], tuple[list[str], str]]


@asynccontextmanager
async def proxied(proxy: Proxy, folder: Path) -> AsyncIterator[tuple[Recorder, int]]:
    """Run a server behind a proxy; yields the server's recorder and the proxy's port."""
    recorder, stop, listening = Recorder(), asyncio.Event(), listen(HOST, 0)
    serving = asyncio.create_task(serve(recorder, listening, 100, stop))
    [port] = ports.reserve(1)
    command, config = proxy(folder, port, listening.getsockname()[1])
    file = folder / "config"
    file.write_text(config.lstrip())
    with (folder / "passed.log").open("ab") as log, (folder / "errors.log").open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *(word.replace("{config}", str(file)) for word in command), stdout=log, stderr=errors
        )

    async def is_up() -> bool:
        assert process.returncode is None, (folder / "errors.log").read_text()
        with suppress(OSError):
            (await Connection.to(HOST, port)).writer.close()
            return True
        return False

    try:
        await eventually(is_up)
        yield recorder, port
    finally:
        with suppress(ProcessLookupError):
            process.terminate()
        await process.wait()
        stop.set()
        await serving


def _passed_on(folder: Path) -> Counter[str]:
    """The requests that the proxy has forwarded and received a response to, from its log."""
    passed = Counter[str]()
    for line in (folder / "passed.log").read_text("latin-1").split("\n"):
        if line.startswith("{"):
            entry = json.loads(line, strict=False)
            if entry["status"] in ("200", "1"):
                target = re.sub(r"^https?://[^/?]+", "", entry["target"])
                passed[f"{entry['method']} {target if target.startswith(('/', '*')) else '/' + target}"] += 1
    return passed


@pytest.mark.parametrize("proxy", [nginx, nginx_for_websockets, nginx_of_old, haproxy], ids=lambda f: f.__name__)
async def test_the_server_sees_exactly_the_requests_that_the_proxy_forwarded(proxy, tmp_path):
    program = proxy.__name__.partition("_")[0]
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    async with proxied(proxy, tmp_path) as (recorder, port):
        done = asyncio.Event()
        bystander = asyncio.create_task(_bystander(port, done))
        places = asyncio.Semaphore(AT_ONCE)

        async def send(data: bytes) -> list[int]:
            async with places:
                return await _exchange(port, data)

        answers = await asyncio.gather(*(send(row.bytes_with("KEY")) for row in rows()))
        done.set()
        asked = await bystander

        def agreed() -> bool:
            return _passed_on(tmp_path) == recorder.seen

        try:
            await eventually(agreed)
        finally:
            seen, passed = recorder.seen, _passed_on(tmp_path)
            assert (seen - passed, passed - seen) == (Counter(), Counter())
    assert asked > 10
    assert recorder.seen.total() > 50
    refused = sum(1 for statuses in answers if statuses and statuses[-1] >= 400)
    print(f"{program}: {recorder.seen.total()} requests passed on, {refused} rows refused, {asked} of a bystander")


async def _bystander(port: int, done: asyncio.Event) -> int:
    """Send a different request each time and check that its own response comes back; the number of requests."""
    asked = 0
    while not done.is_set():
        target = f"/bystander-{asked}"
        connection = await Connection.to(HOST, port)
        await connection.send([f"GET {target} HTTP/1.1\r\nHost: touchpoint\r\n\r\n".encode()])
        answer = await connection.answer()
        connection.writer.close()
        assert answer
        assert (answer.status, answer.body) == (200, f"GET {target}".encode())
        asked += 1
    return asked


async def _exchange(port: int, data: bytes) -> list[int]:
    """Send bytes; the statuses of all responses until the connection ends or nothing more arrives."""
    connection = await Connection.to(HOST, port)
    try:
        await connection.send([data])
        received = b""
        with suppress(TimeoutError, ConnectionError):
            while piece := await connection.some(SECONDS + 1):
                received += piece
        return [int(status) for status in re.findall(rb"^HTTP/1\.[01] (\d{3})", received, re.MULTILINE)]
    finally:
        connection.writer.transport.abort()
