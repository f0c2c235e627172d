"""An application behind a socket: uvicorn, bounded, without its signal handlers and its words."""

import asyncio
import contextlib
import socket
from collections.abc import Iterator

import uvicorn
from starlette.types import ASGIApp

from touchpoint.errors import UsageError
from touchpoint.http.connections import Connections
from touchpoint.http.protocol import BoundedProtocol

STOP_SECONDS = 15
"""How long requests in hand may take once the server is told to stop."""


class _Server(uvicorn.Server):
    """uvicorn with bounds to its connections, and no signal handlers: the process has its own."""

    server_state: Connections

    def __init__(self, config: uvicorn.Config, connections: int) -> None:
        super().__init__(config)
        self.server_state = Connections(connections)

    async def on_tick(self, counter: int) -> bool:
        """What uvicorn does ten times a second."""
        if counter % 10 == 0:
            self.server_state.sweep()
        return await super().on_tick(counter)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def serve(app: ASGIApp, listening: socket.socket, connections: int, stop: asyncio.Event) -> None:
    """Answer requests until told to stop, on at most so many connections; closes the socket."""
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
    server = _Server(config, connections)
    with listening:
        serving = asyncio.create_task(server.serve(sockets=[listening]))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        server.should_exit = True
        await serving


def listen(host: str, port: int) -> socket.socket:
    """Bind here: uvicorn would end the process with no word of which port it was. Raises UsageError."""
    try:
        return socket.create_server(
            (host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET, backlog=2048
        )
    except OSError as error:
        raise UsageError(f"cannot listen on {host}:{port} ({error.strerror}): free it or set another port") from error
