"""A server against clients that send too much, too slowly or too often, over real sockets."""

import asyncio
import json
import resource
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest
import uvicorn

from touchpoint.base.errors import UsageError
from touchpoint.http import connections, protocol, server, wire
from touchpoint.http.connections import Connections
from touchpoint.http.server import listen, serve
from touchpoint.testing import eventually

GET = b"GET / HTTP/1.1\r\nHost: x\r\n"
CHUNKED = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n"


class App:
    """Responds once the whole body has arrived and `go` is set, in `parts` parts of `part` bytes."""

    def __init__(self) -> None:
        self.go = asyncio.Event()
        self.go.set()
        self.running = 0
        self.parts, self.part = 1, 4

    async def __call__(self, scope, receive, send) -> None:
        if scope["type"] != "http":
            return
        self.running += 1
        try:
            while scope["path"] != "/early" and (await receive()).get("more_body"):
                pass
            await self.go.wait()
            headers = [(b"content-length", b"%d" % (self.part * self.parts))]
            await send({"type": "http.response.start", "status": 200, "headers": headers})
            for left in reversed(range(self.parts)):
                await send({"type": "http.response.body", "body": b"x" * self.part, "more_body": left > 0})
        finally:
            self.running -= 1


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.fresh = True

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        with suppress(ConnectionError):  # the server has closed the connection; its response can still be read
            await self.writer.drain()

    async def answer(self) -> tuple[int, bytes]:
        """Status and body of the next response; status 0: the connection ended without one."""
        try:
            async with asyncio.timeout(20):
                head = await self.reader.readuntil(b"\r\n\r\n")
        except (asyncio.IncompleteReadError, ConnectionError):
            return 0, b""
        length = next(int(line[16:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
        self.head = head
        return int(head.split()[1]), await self.reader.readexactly(length)

    async def problem(self) -> tuple[int, str]:
        """Status and code of the next response, a problem, after which the connection must end."""
        status, body = await self.answer()
        if not status:
            return 0, ""
        assert b"application/problem+json" in self.head
        await eventually(self.ended)
        problem = json.loads(body)
        assert problem["status"] == status
        return status, problem["type"].removeprefix("urn:touchpoint:problem:")

    def ended(self) -> bool:
        return self.reader.at_eof() or self.reader.exception() is not None

    async def get(self) -> int:
        await self.send(GET + b"\r\n")
        return (await self.answer())[0]


@pytest.fixture
def swept_often(monkeypatch) -> None:
    """Make servers check connections' time limits ten times per second instead of once."""

    async def on_tick(self: server._Server, counter: int) -> bool:
        self.server_state.sweep(0.1)
        return await uvicorn.Server.on_tick(self, counter)

    monkeypatch.setattr(server._Server, "on_tick", on_tick)


@pytest.fixture
def app() -> App:
    return App()


@asynccontextmanager
async def running(app: App, connections: int = 50):
    """A running server; yields the function that connects a client to it."""
    stop, listening = asyncio.Event(), listen("127.0.0.1", 0)
    port = listening.getsockname()[1]
    clients = []

    async def connect(address: str = "127.0.0.1") -> Client:
        clients.append(Client(*await asyncio.open_connection("127.0.0.1", port, local_addr=(address, 0))))
        return clients[-1]

    serving = asyncio.create_task(serve(app, listening, connections, stop))
    yield connect
    app.go.set()
    for client in clients:
        client.writer.transport.abort()
    stop.set()
    await serving


@pytest.fixture
async def connect(app) -> AsyncIterator:
    async with running(app) as how:
        yield how


async def test_a_connection_serves_several_requests_in_turn(connect):
    client = await connect()
    assert [await client.get() for _ in range(3)] == [200] * 3


@pytest.mark.parametrize(
    ("start", "more"),
    [
        (GET + b"X-Long: ", b"a" * 60_000),
        (GET, b"a: b\r\n" * 10_000),
        (b"GET /", b"a" * 60_000),
        (CHUNKED + b"0\r\n", b"a: b\r\n" * 10_000),
        (CHUNKED + b"0\r\nX-Long: ", b"a" * 60_000),
        (CHUNKED + b"1;", b"a" * 60_000),
    ],
    ids=["long header", "many headers", "long address", "many trailers", "long trailer", "chunk extension"],
)
async def test_endless_headers_and_trailers_are_refused_before_they_take_memory(connect, start, more):
    client = await connect()
    await client.send(start)
    for _ in range(100):
        await client.send(more)
    assert await client.problem() in [(431, "headers-too-large"), (0, "")]  # a reset may arrive before the response
    assert await (await connect()).get() == 200


@pytest.mark.parametrize("start", [GET, CHUNKED + b"0\r\n"], ids=["headers", "trailers"])
async def test_too_many_headers_are_refused_before_their_end(connect, start):
    client = await connect()
    await client.send(start + b"a: b\r\n" * (wire.MAX_HEADERS + 1))
    assert await client.problem() == (431, "headers-too-large")


async def test_headers_up_to_the_limit_are_accepted_before_a_large_body(connect):
    def request(size: int, count: int) -> bytes:
        lines = b"".join(b"X-%04d: %s\r\n" % (n, b"a" * size) for n in range(count))
        return b"POST / HTTP/1.1\r\nHost: x\r\n" + lines + b"Content-Length: 200000\r\n\r\n" + b"x" * 200_000

    for size, count, status in [(640, 98, 200), (10, 98, 200), (670, 98, 431), (10, 99, 431)]:
        client = await connect()
        await client.send(request(size, count))
        assert (await client.answer())[0] == status, (size, count)


async def test_headers_that_arrive_too_slowly_are_a_408(connect, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    client = await connect()
    await client.send(GET)
    assert await client.problem() == (408, "headers-too-slow")


@pytest.mark.usefixtures("swept_often")
async def test_the_headers_timeout_does_not_limit_the_request_after_them(connect, app, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    app.go.clear()
    busy, late = await connect(), await connect()
    await busy.send(GET + b"\r\n")
    await late.send(GET)
    assert await late.problem() == (408, "headers-too-slow")
    app.go.set()
    assert (await busy.answer())[0] == 200


@pytest.mark.usefixtures("swept_often")
async def test_a_connection_without_a_request_is_closed_without_a_response(connect, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    client = await connect()
    await eventually(client.ended)
    assert await client.answer() == (0, b"")


@pytest.mark.usefixtures("swept_often")
async def test_blank_lines_do_not_keep_a_connection_open(connect, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 0.5)
    client = await connect()
    assert await client.get() == 200

    async def ended() -> bool:
        await client.send(b"\r\n")
        return client.ended()

    await eventually(ended)


@pytest.mark.usefixtures("swept_often")
async def test_a_client_that_keeps_sending_after_its_response_is_disconnected(connect, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    client = await connect()
    await client.send(b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n")
    assert (await client.answer())[0] == 200

    async def ended() -> bool:
        await client.send(b"x")
        return client.ended()

    await eventually(ended)


@pytest.mark.usefixtures("swept_often")
async def test_a_response_that_the_client_does_not_read_is_cancelled(connect, app, monkeypatch):
    monkeypatch.setattr(connections, "ANSWER_SECONDS", 0.1)
    app.parts, app.part = 50, 1_000_000
    client = await connect()
    client.writer.transport.pause_reading()
    await client.send(GET + b"\r\n")
    await eventually(lambda: app.running)
    await eventually(lambda: not app.running)


@pytest.mark.usefixtures("swept_often")
async def test_the_unread_end_of_a_response_does_not_keep_its_connection_open(app, monkeypatch):
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 0.5)
    states = []
    monkeypatch.setattr(server, "Connections", lambda most: states.append(Connections(most)) or states[0])
    app.part = 20_000_000
    async with running(app) as connect:
        client = await connect()
        client.writer.transport.pause_reading()
        await client.send(GET + b"\r\n")
        await eventually(lambda: states[0]._waiting and not app.running)
        await eventually(lambda: not states[0].connections)


async def test_pipelined_requests_are_all_answered_in_turn(connect, app):
    app.go.clear()
    client = await connect()
    sending = asyncio.create_task(client.send((GET + b"\r\n") * 10_000))
    await eventually(lambda: app.running)
    app.go.set()
    assert {(await client.answer())[0] for _ in range(10_000)} == {200}
    await sending


async def test_a_connection_above_the_limit_gets_503_and_the_others_are_served(app):
    app.go.clear()
    async with running(app, connections=20) as connect:
        inside = [await connect() for _ in range(25)]  # the limit may briefly be exceeded by a quarter
        for client in inside:
            await client.send(GET + b"\r\n")
        await eventually(lambda: app.running == 25)

        outside = await connect()
        assert await outside.problem() == (503, "too-many-connections")
        assert b"\r\nRetry-After: 1\r\n" in outside.head

        app.go.set()
        assert [(await client.answer())[0] for client in inside] == [200] * 25
        for client in inside[:5]:
            client.writer.close()

        async def again() -> bool:
            return await (await connect()).get() == 200

        await eventually(again)


@pytest.mark.parametrize(("address", "answers"), [("127.0.0.2", {200}), ("127.0.0.1", {200, 503, 0})])
async def test_hundreds_of_slow_clients_do_not_shut_out_others(app, address, answers):
    """Clients at the same or another address are answered."""
    async with running(app, connections=50) as connect:

        async def slowloris() -> None:
            while True:
                slow = await connect()
                with suppress(ConnectionError):
                    while not slow.ended():
                        await slow.send(b"GET / HTTP/1.1\r\n" if slow.fresh else b"X: y\r\n")
                        slow.fresh = False
                        await asyncio.sleep(0.2)
                await asyncio.sleep(0.5)

        attack = [asyncio.create_task(slowloris()) for _ in range(150)]
        answered = []

        async def customer() -> bool:
            answered.append(await (await connect(address)).get())
            return answered.count(200) == 20

        await eventually(customer)
        for task in attack:
            task.cancel()
        await asyncio.gather(*attack, return_exceptions=True)
        assert set(answered) <= answers


async def test_a_body_with_malformed_framing_is_a_400_and_ends_its_application(connect, app):
    client = await connect()
    await client.send(CHUNKED)
    await eventually(lambda: app.running)
    await client.send(b"zz\r\n")
    assert await client.problem() == (400, "malformed-request")
    await eventually(lambda: not app.running)


async def test_malformed_data_after_a_response_gets_no_second_response(connect):
    """A proxy would forward a second response to another client."""
    client = await connect()
    await client.send(b"POST /early HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n")
    assert (await client.answer())[0] == 200
    await client.send(b"zz\r\n" + GET + b"\r\n")
    assert await client.answer() == (0, b"")


async def test_a_response_before_the_end_of_a_large_body_reaches_the_client(connect):
    """A connection that is closed with unread data is reset, and the client may never get its response."""
    client = await connect()
    head = b"POST /early HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n"
    await client.send(head + b"x" * 10_000_000)
    assert (await client.answer())[0] == 200
    assert b"connection: close" in client.head
    assert await client.answer() == (0, b"")


async def test_an_upgrade_is_ignored_and_its_body_is_not_executed(connect, app):
    client = await connect()
    upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAEAAEAAAAIAAAAB\r\n"
    hidden = GET + b"\r\n"
    head = b"POST / HTTP/1.1\r\nHost: x\r\n" + upgrade + b"Content-Length: %d\r\n\r\n" % len(hidden)
    app.go.clear()
    await client.send(head)
    await eventually(lambda: app.running)
    await client.send(hidden)
    app.go.set()
    assert (await client.answer())[0] == 200
    assert await client.get() == 200
    client.writer.write_eof()
    assert await client.answer() == (0, b"")


SLOW = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 20000\r\n\r\nx"


@pytest.mark.usefixtures("swept_often")
async def test_a_body_that_does_not_arrive_is_a_408_and_ends_its_application(connect, app, monkeypatch):
    monkeypatch.setattr(protocol, "PAUSE_SECONDS", 0.1)
    client = await connect()
    await client.send(SLOW)
    assert await client.problem() == (408, "body-too-slow")
    await eventually(lambda: not app.running)


async def test_a_body_that_arrives_too_slowly_is_a_408(connect, monkeypatch):
    monkeypatch.setattr(protocol, "PAUSE_SECONDS", 0.1)
    client = await connect()
    await client.send(SLOW)

    async def drip() -> None:
        while True:
            await client.send(b"x")
            await asyncio.sleep(0.01)

    dripping = asyncio.create_task(drip())
    assert await client.problem() == (408, "body-too-slow")
    dripping.cancel()


@pytest.mark.usefixtures("swept_often")
async def test_a_body_at_an_acceptable_rate_has_an_upper_time_limit(connect, monkeypatch):
    monkeypatch.setattr(protocol, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(protocol, "BODY_SECONDS", 2)
    client = await connect()
    await client.send(SLOW.replace(b"20000", b"20000000"))
    begun = time.monotonic()

    async def refused() -> bool:
        await client.send(b"x" * 20_000)
        return client.ended()

    await eventually(refused)
    assert time.monotonic() - begun > 1
    assert await client.problem() in [(408, "body-too-slow"), (0, "")]


@pytest.mark.usefixtures("swept_often")
async def test_a_body_that_the_application_has_not_asked_for_is_not_too_slow(connect, app, monkeypatch):
    monkeypatch.setattr(protocol, "PAUSE_SECONDS", 0.1)
    monkeypatch.setattr(protocol, "HEAD_SECONDS", 0.1)
    client, other = await connect(), await connect()
    await client.send(b"POST /early HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 20000\r\n\r\n")
    app.go.clear()
    await eventually(lambda: app.running)
    await other.send(GET)
    assert await other.problem() == (408, "headers-too-slow")  # the server has checked all connections since
    app.go.set()
    assert (await client.answer())[0] == 200


@pytest.mark.usefixtures("swept_often")
async def test_the_address_with_most_waiting_connections_makes_room_for_a_new_one(app, monkeypatch):
    """The quiet address keeps its idle connection, although it is the oldest."""
    monkeypatch.setattr(protocol, "IDLE_SECONDS", 60)
    async with running(app, connections=20) as connect:
        quiet = await connect("127.0.0.2")
        assert await quiet.get() == 200
        loud = [await connect() for _ in range(30)]  # five more than the limit allows
        await eventually(lambda: all(client.ended() for client in loud[:5]))
        assert await quiet.get() == 200


@pytest.mark.parametrize(
    ("soft", "hard", "then"), [(1000, 5000, 1056), (2000, 2000, 2000), (1000, resource.RLIM_INFINITY, 1056)]
)
def test_a_process_raises_its_limit_of_file_descriptors_for_its_connections(monkeypatch, soft, hard, then):
    limits = [(soft, hard)]
    monkeypatch.setattr(resource, "getrlimit", lambda _: limits[-1])
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    server.allow_connections(800)
    assert limits[-1] == (then, hard)


def test_a_process_does_not_start_if_it_may_not_open_enough_file_descriptors(monkeypatch):
    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 1024))
    with pytest.raises(UsageError, match=r"1,056 file descriptors.*may have 1,024.*CONNECTIONS"):
        server.allow_connections(800)
