"""A question whose asker has gone is not worked on any further, down to its query in the database."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class UntilClientLeaves:
    """Cancels the application's work on a GET or HEAD when its client disconnects before the answer; a command runs on.

    The application gets no body: a question has none.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        if scope["type"] != "http" or scope["method"] not in ("GET", "HEAD"):
            await self._app(scope, receive, send)
            return
        work = asyncio.current_task()
        assert work is not None
        answered = left = False

        async def watch() -> None:
            nonlocal left
            while (await receive())["type"] != "http.disconnect":
                pass
            if not answered:
                left = True
                work.cancel()

        async def noting(message: Message) -> None:
            nonlocal answered
            answered = True
            await send(message)

        watching = asyncio.create_task(watch())
        try:
            await self._app(scope, _no_body, noting)
        except asyncio.CancelledError:
            if not left or work.uncancel():
                raise  # the process is stopping
        finally:
            watching.cancel()


async def _no_body() -> Message:
    return {"type": "http.request", "body": b"", "more_body": False}
