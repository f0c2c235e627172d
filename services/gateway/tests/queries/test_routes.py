"""The options of a route to a service: methods, conditional requests, limits of its own, public access."""

import asyncio
import json

import pytest
from starlette.responses import JSONResponse, Response

from gateway.queries import slots
from gateway.queries.routes import PUBLIC_BODY_BYTES, ServiceRoute
from gateway.queries.service import FEEDBACK
from touchpoint.http.identity import PUBLIC, verify
from touchpoint.http.scopes import Scope
from touchpoint.testing import eventually

READ, WRITE = Scope.ESCALATIONS_READ, Scope.ESCALATIONS_WRITE
THING = "/v1/things/{thing_id}"
ROUTES = (
    ServiceRoute("GET", THING, FEEDBACK, READ),
    ServiceRoute("POST", THING, FEEDBACK, WRITE),
    ServiceRoute("PUT", THING, FEEDBACK, WRITE),
    ServiceRoute("PATCH", THING, FEEDBACK, WRITE),
    ServiceRoute("DELETE", THING, FEEDBACK, WRITE),
    ServiceRoute("PUT", "/v1/files/{name}", FEEDBACK, WRITE, body_bytes=1_000_000),
    ServiceRoute("GET", "/v1/slow", FEEDBACK, READ, seconds=0.1),
    ServiceRoute("GET", "/v1/rare", FEEDBACK, READ, at_once=2),
    ServiceRoute("GET", "/v1/pages/{tenant}/{page}", FEEDBACK, public=True),
    ServiceRoute("POST", "/v1/pages/{tenant}/{page}", FEEDBACK, public=True),
)
UNSAFE = ["POST", "PUT", "PATCH", "DELETE"]


@pytest.fixture
def kafka(servers):
    """Kafka without topics of this test: these routes use none."""
    return servers.kafka


@pytest.fixture
async def start(open_door, behind):
    async def start(**over):
        return await open_door(routes=ROUTES, feedback_url=behind.url, **over)

    return start


@pytest.fixture
async def door(start):
    return await start()


@pytest.mark.parametrize("method", UNSAFE)
async def test_every_method_reaches_the_service_with_its_body(door, behind, method):
    behind.answer = lambda _: JSONResponse({"done": True}, 201)
    body, headers = b'{"a": 1}', {"Content-Type": "application/merge-patch+json"}
    answer = await door.request(method, "/v1/things/1?dry=yes", content=body, headers=headers)
    assert (answer.status_code, answer.json()) == (201, {"done": True})
    [(asked, path, sent, received)] = behind.asked
    assert (asked, path, received) == (method, b"/v1/things/1?dry=yes", body)
    assert sent["content-type"] == "application/merge-patch+json"


async def test_head_is_answered_like_get_but_without_a_body(door, behind):
    behind.answer = lambda _: JSONResponse({"a": 1}, headers={"ETag": '"7"'})
    answer = await door.head("/v1/things/1")
    assert (answer.status_code, answer.headers["etag"], answer.headers["content-length"]) == (200, '"7"', "7")


async def test_conditions_and_preferences_in_request_headers_reach_the_service(door, behind):
    given = {
        "If-Match": '"6"',
        "If-None-Match": '"5", W/"4"',
        "Prefer": "return=minimal",
        "Accept": "text/csv",
        "Last-Event-ID": "17",
        "traceparent": f"00-{1:032x}-{2:016x}-01",
    }
    await door.put("/v1/things/1", content=b"{}", headers=given)
    sent = behind.asked[0][2]
    assert {name: sent[name.lower()] for name in given} == given


async def test_known_headers_of_an_answer_reach_the_client_and_others_do_not(door, behind):
    given = {
        "ETag": '"7"',
        "Location": "../things/2",
        "Preference-Applied": "return=minimal",
        "Content-Type": "text/csv; charset=utf-8",
        "Content-Disposition": "attachment; filename=\"a\"; filename*=UTF-8''%C3%A4",
        "Retry-After": "3",
        "Last-Modified": "Mon, 30 Nov 2026 10:00:00 GMT",
        "Allow": "GET, PUT",
    }
    behind.answer = lambda _: Response(b"a;b", 201, given | {"X-Internal": "secret"})
    answer = await door.post("/v1/things/1")
    assert {name: answer.headers[name] for name in given} == given
    assert "x-internal" not in answer.headers


async def test_the_services_412_for_an_outdated_if_match_is_passed_on(door, behind):
    def answer(request):
        if request.headers.get("if-match") != '"7"':
            return JSONResponse({"type": "urn:touchpoint:problem:changed-meanwhile"}, 412)
        return Response(status_code=204, headers={"ETag": '"8"'})

    behind.answer = answer
    refused = await door.put("/v1/things/1", content=b"{}", headers={"If-Match": '"6"'})
    assert (refused.status_code, refused.json()) == (412, {"type": "urn:touchpoint:problem:changed-meanwhile"})
    taken = await door.put("/v1/things/1", content=b"{}", headers={"If-Match": '"7"'})
    assert (taken.status_code, taken.headers["etag"], taken.content) == (204, '"8"', b"")


async def test_a_services_own_etag_is_passed_on_and_its_304_too(door, behind):
    long = {"text": "x" * 5000}
    behind.answer = lambda request: (
        Response(status_code=304, headers={"ETag": '"7"'})
        if request.headers.get("if-none-match") == '"7"'
        else JSONResponse(long, headers={"ETag": '"7"'})
    )
    answer = await door.get("/v1/things/1", headers={"Accept-Encoding": "gzip"})
    assert (answer.headers["etag"], answer.json()) == ('"7"', long)
    assert "content-encoding" not in answer.headers  # a strong ETag identifies exactly these bytes
    known = await door.get("/v1/things/1", headers={"If-None-Match": '"7"'})
    assert (known.status_code, known.headers["etag"], known.content) == (304, '"7"', b"")


async def test_an_answer_with_a_weak_etag_of_its_own_is_gzipped(door, behind):
    behind.answer = lambda _: JSONResponse({"text": "x" * 5000}, headers={"ETag": 'W/"7"'})
    answer = await door.get("/v1/things/1", headers={"Accept-Encoding": "gzip"})
    assert (answer.headers["etag"], answer.headers["content-encoding"]) == ('W/"7"', "gzip")


async def test_without_an_etag_of_the_service_the_gateway_makes_a_weak_one(door, behind):
    behind.answer = lambda _: JSONResponse({"a": 1})
    etag = (await door.get("/v1/things/1")).headers["etag"]
    assert etag.startswith('W/"')
    assert (await door.get("/v1/things/1", headers={"If-None-Match": etag})).status_code == 304


@pytest.mark.parametrize("method", UNSAFE)
async def test_a_request_under_an_idempotency_key_is_executed_once_and_answered_alike(door, behind, method):
    behind.answer = lambda _: JSONResponse(
        {"n": len(behind.asked)}, 201, {"Location": f"/v1/things/{len(behind.asked)}", "ETag": '"1"'}
    )
    key = {"Idempotency-Key": f'"{method}-1"'}
    first, again = [await door.request(method, "/v1/things/1", content=b"{}", headers=key) for _ in range(2)]
    assert len(behind.asked) == 1
    for answer in (first, again):
        assert (answer.status_code, answer.json()) == (201, {"n": 1})
        assert (answer.headers["location"], answer.headers["etag"]) == ("/v1/things/1", '"1"')


async def test_an_answer_without_a_body_is_stored_under_its_idempotency_key_too(door, behind):
    behind.answer = lambda _: Response(status_code=204)
    for _ in range(2):
        answer = await door.delete("/v1/things/1", headers={"Idempotency-Key": "gone"})
        assert (answer.status_code, answer.content) == (204, b"")
        assert "content-type" not in answer.headers
    assert len(behind.asked) == 1


async def test_a_route_can_have_its_own_limit_of_body_bytes(door, behind):
    assert (await door.put("/v1/files/a", content=b"x" * 1_000_000)).status_code == 200
    refused = await door.put("/v1/files/a", content=b"x" * 1_000_001)
    assert (refused.status_code, refused.json()["detail"]) == (413, "The body may have 1,000,000 bytes, unpacked.")
    assert len(behind.asked) == 1


async def test_a_route_can_have_its_own_timeout(door, behind):
    async def never(scope, receive, send):
        await asyncio.Event().wait()

    behind.answer = lambda _: never
    answer = await door.get("/v1/slow")
    assert (answer.status_code, answer.json()["type"]) == (504, "urn:touchpoint:problem:service-too-slow")


async def test_a_route_with_its_own_slots_does_not_use_those_of_the_service(door, behind, monkeypatch):
    monkeypatch.setattr(slots, "WAIT_SECONDS", 0.05)
    released = behind.hold("/v1/rare")
    first = asyncio.create_task(door.get("/v1/rare"))
    await eventually(lambda: behind.asked)
    refused = await door.get("/v1/rare")
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:touchpoint:problem:too-many-questions")
    assert (await door.get("/v1/things/1")).status_code == 200
    released.set()
    assert (await first).status_code == 200


async def test_a_public_route_needs_no_key_and_its_token_has_no_tenant(door, behind, secret):
    for headers in ({"Authorization": ""}, {"Authorization": "Bearer tp_made_up"}, {}):
        assert (await door.get("/v1/pages/acme/nps", headers=headers)).status_code == 200
    callers = [
        verify(sent["authorization"].removeprefix("Bearer "), FEEDBACK, [secret]) for _, _, sent, _ in behind.asked
    ]
    assert callers == [PUBLIC] * 3
    assert [path for _, path, _, _ in behind.asked] == [b"/v1/pages/acme/nps"] * 3


async def test_the_body_of_a_public_request_has_a_smaller_limit(door, behind):
    assert (await door.post("/v1/pages/acme/nps", content=b"x" * PUBLIC_BODY_BYTES)).status_code == 200
    assert (await door.post("/v1/pages/acme/nps", content=b"x" * (PUBLIC_BODY_BYTES + 1))).status_code == 413
    assert len(behind.asked) == 1


async def test_a_public_route_takes_no_idempotency_key(door, behind):
    answer = await door.post("/v1/pages/acme/nps", headers={"Idempotency-Key": "k"})
    assert (answer.status_code, answer.json()["type"]) == (400, "urn:touchpoint:problem:idempotency-key-not-taken")
    assert behind.asked == []


async def test_a_client_address_has_limits_of_its_own(start, behind):
    door = await start(public_requests_per_second=1, burst_seconds=3, client_address_header="X-Forwarded-For")

    async def ask(address):
        return await door.get("/v1/pages/acme/nps", headers={"X-Forwarded-For": f"10.9.9.9, {address}"})

    assert [(await ask("192.0.2.1")).status_code for _ in range(4)] == [200, 200, 200, 429]
    refused = await ask("192.0.2.1")
    assert (refused.status_code, refused.json()["type"]) == (429, "urn:touchpoint:problem:rate-limited")
    assert "This client address may do 1 requests a second, 3 at once." in refused.json()["detail"]
    assert refused.headers["retry-after"]
    assert (await ask("192.0.2.2")).status_code == 200
    assert (await door.get("/v1/things/1")).status_code == 200


async def test_ipv6_addresses_of_the_same_64_bit_network_share_a_limit(start):
    door = await start(public_requests_per_second=1, burst_seconds=1, client_address_header="X-Real-IP")
    addresses = ("2001:db8:1:1::1", "2001:db8:1:1::2", "2001:db8:1:2::1")
    answers = [await door.get("/v1/pages/acme/nps", headers={"X-Real-IP": address}) for address in addresses]
    assert [answer.status_code for answer in answers] == [200, 429, 200]


async def test_concurrent_public_requests_of_a_client_address_are_limited(start, behind, monkeypatch):
    monkeypatch.setattr(slots, "WAIT_SECONDS", 0.05)
    door, goes_on = await start(public_at_once=1), asyncio.Event()

    async def later(scope, receive, send):
        await goes_on.wait()
        await Response(b"{}")(scope, receive, send)

    behind.answer = lambda _: later
    first = asyncio.create_task(door.get("/v1/pages/acme/nps"))
    await eventually(lambda: behind.asked)
    assert (await door.get("/v1/pages/acme/nps")).status_code == 429
    goes_on.set()
    assert (await first).status_code == 200


def test_a_route_that_is_neither_public_nor_has_a_scope_cannot_be_made():
    with pytest.raises(ValueError, match="GET /v1/x: name either a scope or public=True"):
        ServiceRoute("GET", "/v1/x", FEEDBACK)
    with pytest.raises(ValueError, match="either"):
        ServiceRoute("GET", "/v1/x", FEEDBACK, READ, public=True)


@pytest.mark.parametrize("method", ["GET", *UNSAFE])
async def test_pages_of_allowed_origins_may_use_every_method(start, method):
    door = await start(cors_origins=["https://app.example.com"])
    asked = {"Access-Control-Request-Method": method, "Access-Control-Request-Headers": "if-match,idempotency-key"}
    answer = await door.options("/v1/things/1", headers={"Origin": "https://app.example.com", **asked})
    assert answer.status_code == 200
    assert method in answer.headers["access-control-allow-methods"]
    assert answer.headers["access-control-allow-headers"] == "if-match,idempotency-key"


async def test_pages_of_allowed_origins_may_read_the_headers_of_an_answer(start):
    door = await start(cors_origins=["https://app.example.com"])
    answer = await door.get("/v1/things/1", headers={"Origin": "https://app.example.com"})
    exposed = set(answer.headers["access-control-expose-headers"].split(", "))
    assert exposed >= {"ETag", "Location", "Preference-Applied", "Content-Disposition", "Allow", "Retry-After"}


async def test_a_method_without_a_route_is_405_and_allow_names_the_others(door):
    answer = await door.post("/v1/slow")
    assert (answer.status_code, answer.headers["allow"]) == (405, "GET, HEAD")
    assert json.loads(answer.content)["type"] == "urn:touchpoint:problem:method-not-allowed"
