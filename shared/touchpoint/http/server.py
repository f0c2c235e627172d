"""Serve an application by uvicorn: with limits on connections, without uvicorn's signal handlers and logs."""

import asyncio
import contextlib
import resource
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from touchpoint.base.errors import UsageError
from touchpoint.base.telemetry import OPEN_CONNECTIONS
from touchpoint.http.connections import Connections
from touchpoint.http.protocol import BoundedProtocol

OTHER_DESCRIPTORS = 256
"""File descriptors of a process for everything but client connections: database, Kafka, services, files."""
STOP_SECONDS = 15
"""Seconds that running requests may take once the server stops."""


class _Server(uvicorn.Server):
    """uvicorn with limits on connections and without signal handlers, as the process has its own."""

    server_state: Connections

    def __init__(self, config: uvicorn.Config, connections: int, name: str) -> None:
        super().__init__(config)
        self.server_state = Connections(connections)
        OPEN_CONNECTIONS.labels(name).set_function(lambda: len(self.server_state.connections))

    async def on_tick(self, counter: int) -> bool:
        """Called by uvicorn ten times a second: checks the time limits of connections once a second."""
        if counter % 10 == 0:
            self.server_state.sweep(1)
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(
    app: ASGIApp, listening: socket.socket, connections: int, stop: asyncio.Event, name: str = "api"
) -> None:
    """Serve requests until `stop` is set, on a limited number of connections; then close the socket.

    `name` is the label `server` of the process's metrics.
    """
    config = uvicorn.Config(
        app,
        http=BoundedProtocol,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_graceful_shutdown=STOP_SECONDS,
        ws="none",
    )
    server = _Server(config, connections, name)
    with listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        server.should_exit = True
        await serving


def allow_connections(count: int) -> None:
    """Raise the limit of file descriptors for this many connections. Raises UsageError if the hard limit is too low."""
    needed = count + OTHER_DESCRIPTORS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise UsageError(
            f"{count:,} connections take {needed:,} file descriptors, and this process may have {hard:,}: raise that "
            "limit (ulimit -Hn, LimitNOFILE=) or lower CONNECTIONS"
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))


def listen(host: str, port: int) -> socket.socket:
    """Bind a listening socket. Raises UsageError that names the port; uvicorn itself would exit without naming it."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except OSError as error:
        raise UsageError(f"cannot listen on {host}:{port} ({error.strerror}): free it or set another port") from error
