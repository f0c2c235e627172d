"""Cancel the work on a request whose client has disconnected, including its query in the database."""

import asyncio
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE = ("GET", "HEAD")
"""Safe methods (RFC 9110, 9.2.1), which can be cancelled at any point."""


class UntilClientLeaves:
    """ASGI middleware that cancels a request when its client disconnects before the answer is complete.

    It applies to `methods` (None: all); other requests run to their end. The application receives an empty body: if
    requests have a body, read it in an outer middleware. A streamed answer is cancelled between or within its parts.
    """

    def __init__(self, app: ASGIApp, methods: Collection[str] | None = SAFE) -> None:
        self._app = app
        self._methods = methods

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or (self._methods is not None and scope["method"] not in self._methods):
            await self._app(scope, receive, send)
            return
        watch = _Watch(receive, send)
        watching = asyncio.create_task(watch.wait())
        try:
            await self._app(scope, watch.receive, watch.send)
        except asyncio.CancelledError:
            if not watch.cancelled or watch.work.uncancel():
                raise  # the process is stopping
        finally:
            watching.cancel()


class _Watch:
    """Watches the client of one request and cancels the task that handles it."""

    def __init__(self, receive: Receive, send: Send) -> None:
        work = asyncio.current_task()
        assert work is not None
        self.work = work
        self.cancelled = False
        self._receive = receive
        self._send = send
        self._complete = self._body_read = False
        self._left = asyncio.Event()

    async def wait(self) -> None:
        """Wait until the client disconnects; then cancel the work, unless the answer is complete."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left.set()
        if not self._complete:
            self.cancelled = True
            self.work.cancel()

    async def receive(self) -> Message:
        """Return an empty body first, then wait for the disconnection, as Starlette's streaming responses do."""
        if not self._body_read:
            self._body_read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Send a message; after the last part of the answer the request is not cancelled any more."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._complete = True
        await self._send(message)
