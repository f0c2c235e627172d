"""gzip, ETag and CORS at the door."""

import gzip

import pytest
from starlette.responses import JSONResponse

from gateway.config import Settings

LONG = {"items": [{"text": f"Delivery took {number} weeks."} for number in range(200)]}
ORIGIN = "https://app.example.com"


@pytest.fixture
async def door(open_door, behind):
    behind.answer = lambda _: JSONResponse(LONG)
    return await open_door(feedback_url=behind.url, escalation_url=behind.url, cors_origins=[ORIGIN])


async def raw(door, path, **headers):
    """An answer, and its body as it was sent: still packed if it was packed."""
    async with door.stream("GET", path, headers={"Accept-Encoding": "", **headers}) as answer:
        return answer, b"".join([part async for part in answer.aiter_raw()])


@pytest.mark.parametrize("accepted", ["gzip", "gzip, br", "deflate, gzip;q=0.5", "*", "GZIP", "br;q=1, *;q=0.1"])
async def test_a_long_answer_is_gzipped_for_a_client_that_accepts_gzip(door, accepted):
    plain, whole = await raw(door, "/v1/feedback")
    answer, body = await raw(door, "/v1/feedback", **{"Accept-Encoding": accepted})
    assert answer.headers["content-encoding"] == "gzip"
    assert int(answer.headers["content-length"]) == len(body) < len(whole) / 4
    assert gzip.decompress(body) == whole
    assert "accept-encoding" in plain.headers["vary"]
    assert "accept-encoding" in answer.headers["vary"]


@pytest.mark.parametrize("accepted", ["", "identity", "br", "gzip;q=0", "gzip;q=0, *", "*;q=0", "gzip;q=x"])
async def test_an_answer_is_not_gzipped_for_a_client_that_does_not_accept_gzip(door, accepted):
    answer, body = await raw(door, "/v1/feedback", **{"Accept-Encoding": accepted})
    assert "content-encoding" not in answer.headers
    assert int(answer.headers["content-length"]) == len(body)


async def test_a_short_answer_is_not_gzipped(door, behind):
    behind.answer = lambda _: JSONResponse({"items": []})
    answer, _ = await raw(door, "/v1/feedback", **{"Accept-Encoding": "gzip"})
    assert "content-encoding" not in answer.headers


@pytest.mark.parametrize(
    "path", ["/v1/feedback/7f0e", "/v1/escalations/7f0e", "/openapi.json", "http://admin/v1/ops/openapi.json"]
)
async def test_an_unchanged_single_resource_is_304_if_the_client_sends_its_etag(door, behind, path):
    first, _ = await raw(door, path)
    tag = first.headers["etag"]
    for known in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
        answer, body = await raw(door, path, **{"If-None-Match": known, "Accept-Encoding": "gzip"})
        assert (answer.status_code, body) == (304, b"")
        assert answer.headers["etag"] == tag
        assert "content-length" not in answer.headers
    behind.answer = lambda _: JSONResponse(LONG | {"changed": True})
    if "openapi" not in path:
        changed, _ = await raw(door, path, **{"If-None-Match": tag})
        assert changed.status_code == 200
        assert changed.headers["etag"] != tag


async def test_a_404_has_no_etag(door, behind):
    behind.answer = lambda _: JSONResponse({"type": "x", "title": "x", "status": 404}, 404)
    answer, _ = await raw(door, "/v1/feedback/7f0e", **{"If-None-Match": "*"})
    assert answer.status_code == 404
    assert "etag" not in answer.headers


async def test_a_cors_preflight_from_an_allowed_origin_needs_no_key(door):
    wanted = {"Origin": ORIGIN, "Access-Control-Request-Method": "POST"}
    wanted |= {"Access-Control-Request-Headers": "authorization,content-type,ce-id,idempotency-key"}
    answer = await door.options("/v1/feedback", headers=wanted | {"Authorization": ""})
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert {"authorization", "ce-id"} <= set(answer.headers["access-control-allow-headers"].replace(" ", "").split(","))
    assert "access-control-allow-credentials" not in answer.headers


@pytest.mark.parametrize("path", ["/v1/feedback", "/v1/feedback/7f0e", "/v1/nothing"])
async def test_an_allowed_origin_may_read_every_answer_and_its_exposed_headers(door, path):
    for key in ({}, {"Authorization": "Bearer no"}):
        answer = await door.get(path, headers={"Origin": ORIGIN, **key})
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        exposed = answer.headers["access-control-expose-headers"].lower()
        assert all(name in exposed for name in ("ratelimit", "retry-after", "location", "etag"))
        assert "origin" in answer.headers["vary"].lower()


async def test_an_origin_that_is_not_allowed_gets_no_cors_headers(door):
    wanted = {"Origin": "https://evil.example", "Access-Control-Request-Method": "GET"}
    assert (await door.options("/v1/feedback", headers=wanted)).status_code == 400
    answer = await door.get("/v1/feedback", headers={"Origin": "https://evil.example"})
    assert "access-control-allow-origin" not in answer.headers


async def test_with_an_asterisk_every_origin_is_allowed_but_no_credentials(open_door, behind):
    door = await open_door(feedback_url=behind.url, cors_origins=["*"])
    answer = await door.get("/v1/feedback", headers={"Origin": "https://any.example"})
    assert answer.headers["access-control-allow-origin"] == "*"
    assert "access-control-allow-credentials" not in answer.headers


async def test_without_cors_origins_no_origin_is_allowed(open_door, behind):
    door = await open_door(feedback_url=behind.url)
    wanted = {"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
    assert (await door.options("/v1/feedback", headers=wanted)).status_code == 405
    assert "access-control-allow-origin" not in (await door.get("/v1/feedback", headers={"Origin": ORIGIN})).headers


@pytest.mark.parametrize(
    "origin", ["app.example.com", "https://app.example.com/", "https://app.example.com/x", "ftp://a"]
)
def test_a_setting_that_is_not_an_origin_is_refused(origin):
    with pytest.raises(ValueError, match="origin"):
        Settings(database_url="postgresql:///unused", internal_token_secrets=["unused" * 6], cors_origins=[origin])
