"""Routes to services: the scopes they need, what reaches the service, and the answer when it fails."""

import asyncio
import contextlib
import socket
from urllib.parse import unquote

import pytest
from starlette.responses import JSONResponse, Response

from gateway.queries import slots
from gateway.queries.routes import ROUTES
from gateway.queries.service import MAX_ANSWER_BYTES
from touchpoint.http.errors import ProblemError, response
from touchpoint.http.identity import verify
from touchpoint.http.scopes import Scope
from touchpoint.testing import eventually

ID = "0190a5f2-0000-7000-8000-000000000000"


@pytest.fixture
def kafka(servers):
    """Kafka without topics of this test: these routes use none."""
    return servers.kafka


def urls(behind):
    return {f"{name}_url": behind.url for name in ("feedback", "escalation", "metrics")}


def path_of(query):
    return query.path.replace("{metric}", "nps").replace("{customer_id}", "C-1").replace("{", "").replace("}", "")


@pytest.mark.parametrize("query", ROUTES, ids=lambda query: f"{query.method} {query.path}")
async def test_each_request_reaches_its_service_with_a_token_for_the_caller(open_door, behind, secret, query):
    door = await open_door(tenant="globex", scopes={query.scope}, **urls(behind))
    behind.answer = lambda _: JSONResponse({"n": 7}, 201)

    answer = await door.request(query.method, f"{path_of(query)}?a=1&b=%2F", headers={"Accept": "application/json"})

    assert (answer.status_code, answer.json()) == (201, {"n": 7})
    [(method, path, headers, _)] = behind.asked
    assert (method, path) == (query.method, f"{path_of(query)}?a=1&b=%2F".encode())
    caller = verify(headers["authorization"].removeprefix("Bearer "), query.service, [secret])
    assert (caller.tenant, caller.scopes) == ("globex", {query.scope})


@pytest.mark.parametrize("query", ROUTES, ids=lambda query: f"{query.method} {query.path}")
async def test_without_the_scope_no_service_is_asked(open_door, behind, query):
    door = await open_door(scopes=set(Scope) - {query.scope}, **urls(behind))

    answer = await door.request(query.method, path_of(query))

    assert answer.status_code == 403
    assert behind.asked == []


async def test_without_a_key_no_service_is_asked(open_door, behind):
    door = await open_door(**urls(behind))
    assert (await door.get("/v1/feedback", headers={"Authorization": ""})).status_code == 401
    assert behind.asked == []


async def test_a_customers_id_may_have_slashes_encoded_or_not(open_door, behind):
    door = await open_door(**urls(behind))
    for path in ("/v1/customers/a%2Fb%20c/timeline", "/v1/customers/a/b/timeline"):
        assert (await door.get(path)).status_code == 200
        assert behind.asked[-1][1] == path.encode()


async def test_a_body_is_passed_on_and_its_size_limited(open_door, behind):
    door = await open_door(**urls(behind))

    assert (await door.post(f"/v1/escalations/{ID}/resolve", json={"by": "ann"})).status_code == 200
    _, _, headers, body = behind.asked[0]
    assert (headers["content-type"], body) == ("application/json", b'{"by":"ann"}')

    answer = await door.post(f"/v1/escalations/{ID}/resolve", content=b"x" * 262_145)
    assert (answer.status_code, answer.json()["type"]) == (413, "urn:touchpoint:problem:body-too-large")
    assert len(behind.asked) == 1


async def test_a_services_problem_is_passed_through_as_it_is(open_door, behind):
    door = await open_door(**urls(behind))
    behind.answer = lambda _: response(
        ProblemError(409, "already-resolved", "It is resolved.", headers={"Retry-After": "9", "X-Internal": "x"})
    )

    answer = await door.get(f"/v1/escalations/{ID}")

    assert (answer.status_code, answer.headers["content-type"]) == (409, "application/problem+json")
    assert answer.json()["detail"] == "It is resolved."
    assert answer.headers["retry-after"] == "9"
    assert "x-internal" not in answer.headers


async def test_a_service_that_is_down_is_503_with_retry_after(open_door):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # bound but not listening: connections are refused
        door = await open_door(metrics_url=f"http://127.0.0.1:{taken.getsockname()[1]}")
        answer = await door.get("/v1/metrics/nps")

    assert answer.status_code == 503
    assert answer.json()["type"] == "urn:touchpoint:problem:service-unavailable"
    assert "metrics-svc" in answer.json()["detail"]
    assert answer.headers["retry-after"]


async def test_a_service_that_does_not_answer_in_time_is_504(open_door, behind):
    door = await open_door(query_seconds=0.1, **urls(behind))

    async def never(scope, receive, send):
        await asyncio.Event().wait()

    behind.answer = lambda _: never
    async with asyncio.timeout(5):
        answer = await door.get("/v1/feedback")
    assert (answer.status_code, answer.json()["type"]) == (504, "urn:touchpoint:problem:service-too-slow")


@contextlib.asynccontextmanager
async def hanging_up():
    """A service that closes each connection at its second request; yields its URL and the methods it received."""
    asked = []

    async def serve(reader, writer):
        for answered in (True, False):
            asked.append((await reader.readuntil(b"\r\n\r\n")).split(b" ", 1)[0])
            if answered:
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", asked


async def test_a_get_that_meets_a_closed_connection_is_sent_again(open_door):
    async with hanging_up() as (url, asked):
        door = await open_door(escalation_url=url)
        for _ in range(3):
            assert (await door.get("/v1/escalations")).status_code == 200
        assert len(asked) > 3


async def test_a_command_that_meets_a_closed_connection_is_not_sent_twice(open_door):
    async with hanging_up() as (url, asked):
        door = await open_door(escalation_url=url)
        assert (await door.get("/v1/escalations")).status_code == 200
        answer = await door.post(f"/v1/escalations/{ID}/resolve")
        assert (answer.status_code, answer.json()["type"]) == (503, "urn:touchpoint:problem:service-unavailable")
        assert asked == [b"GET", b"POST"]


async def test_concurrent_requests_to_a_service_are_limited_without_affecting_other_services(
    open_door, behind, monkeypatch
):
    monkeypatch.setattr(slots, "WAIT_SECONDS", 0.05)
    door = await open_door(queries_at_once=2, **urls(behind))
    released = behind.hold("/v1/feedback")
    first = asyncio.create_task(door.get("/v1/feedback"))
    await eventually(lambda: behind.asked)
    refused = await door.get("/v1/feedback")
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:touchpoint:problem:too-many-questions")
    assert refused.headers["retry-after"]
    assert (await door.get("/v1/metrics/nps")).status_code == 200
    released.set()
    assert (await first).status_code == 200
    assert (await door.get("/v1/feedback")).status_code == 200


async def test_an_answer_above_the_maximum_size_is_502(open_door, behind):
    door = await open_door(**urls(behind))
    behind.answer = lambda _: Response(b"x" * (MAX_ANSWER_BYTES + 1))
    answer = await door.get("/v1/feedback")
    assert (answer.status_code, answer.json()["type"]) == (502, "urn:touchpoint:problem:answer-too-large")
    behind.answer = lambda _: Response(b"x" * MAX_ANSWER_BYTES)
    assert len((await door.get("/v1/feedback")).content) == MAX_ANSWER_BYTES


async def test_a_401_of_a_service_becomes_a_502(open_door, behind):
    door = await open_door(**urls(behind))
    behind.answer = lambda _: Response(status_code=401)

    answer = await door.get("/v1/feedback")

    assert (answer.status_code, answer.json()["type"]) == (502, "urn:touchpoint:problem:service-misconfigured")


async def test_a_path_without_a_route_is_404_and_reaches_no_service(open_door, behind):
    door = await open_door(**urls(behind))
    for path in ("/internal/events/x", "/v1/metrics/nps/x", "/v1/feedback/a/b", "/v1/nothing", "/"):
        answer = await door.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (404, "application/problem+json")
    assert behind.asked == []


async def ask_raw(door, path):
    """Send the path as it is and return the status; httpx would remove its dot segments."""
    started = asyncio.get_running_loop().create_future()

    async def receive():
        return await asyncio.Event().wait()

    async def send(message):
        if not started.done():
            started.set_result(message["status"])

    authorization = (b"authorization", door.headers["authorization"].encode())
    about = {"type": "http", "method": "GET", "query_string": b"", "headers": [authorization]}
    await door._transport.app(about | {"path": unquote(path), "raw_path": path.encode()}, receive, send)
    return await started


@pytest.mark.parametrize(
    "path",
    [
        "/v1/feedback/", "/v1//feedback", "//v1/feedback", "/v1/feedback;x", "/V1/feedback",
        "/v1/feedback/../escalations", "/v1/feedback/%2e%2e/escalations", "/v1/feedback/..%2Fescalations",
        "/internal/events/1", "/v1/internal/events/1", "/metrics", "/healthz", "/readyz", "/v1/ops", "/v1", "/",
    ],
)  # fmt: skip
async def test_a_path_that_resembles_a_route_is_404_and_reaches_no_service(open_door, behind, path):
    door = await open_door(**urls(behind))
    assert await ask_raw(door, path) == 404
    assert behind.asked == []


@pytest.mark.parametrize(
    "path",
    [
        "/v1/customers/../../internal/events/1/timeline",
        "/v1/customers/../feedback/timeline",
        "/v1/customers/..%2F..%2Finternal%2Fevents/timeline",
        "/v1/customers/%2e%2e/timeline",
        "/v1/customers//evil.example/timeline",
        "/v1/customers/http://evil.example/timeline",
        "/v1/customers/a%3Ftenant=globex%23/timeline",
        "/v1/customers/%zz%/timeline",
        '/v1/customers/"|<>^`{}/timeline',
    ],
)
async def test_a_path_reaches_the_service_byte_for_byte(open_door, behind, path):
    door = await open_door(**urls(behind))
    assert await ask_raw(door, path) == 200
    assert [asked[1] for asked in behind.asked] == [path.encode()]


async def test_of_two_authorization_headers_only_the_first_counts(open_door, issue, behind):
    door = await open_door(**urls(behind))
    good, bad = f"Bearer {await issue()}", f"Bearer tp_{'0' * 12}_{'0' * 64}"
    for first, second, status in ((good, bad, 200), (bad, good, 401)):
        request = door.build_request("GET", "/v1/feedback")
        del request.headers["authorization"]
        request.headers = type(request.headers)(
            [*request.headers.raw, (b"Authorization", first.encode()), (b"Authorization", second.encode())]
        )
        assert (await door.send(request)).status_code == status


@pytest.mark.parametrize("name", ["Accept", "Content-Type", "traceparent"])
async def test_a_header_beyond_ascii_is_left_out(open_door, behind, name):
    door = await open_door(**urls(behind))
    assert (await door.get("/v1/feedback", headers={name: b"\xe4\xff"})).status_code == 200
    assert name.lower() not in behind.asked[-1][2]


async def test_only_known_headers_reach_a_service(open_door, behind):
    door = await open_door(**urls(behind))
    forged = {"X-Forwarded-For": "10.0.0.1", "X-Tenant": "globex", "Cookie": "a=b", "Forwarded": "for=10.0.0.1"}
    await door.get("/v1/feedback", headers=forged)
    headers = behind.asked[-1][2]
    assert headers.keys() <= {
        "host",
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "user-agent",
        "content-length",
    }
    assert headers["host"] == behind.url.removeprefix("http://")
    assert "tp_" not in str(headers)
