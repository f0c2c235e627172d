"""Request bodies: gzip, size limits, the memory limit for all bodies at once, and hostile JSON."""

import asyncio
import gzip
import json
import zlib
from contextlib import suppress
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY as METRICS

from gateway.door import gzip as unpacking
from gateway.door import requests
from gateway.door.gzip import PIECE_BYTES, Unpacker
from gateway.door.requests import BODIES, TENANT, Bodies, read_body
from gateway.ingest.api import MAX_BATCH_BYTES
from touchpoint.base import time_slice
from touchpoint.http.errors import ProblemError
from touchpoint.testing import eventually, others

FEEDBACK = {"kind": "nps", "channel": "email", "customer_id": "C-1", "score": {"value": 3, "min": 0, "max": 10}}
EVENT = {"specversion": "1.0", "id": "e-1", "source": "/crm", "type": "feedback.submitted", "data": FEEDBACK}
RAW = json.dumps(EVENT).encode()
ONE, MANY = "application/cloudevents+json", "application/cloudevents-batch+json"


async def post(door, body, media_type=ONE, path="/v1/events", **headers):
    return await door.post(path, content=body, headers={"Content-Type": media_type, **headers})


def packed(door, body, encoding="gzip", **kwargs):
    return post(door, body, **kwargs, **{"Content-Encoding": encoding})


def problem(answer):
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].removeprefix("urn:touchpoint:problem:")


def too_large():
    return ProblemError(413, "too-large", "It is too large.")


async def read(parts, limit=10_000, bodies=None, encoding=None, tenant="acme"):
    """Read a body that arrives in these parts."""
    messages = [{"type": "http.request", "body": part, "more_body": True} for part in parts]
    messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive():
        return messages.pop(0)

    headers = [] if encoding is None else [(b"content-encoding", encoding)]
    scope = {"headers": headers, BODIES: bodies or Bodies(1_000_000), TENANT: tenant}
    return await read_body(scope, receive, limit, too_large)


@pytest.mark.parametrize("encoding", ["gzip", "x-gzip", "GZip", "identity, gzip"])
async def test_a_gzipped_event_is_written_to_the_log_unpacked(door, log, encoding):
    assert (await packed(door, gzip.compress(RAW), encoding)).status_code == 202
    [record] = await log()
    assert json.loads(record.value) == FEEDBACK


async def test_batches_and_plain_feedback_may_be_gzipped_too(door, log):
    many = json.dumps([EVENT | {"id": f"e-{n}"} for n in range(2000)]).encode()
    answer = await packed(door, gzip.compress(many), media_type=MANY)
    assert len(answer.json()["accepted"]) == 2000
    plain = gzip.compress(json.dumps(FEEDBACK).encode())
    assert (await packed(door, plain, path="/v1/feedback", media_type="application/json")).status_code == 202
    assert len(await log()) == 2001


@pytest.mark.parametrize("encoding", ["br", "deflate", "zstd", "gzip, gzip", "gzip, br"])
async def test_another_content_encoding_is_415_and_the_answer_names_those_accepted(door, encoding):
    answer = await packed(door, RAW, encoding)
    assert problem(answer) == (415, "unsupported-content-encoding")
    assert answer.headers["accept-encoding"] == "gzip, identity"


@pytest.mark.parametrize(
    "body",
    [
        RAW,
        b"",
        gzip.compress(RAW)[:-1],
        gzip.compress(RAW)[:30],
        gzip.compress(RAW) + b"\0",
        gzip.compress(RAW) + b"and more",
        gzip.compress(RAW)[:-8] + b"\0" * 8,
        zlib.compress(RAW),
        gzip.compress(b"") * 1001,
    ],
    ids=["plain", "empty", "cut", "cut early", "padded", "trailing", "wrong sum", "zlib", "too many members"],
)
async def test_a_body_that_is_not_valid_gzip_is_400(door, log, body):
    assert problem(await packed(door, body)) == (400, "malformed-gzip")
    assert await log() == []


async def test_several_gzip_members_are_one_body(door):
    body = gzip.compress(RAW[:50]) + gzip.compress(b"") + gzip.compress(RAW[50:])
    assert (await packed(door, body)).status_code == 202


@pytest.mark.parametrize(("media_type", "limit"), [(ONE, 262_144), (MANY, MAX_BATCH_BYTES)])
async def test_a_gzip_bomb_is_unpacked_no_further_than_the_limit(door, monkeypatch, media_type, limit):
    unpacked = []
    unpack = Unpacker.unpack

    def counting(self, data):
        for piece in unpack(self, data):
            unpacked.append(len(piece))
            yield piece

    monkeypatch.setattr(unpacking.Unpacker, "unpack", counting)
    bomb = gzip.compress(b" " * 100_000_000)
    answer = await packed(door, bomb, media_type=media_type)
    assert answer.status_code == 413
    assert limit < sum(unpacked) <= limit + PIECE_BYTES


async def test_unpacking_a_body_lets_other_tasks_run():
    size = 20 * PIECE_BYTES
    async with others() as counted:
        body = await read([gzip.compress(b" " * size)], size, Bodies(2 * size), b"gzip")
    assert len(body) == size
    assert counted["iterations"] >= 20


@given(st.lists(st.binary(max_size=2000), max_size=4), st.lists(st.integers(0, 8000), max_size=5))
async def test_a_gzipped_body_is_read_the_same_however_it_is_split_into_parts(members, cuts):
    whole = b"".join(gzip.compress(member) for member in members) or gzip.compress(b"")
    places = sorted({0, len(whole), *(cut for cut in cuts if cut < len(whole))})
    parts = [whole[start:end] for start, end in pairwise(places)]
    assert await read(parts, encoding=b"gzip") == b"".join(members)


@given(st.binary(max_size=300))
async def test_any_bytes_are_unpacked_or_refused_with_a_problem(body):
    with suppress(ProblemError):
        await read([body], encoding=b"gzip")


async def test_the_limit_applies_to_the_packed_bytes_too():
    with pytest.raises(ProblemError, match="too large"):
        await read([gzip.compress(b"")] * 100, limit=1000, encoding=b"gzip")


async def test_large_bodies_share_a_budget_until_they_are_answered():
    bodies, parts = Bodies(120_000), [b"x" * 30_000, b"x" * 30_000]
    scope = {"headers": [], BODIES: bodies, TENANT: "acme"}

    async def large():
        return {"type": "http.request", "body": b"x" * 60_000}

    async def refused(tenant):
        with pytest.raises(ProblemError) as caught:
            await read(parts, 100_000, bodies, tenant=tenant)
        return caught.value.problem.status, caught.value.headers

    await read_body(scope, large, 100_000, too_large)
    assert await refused("acme") == (503, {"Retry-After": "1"}), "one tenant has half of it"
    assert len(await read(parts, 100_000, bodies, tenant="globex")) == 60_000
    assert await refused("initech") == (503, {"Retry-After": "1"})
    bodies.release(scope)
    assert len(await read(parts, 100_000, bodies, tenant="initech")) == 60_000


async def test_a_small_body_in_one_message_is_read_however_many_large_ones_there_are():
    async def small():
        return {"type": "http.request", "body": b"x" * requests.SMALL_BYTES}

    assert len(await read_body({"headers": [], BODIES: Bodies(0)}, small, 100_000, too_large)) == requests.SMALL_BYTES


async def test_too_many_large_bodies_at_once_are_503_and_their_memory_is_released(open_door, issue, log):
    door = await open_door(body_bytes=32 * 1024 * 1024)
    go = asyncio.Event()

    async def slow():
        for _ in range(7):
            yield b" " * 1024 * 1024
        await go.wait()
        yield b"[" + RAW + b"]"

    def held():
        return METRICS.get_sample_value("touchpoint_gateway_body_bytes")

    waiting = [asyncio.create_task(post(door, slow(), MANY)) for _ in range(2)]
    await eventually(lambda: held() == 14 * 1024 * 1024)
    large = b"[" + RAW + b"]" + b" " * 3 * 1024 * 1024
    refused = await post(door, large, MANY)
    assert problem(refused) == (503, "too-many-bodies")
    assert refused.headers["retry-after"] == "1"
    others = {"Authorization": f"Bearer {await issue('globex')}"}
    assert (await door.post("/v1/events", content=large, headers={"Content-Type": MANY, **others})).status_code == 202
    assert (await post(door, RAW)).status_code == 202
    go.set()
    assert [answer.status_code for answer in await asyncio.gather(*waiting)] == [202, 202]
    assert held() == 0


DEEP = 100_000


def event(data: bytes, more: bytes = b"") -> bytes:
    return RAW.replace(json.dumps(FEEDBACK).encode(), data)[:-1] + more + b"}"


def data(more: bytes) -> bytes:
    return json.dumps(FEEDBACK).encode()[:-1] + b"," + more + b"}"


HURTFUL = {
    "deep data": event(b"[" * DEEP + b"]" * DEEP),
    "deep data without an end": event(b'{"a":' * 40_000),
    "deep in an unknown field": event(data(b'"x":' + b"[" * 300 + b"]" * 300)),
    "deep in an attribute": event(b"{}", b',"x":' + b"[" * DEEP + b"]" * DEEP),
    "deep in Base64": RAW.replace(b'"data": {', b'"data_base64": "W1tb","x": {'),
    "exponent": event(data(b'"score":{"value":1e999999,"min":0,"max":10}')),
    "many digits": event(data(b'"score":{"value":' + b"9" * 200_000 + b',"min":0,"max":10}')),
    "many digits in an attribute": event(b"{}", b',"x":' + b"9" * 200_000),
    "exponent in an attribute": event(b"{}", b',"x":1e999999'),
    "NaN": event(data(b'"score":{"value":NaN,"min":0,"max":10}')),
    "Infinity": event(data(b'"score":{"value":-Infinity,"min":0,"max":10}')),
    "byte order mark": b"\xef\xbb\xbf" + RAW,
    "UTF-16": RAW.decode().encode("utf-16"),
    "Latin-1": event(data('"text":"ä"'.encode("latin-1"))),
    "overlong UTF-8": event(data(b'"text":"\xc0\x80"')),
    "surrogate in UTF-8": event(data(b'"text":"\xed\xa0\x80"')),
    "half a pair": event(data(rb'"text":"\ud83d"')),
    "other half of a pair": event(data(rb'"text":"\ude00"')),
    "half a pair in an attribute": event(b"{}", rb',"x":"\ud83d"'),
    "NUL": event(data(rb'"text":"\u0000"')),
    "raw control character": event(data(b'"text":"\x01"')),
    "many members": event(b"{}", b"".join(b',"x%d":{}' % n for n in range(20_000))),
    "many members of the data": event(data(b",".join(b'"x%d":1' % n for n in range(15_000)))),
    "long name": event(data(b'"' + b"x" * 200_000 + b'":1')),
    "nothing": b"",
    "blanks": b" " * 1000,
    "two events": RAW + RAW,
    "comment": RAW + b"//",
    "trailing comma": RAW[:-1] + b",}",
}


@pytest.mark.parametrize("name", HURTFUL)
async def test_hostile_json_is_refused_with_a_short_problem(door, log, name):
    alone = await post(door, HURTFUL[name])
    assert alone.status_code in (400, 422), alone.text
    assert problem(alone)[1] in ("malformed-json", "validation-failed")
    assert len(alone.content) < 10_000

    in_batch = await post(door, b"[" + RAW + b"," + HURTFUL[name] + b"]", MANY)
    assert in_batch.status_code in (207, 400), in_batch.text
    accepted = 1 if in_batch.status_code == 207 else 0

    plain = await post(door, HURTFUL[name], "application/json", "/v1/feedback")
    assert plain.status_code in (400, 422), plain.text
    assert len(await log()) == accepted


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (HURTFUL["half a pair"], "surrogate pair"),
        (HURTFUL["deep in an attribute"], "nested too deeply"),
        (HURTFUL["many members"], "may have 100 members, not 20005"),
        (HURTFUL["many members of the data"], "has 15000 errors, too many to name"),
    ],
)
async def test_the_problem_of_hostile_json_names_the_reason(door, raw, reason):
    assert reason in (await post(door, raw)).text


async def test_a_complete_surrogate_pair_is_one_character(door, log):
    assert (await post(door, event(data(rb'"text":"\ud83d\ude00"')))).status_code == 202
    assert json.loads((await log())[0].value)["text"] == "😀"


async def test_of_a_member_given_twice_the_gateway_and_readers_of_the_log_take_the_last(door, log):
    twice = event(data(b'"customer_id":"C-2"'), b',"id":"e-2"')
    answer = await post(door, twice)
    assert answer.json()["id"] == "e-2"
    [record] = await log()
    assert record.key == b"acme:C-2"
    assert json.loads(record.value)["customer_id"] == "C-2"


async def test_a_batch_of_millions_of_items_is_413(door):
    body = b"[" + b"0," * (MAX_BATCH_BYTES // 2 - 2) + b"0]"
    assert problem(await post(door, body, MANY)) == (413, "batch-too-large")
    exactly = b"[" + b",".join([b'"' + b"," * 1000 + b'"'] * 5000) + b"]"
    assert problem(await post(door, exactly, MANY)) == (422, "batch-refused")


async def test_a_batch_in_which_everything_is_wrong_gets_an_answer_of_bounded_size(door):
    wrong = b"{" + b",".join(b'"a%d":{}' % n for n in range(90)) + b"}"
    answer = await post(door, b"[" + b",".join([wrong] * 5000) + b"]", MANY)
    assert answer.status_code == 422
    refused = answer.json()["refused"]
    assert len(refused) == 5000
    assert [len(item["problem"]["errors"]) for item in refused] == [20] * 100 + [1] * 4900
    assert len(answer.content) < 2_000_000


async def test_processing_a_batch_lets_other_tasks_run(door, monkeypatch):
    monkeypatch.setattr(time_slice, "SLICE_SECONDS", 0)
    async with others() as counted:
        assert (await post(door, json.dumps([{"id": str(n)} for n in range(500)]).encode(), MANY)).status_code == 422
    assert counted["iterations"] >= 1000
