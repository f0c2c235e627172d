"""A request's work is cancelled when its client disconnects, before the response or during a streamed one."""

import asyncio

import pytest
from starlette.responses import Response, StreamingResponse

from touchpoint.http.leaving import UntilClientLeaves
from touchpoint.testing import eventually


class Client:
    """A client that disconnects on demand and keeps the messages it received."""

    def __init__(self):
        self.left = asyncio.Event()
        self.messages = []
        self._body_sent = False

    async def receive(self):
        if not self._body_sent:
            self._body_sent = True
            return {"type": "http.request", "body": b"", "more_body": False}
        await self.left.wait()
        return {"type": "http.disconnect"}

    async def send(self, message):
        self.messages.append(message)

    def ask(self, app, method="GET"):
        scope = {"type": "http", "method": method, "asgi": {"spec_version": "2.3"}}
        return asyncio.create_task(app(scope, self.receive, self.send))


def streaming(ended):
    """An application with an endless streamed response, which sets `ended` when it is cancelled."""

    async def parts():
        try:
            for number in range(3):
                yield b"%d" % number
            await asyncio.Event().wait()
        finally:
            ended.set()

    return StreamingResponse(parts())


async def test_a_streamed_response_is_cancelled_when_its_client_disconnects():
    client, ended = Client(), asyncio.Event()
    request = client.ask(UntilClientLeaves(streaming(ended)))
    await eventually(lambda: [message.get("body") for message in client.messages] == [None, b"0", b"1", b"2"])
    assert not ended.is_set()
    client.left.set()
    await request
    assert ended.is_set()


async def test_a_client_that_disconnects_before_the_response_cancels_the_work():
    client, started, ended = Client(), asyncio.Event(), asyncio.Event()

    async def slow(scope, receive, send):
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    request = client.ask(UntilClientLeaves(slow))
    await started.wait()
    client.left.set()
    await request
    assert ended.is_set()
    assert client.messages == []


async def test_work_after_a_complete_response_is_not_cancelled():
    client, done = Client(), asyncio.Event()

    async def app(scope, receive, send):
        await Response(b"all")(scope, receive, send)
        client.left.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        done.set()

    await client.ask(UntilClientLeaves(app))
    assert done.is_set()


async def test_a_command_is_not_cancelled_when_its_client_disconnects():
    client, goes_on, done = Client(), asyncio.Event(), asyncio.Event()

    async def command(scope, receive, send):
        await goes_on.wait()
        done.set()

    request = client.ask(UntilClientLeaves(command), "POST")
    client.left.set()
    goes_on.set()
    await request
    assert done.is_set()


async def test_methods_none_makes_all_methods_cancellable():
    client, ended = Client(), asyncio.Event()
    request = client.ask(UntilClientLeaves(streaming(ended), methods=None), "POST")
    await eventually(lambda: len(client.messages) == 4)
    client.left.set()
    await request
    assert ended.is_set()


async def test_cancelling_the_request_cancels_the_streamed_response():
    client, ended = Client(), asyncio.Event()
    request = client.ask(UntilClientLeaves(streaming(ended)))
    await eventually(lambda: len(client.messages) == 4)
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert ended.is_set()
