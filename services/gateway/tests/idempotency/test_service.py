"""`Idempotency-Key`: a request is executed once and answered alike, by several gateways and despite failures."""

import asyncio
import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import text
from starlette.responses import JSONResponse

from gateway.door.service import Answer
from gateway.idempotency import service as idempotency
from gateway.idempotency.service import Idempotency, Key, key_of
from touchpoint.db.engine import create_engine, transaction
from touchpoint.db.roles import api_role
from touchpoint.http.errors import ProblemError
from touchpoint.http.scopes import Scope
from touchpoint.kafka.producer import NotAcknowledgedError, Producer
from touchpoint.testing import eventually

DONE = Answer(201, {"content-type": "application/json"}, b'{"n":1}')
KEY = Key("acme", "k-1", b"request")
OTHER = KEY._replace(fingerprint=b"another request")
UUID = "0190a5f2-0000-7000-8000-000000000000"


def request(*headers, method="POST", path=b"/v1/x", query=b""):
    return {"method": method, "raw_path": path, "query_string": query, "headers": headers}


def parsed(value):
    return key_of(request((b"idempotency-key", value.encode("latin-1"))), "acme", b"").value


@pytest.mark.parametrize(
    ("given", "value"),
    [
        (f'"{UUID}"', UUID), (UUID, UUID), ('"a b"', "a b"), (r'"a\"b\\c"', r'a"b\c'), ("4711", "4711"),
        ('"' + "x" * 255 + '"', "x" * 255),
    ],
)  # fmt: skip
def test_a_key_is_a_quoted_or_an_unquoted_string(given, value):
    assert parsed(given) == value


@pytest.mark.parametrize("given", ["", '""', '"a', "a b", '"a"; v=1', '"a", "b"', '"ä"', "ä", r'"a\b"', "x" * 256])
def test_any_other_key_is_400(given):
    with pytest.raises(ProblemError, match="1–255 printable ASCII") as caught:
        parsed(given)
    assert caught.value.problem.status == 400


def test_two_headers_with_a_key_are_refused_and_without_one_there_is_no_key():
    header = (b"idempotency-key", b"a")
    with pytest.raises(ProblemError):
        key_of(request(header, header), "acme", b"")
    assert key_of(request(), "acme", b"") is None


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255))
def test_every_printable_ascii_string_can_be_a_key(value):
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    assert parsed(f'"{escaped}"') == value


def test_a_fingerprint_depends_on_method_path_query_and_body():
    header = (b"idempotency-key", b"a")
    asked = [
        (request(header), b""), (request(header), b"{}"), (request(header, path=b"/v1/y"), b""),
        (request(header, query=b"a=1"), b""), (request(header, method="PATCH"), b""),
    ]  # fmt: skip
    assert len({key_of(scope, "acme", body).fingerprint for scope, body in asked}) == 5
    assert key_of(*asked[0][:1], "acme", b"") == key_of(request(header), "acme", b"")


@pytest.fixture
async def gateways(dsn):
    """The `Idempotency` of two gateways, on one database."""
    engines = [create_engine(dsn, "tests", role=api_role("gateway")) for _ in range(2)]
    yield [Idempotency(engine, 20) for engine in engines]
    for engine in engines:
        await engine.dispose()


@pytest.fixture
def change(sessions):
    """A function that executes a statement on the stored keys, for example to let a lease expire."""

    async def execute(statement):
        async with transaction(sessions) as session:
            return await session.execute(text(statement))

    return execute


class Act:
    """A fake execution of a request: counts calls, waits for `go_on`, then returns or raises the next of `endings`."""

    def __init__(self, *endings):
        self.endings = list(endings)
        self.times = 0
        self.go_on = asyncio.Event()
        self.go_on.set()

    async def __call__(self):
        self.times += 1
        await self.go_on.wait()
        ending = self.endings.pop(0) if self.endings else DONE
        if isinstance(ending, BaseException):
            raise ending
        return ending


async def refused(asked):
    with pytest.raises(ProblemError) as caught:
        await asked
    return caught.value.problem.status, caught.value.problem.type.rpartition(":")[2]


IN_PROGRESS = (409, "request-in-progress")
REUSED = (422, "idempotency-key-reused")


async def test_a_repeated_request_is_not_executed_again_and_gets_the_same_answer(gateways):
    act = Act()
    assert [await gateways[number % 2].once(KEY, act) for number in range(4)] == [DONE] * 4
    assert act.times == 1


async def test_without_a_key_every_request_is_executed(gateways):
    act = Act()
    assert [await gateways[0].once(None, act) for _ in range(3)] == [DONE] * 3
    assert act.times == 3


async def test_of_concurrent_requests_with_a_key_at_two_gateways_one_is_executed_and_the_others_409(gateways):
    act = Act()
    act.go_on.clear()
    asked = [asyncio.create_task(gateways[number % 2].once(KEY, act)) for number in range(10)]
    await eventually(lambda: sum(task.done() for task in asked) == 9)
    act.go_on.set()
    answers = await asyncio.gather(*asked, return_exceptions=True)
    assert [answer for answer in answers if isinstance(answer, Answer)] == [DONE]
    assert {error.problem.status for error in answers if isinstance(error, ProblemError)} == {409}
    assert act.times == 1
    assert await gateways[1].once(KEY, act) == DONE


async def test_a_key_is_422_for_another_request_while_the_first_is_executed_and_afterwards(gateways):
    act = Act()
    act.go_on.clear()
    first = asyncio.create_task(gateways[0].once(KEY, act))
    await eventually(lambda: act.times == 1)
    assert await refused(gateways[1].once(KEY, act)) == IN_PROGRESS
    assert await refused(gateways[1].once(OTHER, act)) == REUSED
    act.go_on.set()
    await first
    assert await refused(gateways[1].once(OTHER, act)) == REUSED
    assert act.times == 1


async def test_the_same_key_of_two_tenants_is_two_keys(gateways):
    act = Act(DONE, Answer(200, {"content-type": "text/plain"}, b"globex"))
    await gateways[0].once(KEY, act)
    answer = await gateways[0].once(KEY._replace(tenant="globex"), act)
    assert (answer.body, act.times) == (b"globex", 2)


@pytest.mark.parametrize("ending", [Answer(404, {}, b""), ProblemError(422, "validation-failed", "Wrong.")], ids=repr)
async def test_after_a_4xx_the_key_is_free_even_for_another_request(gateways, ending):
    act = Act(ending)
    with contextlib.suppress(ProblemError):
        assert (await gateways[0].once(KEY, act)).status == 404
    assert await gateways[1].once(OTHER, act) == DONE


@pytest.mark.parametrize(
    "ending",
    [Answer(503, {}, b""), ProblemError(504, "service-too-slow", "Slow."), OSError(), asyncio.CancelledError()],
    ids=repr,
)
async def test_after_an_unknown_outcome_the_key_is_free_only_for_the_same_request(gateways, ending):
    act = Act(ending)
    with contextlib.suppress(ProblemError, OSError, asyncio.CancelledError):
        assert (await gateways[0].once(KEY, act)).status == 503
    assert await refused(gateways[1].once(OTHER, act)) == REUSED
    assert await gateways[1].once(KEY, act) == DONE
    assert act.times == 2


async def test_a_key_is_free_after_its_lease_and_a_late_answer_does_not_overwrite_the_new_one(gateways, change):
    slow, act = Act(Answer(200, {}, b"late")), Act()
    slow.go_on.clear()
    first = asyncio.create_task(gateways[0].once(KEY, slow))
    await eventually(lambda: slow.times == 1)
    assert await refused(gateways[1].once(KEY, act)) == IN_PROGRESS

    await change("UPDATE idempotency_keys SET leased_until = now() - interval '1 s'")
    assert await refused(gateways[1].once(OTHER, act)) == REUSED
    assert await gateways[1].once(KEY, act) == DONE
    slow.go_on.set()
    assert (await first).body == b"late"
    assert await gateways[0].once(KEY, act) == DONE


async def test_a_lease_outlasts_the_longest_request_and_an_answer_is_kept_for_a_day(gateways, change):
    await gateways[0].once(KEY, Act())
    [row] = await change("SELECT leased_until - now(), expires_at - now() FROM idempotency_keys")
    assert 20 < row[0].total_seconds() <= 30
    assert 86_390 < row[1].total_seconds() <= 86_400


async def test_an_expired_key_can_be_used_again_and_is_deleted_for_every_tenant(gateways, change):
    for tenant in ("acme", "globex"):
        await gateways[0].once(KEY._replace(tenant=tenant), Act())
    await change("UPDATE idempotency_keys SET expires_at = now() - interval '1 s'")
    assert await gateways[0].once(OTHER, Act()) == DONE

    await gateways[0].forget()
    assert (await change("SELECT tenant_id FROM idempotency_keys")).scalars().all() == ["acme"]


async def test_without_the_database_a_request_is_503_unless_it_does_not_need_its_key():
    away = Idempotency(create_engine("postgresql://nobody@127.0.0.1:1/none", "tests"), 20)
    act = Act()
    assert await refused(away.once(KEY, act)) == (503, "idempotency-unavailable")
    assert act.times == 0
    assert await away.once(KEY, act, needed=False) == DONE


async def test_an_answer_that_cannot_be_stored_is_sent_nevertheless(gateways, change, monkeypatch):
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.1)
    act = Act()
    act.go_on.clear()
    asked = asyncio.create_task(gateways[0].once(KEY, act))
    await eventually(lambda: act.times == 1)
    await change("ALTER TABLE idempotency_keys RENAME TO gone")
    act.go_on.set()
    assert await asked == DONE


ACKNOWLEDGE = f"/v1/escalations/{UUID}/acknowledge"


async def test_a_command_under_a_key_reaches_its_service_once(open_door, behind):
    doors = [await open_door(escalation_url=behind.url) for _ in range(2)]
    numbers = iter(range(9))
    behind.answer = lambda _: JSONResponse({"n": next(numbers)})

    async def post(door, by, path=ACKNOWLEDGE, key='"k-1"'):
        return await door.post(path, json={"by": by}, headers={"Idempotency-Key": key})

    answers = [await post(door, "ann") for door in doors * 2]
    assert [(answer.status_code, answer.json()) for answer in answers] == [(200, {"n": 0})] * 4
    assert answers[3].headers["content-type"] == "application/json"
    assert len(behind.asked) == 1

    for answer in (await post(doors[0], "bob"), await post(doors[1], "ann", ACKNOWLEDGE.replace("f2", "f3"))):
        assert (answer.status_code, answer.json()["type"]) == (422, "urn:touchpoint:problem:idempotency-key-reused")
    malformed = await post(doors[0], "ann", key='"')
    assert (malformed.status_code, malformed.json()["type"]) == (
        400,
        "urn:touchpoint:problem:malformed-idempotency-key",
    )
    assert (await post(doors[0], "bob", key="k-2")).json() == {"n": 1}


async def test_a_command_in_progress_is_409_and_one_that_failed_can_be_sent_again(open_door, behind):
    door = await open_door(escalation_url=behind.url)
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def slow(scope, receive, send):
        begun.set()
        await go_on.wait()
        await JSONResponse({}, 503)(scope, receive, send)

    behind.answer = lambda _: slow
    headers = {"Idempotency-Key": UUID}
    first = asyncio.create_task(door.post(ACKNOWLEDGE, headers=headers))
    await begun.wait()
    second = await door.post(ACKNOWLEDGE, headers=headers)
    assert (second.status_code, second.headers["retry-after"]) == (409, "1")
    go_on.set()
    assert (await first).status_code == 503

    behind.answer = lambda _: JSONResponse({"state": "acknowledged"})
    assert (await door.post(ACKNOWLEDGE, headers=headers)).json() == {"state": "acknowledged"}


async def test_without_the_scope_a_stored_answer_is_not_shown(open_door, behind):
    door = await open_door(escalation_url=behind.url)
    await door.post(ACKNOWLEDGE, headers={"Idempotency-Key": "k"})
    reader = await open_door(scopes={Scope.ESCALATIONS_READ}, escalation_url=behind.url)
    assert (await reader.post(ACKNOWLEDGE, headers={"Idempotency-Key": "k"})).status_code == 403


FEEDBACK = {"kind": "text", "channel": "web", "text": "Fine."}


def feedback(door, key="f-1", **over):
    return door.post("/v1/feedback", json=FEEDBACK | over, headers={"Idempotency-Key": key})


async def test_feedback_repeated_under_a_key_is_one_event_and_gets_the_same_answer(open_door, log):
    doors = [await open_door() for _ in range(2)]
    answers = [await feedback(door) for door in doors * 2]
    assert {(answer.status_code, answer.text) for answer in answers} == {(202, answers[0].text)}
    assert len(await log()) == 1
    assert (await feedback(doors[0], text="Bad.")).status_code == 422
    assert (await feedback(doors[0], key="f-2")).json()["id"] != answers[0].json()["id"]
    assert (await feedback(doors[0], key="f-3", id="form-7")).json()["id"] == "form-7"
    assert (await feedback(doors[0], key='""')).status_code == 400


async def test_invalid_feedback_can_be_corrected_under_its_key(door):
    wrong = await feedback(door, kind="none")
    assert (wrong.status_code, wrong.json()["errors"][0]["field"]) == (422, "kind")
    assert (await feedback(door)).status_code == 202


async def test_feedback_retried_under_a_key_is_the_same_event_even_without_the_database(
    door, sessions, log, monkeypatch
):
    """The log then holds the event twice; the consumers' inbox applies it once, by its id."""
    monkeypatch.setattr(idempotency, "WAIT_SECONDS", 0.1)
    await door.post("/v1/feedback", json=FEEDBACK)
    async with transaction(sessions) as session:
        await session.execute(text("LOCK TABLE idempotency_keys IN ACCESS EXCLUSIVE MODE"))
        answers = [await feedback(door) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [202, 202]
    assert answers[0].json() == answers[1].json()
    first, second = [
        record for record in await log() if answers[0].json()["id"].encode() in dict(record.headers).values()
    ]
    assert first.value == second.value


async def test_feedback_that_kafka_has_not_acknowledged_can_be_sent_again(door, log, monkeypatch):
    async def nothing(self, records, _):
        return [NotAcknowledgedError("not sent")] * len(records)

    with monkeypatch.context() as patch:
        patch.setattr(Producer, "send_all", nothing)
        assert (await feedback(door)).status_code == 503
    assert (await feedback(door)).status_code == 202
    assert len(await log()) == 1


async def test_the_header_idempotency_key_is_ignored_for_events(door, log):
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "/crm",
        "type": "customer.updated",
        "data": {"customer_id": "C"},
    }
    headers = {"Content-Type": "application/cloudevents+json", "Idempotency-Key": '"'}
    for number in ("1", "2"):
        answer = await door.post("/v1/events", content=json.dumps(event | {"id": number}), headers=headers)
        assert answer.status_code == 202
    assert len(await log()) == 2
