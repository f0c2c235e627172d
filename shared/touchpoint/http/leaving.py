"""Work whose client has disconnected is cancelled, down to its query in the database."""

import asyncio
from collections.abc import Collection

from starlette.types import ASGIApp, Message, Receive, Scope, Send

SAFE = ("GET", "HEAD")
"""Methods that change nothing (RFC 9110, 9.2.1): cancelling them halfway does no harm."""


class UntilClientLeaves:
    """Cancels the application's work when the client disconnects before the answer is complete.

    Only for `methods`; None: for all. Other requests run on. The application receives an empty body, and then waits
    for the disconnection: where requests have a body, read it before. A streamed answer is cancelled at any part.
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
    """One request: cancels the task that works on it."""

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
        """Cancel the work when the client disconnects, unless its answer is complete."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._left.set()
        if not self._complete:
            self.cancelled = True
            self.work.cancel()

    async def receive(self) -> Message:
        """An empty body, then the disconnection: a streaming response waits for it in a task of its own."""
        if not self._body_read:
            self._body_read = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self._left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Pass a message on; after the last part of the answer nothing is cancelled."""
        if message["type"] == "http.response.body" and not message.get("more_body", False):
            self._complete = True
        await self._send(message)
