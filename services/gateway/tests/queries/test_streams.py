"""Streamed answers over real sockets: of any size, passed on part by part, and visibly broken when cut off."""

import asyncio
import contextlib

import httpx
import pytest
from starlette.responses import JSONResponse, Response, StreamingResponse

from gateway.queries import slots
from gateway.queries.routes import ServiceRoute
from gateway.queries.service import FEEDBACK, MAX_ANSWER_BYTES
from touchpoint.http.scopes import Scope
from touchpoint.testing import eventually

MIB = 1024 * 1024
EXPORT_BYTES = 200 * MIB
UNDER_WAY_BYTES = 48 * MIB
"""An upper bound of what is in the kernel's buffers of two connections, which grow, and in the gateway."""
PART = b"x" * 65_536

READ = Scope.FEEDBACK_READ
EXPORT = ServiceRoute("GET", "/v1/export", FEEDBACK, READ, streamed=True, at_once=2)
ROUTES = (
    EXPORT,
    ServiceRoute("POST", "/v1/export", FEEDBACK, READ, streamed=True),
    ServiceRoute("GET", "/v1/late", FEEDBACK, READ, streamed=True, seconds=0.1),
    ServiceRoute("GET", "/v1/stalled", FEEDBACK, READ, streamed=True, idle_seconds=0.1),
    ServiceRoute("GET", "/v1/short", FEEDBACK, READ),
)


@pytest.fixture
def kafka(servers):
    """Kafka without topics of this test: these routes use none."""
    return servers.kafka


@pytest.fixture
async def gateway(open_gateway, behind):
    return await open_gateway(ROUTES, feedback_url=behind.url)


class Export:
    """An export of the fake service. `sent`: the bytes sent so far; `closed`: whether its generator has ended."""

    def __init__(self, size=EXPORT_BYTES):
        self.sent = 0
        self.closed = False
        self._size = size

    def __call__(self, _):
        return StreamingResponse(self._parts(), headers={"Content-Disposition": "attachment"}, media_type="text/csv")

    async def _parts(self):
        try:
            while self.sent < self._size:
                self.sent += len(PART)
                yield PART
        finally:
            self.closed = True


async def test_an_export_of_any_size_is_passed_on_without_being_buffered(gateway, behind):
    export = behind.answer = Export()
    received = 0
    async with gateway.stream("GET", "/v1/export", headers={"Accept-Encoding": "gzip"}) as answer:
        assert answer.status_code == 200
        assert (answer.headers["content-type"], answer.headers["content-disposition"]) == (
            "text/csv; charset=utf-8",
            "attachment",
        )
        assert "content-encoding" not in answer.headers
        async for part in answer.aiter_raw():
            received += len(part)
            assert export.sent - received < UNDER_WAY_BYTES
    assert received == EXPORT_BYTES > MAX_ANSWER_BYTES


async def test_a_client_that_does_not_read_stops_the_service_from_sending(gateway, behind):
    export = behind.answer = Export()
    async with gateway.stream("GET", "/v1/export") as answer:
        for _ in range(20_000):  # many more iterations than the export has parts
            await asyncio.sleep(0)
        assert export.sent < UNDER_WAY_BYTES
        assert not export.closed
        assert sum([len(part) async for part in answer.aiter_raw()]) == EXPORT_BYTES


async def test_an_event_arrives_before_the_stream_ends(gateway, behind):
    more = asyncio.Event()

    async def events():
        yield b"id: 1\ndata: a\n\n"
        await more.wait()
        yield b"id: 2\ndata: b\n\n"

    behind.answer = lambda _: StreamingResponse(events(), media_type="text/event-stream")
    async with gateway.stream("GET", "/v1/export", headers={"Last-Event-ID": "0", "Accept-Encoding": "gzip"}) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-store"
        assert answer.headers["x-accel-buffering"] == "no"
        parts = answer.aiter_raw()
        assert await anext(parts) == b"id: 1\ndata: a\n\n"
        more.set()
        assert [part async for part in parts] == [b"id: 2\ndata: b\n\n"]
    assert behind.asked[0][2]["last-event-id"] == "0"


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_a_client_that_disconnects_ends_the_services_work(gateway, behind, method):
    ended = asyncio.Event()

    async def endless():
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.set()

    behind.answer = lambda _: StreamingResponse(endless())
    async with gateway.stream(method, "/v1/export") as answer:
        assert await anext(answer.aiter_raw()) == b"first"
        assert not ended.is_set()
    await eventually(ended.is_set)


async def test_a_client_that_disconnects_before_the_headers_ends_the_services_work(gateway, behind):
    ended = asyncio.Event()

    async def slow(scope, receive, send):
        assert (await receive())["type"] == "http.disconnect"
        ended.set()

    behind.answer = lambda _: slow
    asked = asyncio.create_task(gateway.get("/v1/export"))
    await eventually(lambda: behind.asked)
    asked.cancel()
    await eventually(ended.is_set)


@contextlib.asynccontextmanager
async def dying(head):
    """A service that sends an answer's beginning, `head`, and closes the connection."""

    async def answer(reader, writer):
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/csv\r\n" + head)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


@pytest.mark.parametrize(
    "head",
    [
        b"Transfer-Encoding: chunked\r\n\r\n5\r\nfirst\r\n",
        b"Transfer-Encoding: chunked\r\n\r\n50\r\nfirst",
        b"Content-Length: 100\r\n\r\nfirst",
    ],
    ids=["between chunks", "within a chunk", "before its announced end"],
)
async def test_a_client_sees_that_an_answer_is_cut_off_when_the_service_dies(open_gateway, head):
    async with dying(head) as url:
        gateway = await open_gateway(ROUTES, feedback_url=url)
        received = []
        with pytest.raises(httpx.RemoteProtocolError):
            async with gateway.stream("GET", "/v1/export") as answer:
                assert answer.status_code == 200
                async for part in answer.aiter_raw():
                    received.append(part)
        assert b"".join(received) == b"first"


async def test_a_client_sees_that_an_answer_is_cut_off_when_the_service_raises(gateway, behind):
    async def failing():
        yield b"first"
        raise LookupError

    behind.answer = lambda _: StreamingResponse(failing())
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.get("/v1/export")


async def test_a_stream_without_a_further_part_for_idle_seconds_is_cut_off(gateway, behind):
    ended = asyncio.Event()

    async def stalled():
        try:
            yield b"first"
            await asyncio.Event().wait()
        finally:
            ended.set()

    behind.answer = lambda _: StreamingResponse(stalled())
    with pytest.raises(httpx.RemoteProtocolError):
        await gateway.get("/v1/stalled")
    await eventually(ended.is_set)


async def test_a_service_that_sends_no_headers_in_time_is_504(gateway, behind):
    async def never(scope, receive, send):
        await receive()

    behind.answer = lambda _: never
    answer = await gateway.get("/v1/late")
    assert (answer.status_code, answer.json()["type"]) == (504, "urn:touchpoint:problem:service-too-slow")


async def test_a_problem_in_place_of_a_stream_is_passed_on(gateway, behind):
    behind.answer = lambda _: JSONResponse({"status": 409}, 409, media_type="application/problem+json")
    answer = await gateway.get("/v1/export")
    assert (answer.status_code, answer.json()) == (409, {"status": 409})
    behind.answer = lambda _: Response(status_code=401)
    assert (await gateway.get("/v1/export")).status_code == 502


async def test_a_content_length_is_passed_on_and_the_answer_to_head_has_no_body(gateway, behind):
    behind.answer = lambda _: Response(b"a;b", media_type="text/csv")
    answer = await gateway.get("/v1/export")
    assert (answer.content, answer.headers["content-length"]) == (b"a;b", "3")
    answer = await gateway.head("/v1/export")
    assert (answer.status_code, answer.content, answer.headers["content-length"]) == (200, b"", "3")
    assert (await gateway.get("/v1/short")).status_code == 200


@pytest.mark.parametrize("status", [204, 304])
async def test_a_streamed_route_may_answer_without_a_body(gateway, behind, status):
    behind.answer = lambda _: Response(status_code=status, headers={"ETag": '"1"'})
    answer = await gateway.get("/v1/export")
    assert (answer.status_code, answer.headers["etag"], answer.content) == (status, '"1"', b"")


async def test_a_request_of_a_streamed_route_may_have_a_body_but_no_idempotency_key(gateway, behind):
    behind.answer = lambda _: StreamingResponse(iter([b"a", b"b"]))
    answer = await gateway.post("/v1/export", json={"since": "2026"})
    assert (answer.content, behind.asked[0][3]) == (b"ab", b'{"since":"2026"}')
    answer = await gateway.post("/v1/export", headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:touchpoint:problem:idempotency-key-not-taken")


async def test_streams_do_not_take_the_slots_of_other_routes(open_gateway, behind, monkeypatch):
    monkeypatch.setattr(slots, "WAIT_SECONDS", 0.05)
    gateway = await open_gateway(ROUTES, feedback_url=behind.url, queries_at_once=2)
    goes_on = asyncio.Event()

    async def endless():
        yield b"first"
        await goes_on.wait()

    def answer(request):
        return StreamingResponse(endless()) if request.url.path == "/v1/export" else JSONResponse({})

    behind.answer = answer
    async with gateway.stream("GET", "/v1/export") as stream:
        parts = stream.aiter_raw()
        assert await anext(parts) == b"first"
        refused = await gateway.get("/v1/export")
        assert (refused.status_code, refused.json()["type"]) == (429, "urn:touchpoint:problem:too-many-questions")
        assert (await gateway.get("/v1/short")).status_code == 200
        goes_on.set()
        assert [part async for part in parts] == []
    assert (await gateway.get("/v1/export")).status_code == 200
