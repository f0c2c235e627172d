"""The operators' routes of a service: the functions of the commands over HTTP, on the service's database and log."""

from functools import partial
from types import SimpleNamespace

import httpx
import pytest
from msgspec.structs import replace

from touchpoint.base.errors import PermanentError
from touchpoint.contracts.record import encode
from touchpoint.http import app as apps
from touchpoint.http.identity import Caller, sign
from touchpoint.http.scopes import OPERATORS, Scope
from touchpoint.operators import api as operators
from touchpoint.operators.replays import api as replays
from touchpoint.testing import eventually
from touchpoint.testing.api import SECRET
from touchpoint.testing.factories import feedback

NAME = "ledger-svc"
WHO = "key:3f9c02ab71de (night shift)"
FROM_THE_BEGINNING = [f"touchpoints.v1/{partition}/0" for partition in range(3)]


@pytest.fixture
async def ops(ledger, kafka):
    """A client of the ledger's operators' routes with a token as the gateway signs it for an operators' key."""
    settings = SimpleNamespace(internal_token_secrets=[SECRET], kafka=kafka)
    app = apps.create(NAME, settings, ledger.sessions.kw["bind"], operators.router, handlers=ledger.handlers)
    app.state.above_tenants = ledger.sessions
    token = sign(Caller("ops", OPERATORS, "3f9c02ab71de", "night shift"), NAME, SECRET)
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://service/v1/ops") as client:
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


@pytest.fixture
async def failed(log, ledger, consuming):
    """Three dead letters of two causes among six events: the handler refuses two, and one has broken data."""

    def refuse(events):
        if any(event.meta.id.startswith("bad") for event in events):
            raise PermanentError("no such segment")

    ledger.before = refuse
    broken = replace(encode(feedback(id="broken", customer_id="C-2")), value=b'{"customer_id": "C-2", "kind": 7}')
    fine = [feedback(id=f"fine-{n}", customer_id="C-1") for n in range(3)]
    bad = [feedback(id=f"bad-{n}", customer_id="C-1") for n in range(2)]
    await log.append(fine[0], bad[0], broken, bad[1], *fine[1:])
    async with consuming():
        await eventually(partial(_at, ledger, 6))


async def _at(ledger, offset):
    return (await ledger.next()).get(0) == offset


def items(answer):
    assert answer.status_code == 200, answer.text
    assert answer.json()["unanswered"] == []
    return answer.json()["items"]


def problem(answer):
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].removeprefix("urn:touchpoint:problem:")


async def trail(ops):
    return [(line["action"], line["who"], line["reason"]) for line in items(await ops.get("/audit"))]


async def test_a_consumer_is_listed_paused_and_resumed_with_an_audit_trail(failed, ledger, ops):
    [listed] = items(await ops.get("/consumers"))
    assert (listed["consumer"], listed["state"], listed["dead_letters"]) == (NAME, "running", 3)

    paused = await ops.post(f"/consumers/{NAME}/pause", json={"reason": "looking"})
    assert paused.json() == {"consumer": NAME, "before": "running", "state": "paused"}
    assert (await ledger.state()).state == "paused"

    resumed = await ops.post(f"/consumers/{NAME}/resume", json={"reason": "found it", "skip": 7})
    assert (resumed.json()["before"], (await ledger.state()).may_skip) == ("paused", 7)
    assert await trail(ops) == [("consumer.resume", WHO, "found it"), ("consumer.pause", WHO, "looking")]


async def test_a_consumer_with_lost_records_resumes_only_if_exactly_their_loss_is_accepted(failed, ledger, ops):
    await ledger.set_state("halted", "Kafka has lost records")
    await ledger.query(
        "INSERT INTO log_losses (consumer, topic, partition, first, until, resume_at, cluster_id, topic_id, why) "
        "VALUES (:name, 'touchpoints.v1', 0, 4, 6, 4, 'c', gen_random_uuid(), 'the log was cut')",
        name=NAME,
    )
    resume = f"/consumers/{NAME}/resume"
    refused = await ops.post(resume, json={"reason": "a disk broke"})
    assert problem(refused) == (409, "conflict")
    assert "touchpoints.v1/0/4-5" in refused.json()["detail"]
    other = await ops.post(resume, json={"reason": "a disk broke", "accept_loss": ["touchpoints.v1/0/4-4"]})
    assert problem(other) == (409, "conflict")
    assert (await ledger.state()).state == "halted"
    resumed = await ops.post(resume, json={"reason": "a disk broke", "accept_loss": ["touchpoints.v1/0/4-5"]})
    assert resumed.json()["state"] == "running"
    assert (await ledger.next())[0] == 4
    [line, *_] = items(await ops.get("/audit"))
    assert line["details"]["lost"][0]["first"] == 4


async def test_a_consumer_may_skip_unreadable_offsets_only_from_its_next_offset(failed, ledger, ops):
    first, resume = (await ledger.next())[0], f"/consumers/{NAME}/resume"
    await ledger.set_state("halted", "cannot be read")
    elsewhere = await ops.post(resume, json={"reason": "OPS-7", "past": f"touchpoints.v1/0/{first + 1}-{first + 2}"})
    assert problem(elsewhere) == (409, "conflict")
    misspelt = await ops.post(resume, json={"reason": "OPS-7", "past": "touchpoints.v1"})
    assert misspelt.json()["errors"][0]["field"] == "past"
    assert (await ledger.state()).state == "halted"

    resumed = await ops.post(resume, json={"reason": "OPS-7", "past": f"touchpoints.v1/0/{first}-{first + 1}"})
    assert resumed.json()["state"] == "running"
    assert (await ledger.next())[0] == first + 2
    assert {action for action, *_ in await trail(ops)} == {"consumer.pass", "consumer.resume"}


async def test_dead_letters_are_counted_by_cause_listed_and_shown_with_their_neighbours(failed, ops):
    most, other = items(await ops.get("/dead-letters/stats"))
    assert (most["open"], most["reason"], other["stage"]) == (2, "no such segment", "validate")

    rows = items(await ops.get("/dead-letters", params={"customer": "C-1", "type": "feedback.submitted"}))
    assert sorted(item["offset"] for item in rows) == [1, 3]
    assert items(await ops.get("/dead-letters", params={"state": "discarded"})) == []
    assert items(await ops.get("/dead-letters", params={"until": "2026-01-01T00:00:00Z"})) == []

    shown = (await ops.get(f"/dead-letters/{NAME}/touchpoints.v1/0/3")).json()
    assert shown["dead_letter"] == rows[[item["offset"] for item in rows].index(3)]
    assert shown["event"]["headers"]["ce_id"] == "bad-1"
    assert [item["headers"]["ce_id"] for item in shown["neighbours"]] == ["fine-0", "bad-0", "fine-1", "fine-2"]


async def test_an_offset_without_a_dead_letter_is_shown_and_an_unknown_one_is_not_found(failed, ops):
    shown = (await ops.get(f"/dead-letters/{NAME}/touchpoints.v1/0/0")).json()
    assert (shown["dead_letter"], shown["event"]["headers"]["ce_id"]) == (None, "fine-0")
    for place in (f"{NAME}/touchpoints.v1/0/6", f"{NAME}/touchpoints.v1/9/0", f"{NAME}/other.v1/0/0", "x/y/0/0"):
        assert problem(await ops.get(f"/dead-letters/{place}")) == (404, "not-found")


async def test_a_dead_letter_is_shown_without_its_event_if_kafka_no_longer_has_it(failed, ledger, ops):
    await ledger.query('UPDATE dead_letters SET "offset" = 900 WHERE "offset" = 3')
    shown = (await ops.get(f"/dead-letters/{NAME}/touchpoints.v1/0/900")).json()
    assert (shown["dead_letter"]["offset"], shown["event"], shown["neighbours"]) == (900, None, [])


@pytest.mark.parametrize("path", ["/dead-letters", "/replays", "/audit"])
async def test_the_pages_of_a_list_are_complete_also_with_equal_times(failed, ledger, ops, path):
    """Some rows have equal times, as do the rows of one transaction."""
    copied = "consumer, topic, partition, n, stage, error, reason, fingerprint, now() - (n / 5) * interval '1 s'"
    await ledger.query(f"""
        INSERT INTO dead_letters (consumer, topic, partition, "offset", stage, error, reason, fingerprint, failed_at)
        SELECT {copied} FROM dead_letters, generate_series(100, 122) n WHERE "offset" = 1
    """)
    await ledger.query("""
        INSERT INTO audit (who, action, subject, at)
        SELECT 'ann', n::text, 'ledger-svc', now() - (n / 5) * interval '1 s' FROM generate_series(1, 26) n
    """)
    await ledger.query("""
        INSERT INTO replays (id, consumer, kind, filter, summary, plan_hash, cluster_id, planned_by, planned_at)
        SELECT gen_random_uuid(), 'ledger-svc', 'repair', '{}', '{}', '', '', 'ann', now() - (n / 5) * interval '1 s'
          FROM generate_series(1, 26) n
    """)
    whole = items(await ops.get(path, params={"limit": 200}))
    assert len(whole) == 26
    paged, cursor = [], None
    while cursor or not paged:
        answer = await ops.get(path, params={"limit": 4} | ({"cursor": cursor} if cursor else {}))
        paged += items(answer)
        cursor = answer.json()["next_cursor"]
    assert paged == whole


async def test_discard_is_a_dry_run_without_execute_and_needs_a_reason(failed, ops):
    asked = {"consumer": NAME, "customer": "C-2"}
    shown = (await ops.post("/dead-letters/discard", json=asked)).json()
    assert (shown["executed"], shown["matching"], shown["causes"][0]["stage"]) == (False, 1, "validate")
    refused = await ops.post("/dead-letters/discard", json=asked | {"execute": True})
    assert problem(refused) == (422, "validation-failed")
    assert [item["field"] for item in refused.json()["errors"]] == ["reason"]
    for unclear in (1, "true", "yes"):
        odd = await ops.post("/dead-letters/discard", json=asked | {"execute": unclear, "reason": "x"})
        assert (odd.status_code, odd.json()["errors"][0]["field"]) == (422, "execute")
    assert len(items(await ops.get("/dead-letters"))) == 3

    done = (await ops.post("/dead-letters/discard", json=asked | {"execute": True, "reason": "a test's"})).json()

    assert (done["executed"], done["matching"]) == (True, 1)
    assert [item["offset"] for item in items(await ops.get("/dead-letters?state=discarded"))] == [2]
    assert await trail(ops) == [("dead_letters.discarded", WHO, "a test's")]


async def test_dead_letters_are_redriven_once_the_cause_is_gone(failed, ledger, ops, replaying):
    asked = {"consumer": NAME, "customer": "C-1"}
    shown = (await ops.post("/dead-letters/redrive", json=asked)).json()
    assert (shown["executed"], shown["matching"], shown["replay"]) == (False, 2, None)
    ledger.before = lambda events: None

    body = asked | {"execute": True, "reason": "mended", "rate": 100}
    started = (await ops.post("/dead-letters/redrive", json=body)).json()["replay"]
    assert (started["kind"], started["state"], started["rate"]) == ("redrive", "running", 100)
    async with replaying():
        done = await ended(ops, started["id"])

    assert (done["state"], done["matched"], done["applied"]) == ("done", 2, 2)
    assert (await ledger.ids())[-2:] == ["bad-0", "bad-1"]


async def test_redriving_without_matching_dead_letters_starts_no_replay(failed, ops):
    body = {"consumer": NAME, "customer": "nobody", "execute": True, "reason": "a test"}
    assert (await ops.post("/dead-letters/redrive", json=body)).json() == {
        "executed": True, "matching": 0, "causes": [], "replay": None
    }  # fmt: skip


async def ended(ops, replay_id):
    async def over():
        replay = (await ops.get(f"/replays/{replay_id}")).json()
        return replay if replay["state"] in ("done", "failed", "aborted", "built") else None

    return await eventually(over)


@pytest.fixture
async def lost(log, ledger, consuming, replaying):
    """Ten applied events, four of them deleted from the inbox and the ledger."""
    await log.append(*[feedback(id=f"e{n}", customer_id="C-1") for n in range(10)])
    async with consuming(), replaying():
        await eventually(partial(_at, ledger, 10))
        await eventually(lambda: ledger.query("SELECT 1 FROM subscriptions"))
    await ledger.query('DELETE FROM inbox WHERE "offset" < 4')
    await ledger.query("DELETE FROM ledger WHERE position < 4")


async def test_a_window_is_planned_and_replayed_with_an_audit_trail(lost, ledger, ops, replaying):
    planned = await ops.post("/replays", json={"consumer": NAME, "from": FROM_THE_BEGINNING, "customer": "C-1"})
    assert planned.status_code == 201
    plan = planned.json()
    assert planned.headers["location"] == f"/v1/ops/replays/{plan['id']}"
    assert (plan["state"], plan["length"], plan["summary"]["missing"]) == ("planned", 10, 4)

    run = await ops.post(f"/replays/{plan['id']}/run", json={"reason": "lost afternoon", "max_errors": 0})
    assert (run.json()["state"], run.json()["max_errors"]) == ("running", 0)
    async with replaying():
        done = await ended(ops, plan["id"])

    assert (done["state"], done["applied"], done["already_applied"]) == ("done", 4, 6)
    assert len(await ledger.ids()) == 10
    assert [item["id"] for item in items(await ops.get("/replays", params={"consumer": NAME}))] == [plan["id"]]
    assert items(await ops.get("/replays", params={"consumer": "another-svc"})) == []
    assert [line[:2] for line in await trail(ops)] == [
        ("replay.done", f"{NAME} worker"), ("replay.run", WHO), ("replay.plan", WHO)
    ]  # fmt: skip


async def test_tables_are_rebuilt_compared_and_swapped(lost, ledger, ops, replaying):
    started = await ops.post("/rebuilds", json={"consumer": NAME, "reason": "rows are gone"})
    assert (started.status_code, started.json()["kind"], started.json()["state"]) == (201, "rebuild", "running")
    path = started.headers["location"].removeprefix("/v1/ops")
    async with replaying():
        built = await ended(ops, started.json()["id"])
        assert (built["state"], len(await ledger.ids())) == ("built", 6)
        assert {(item["where"], item["count"]) for item in built["summary"]["compared"]["findings"]} == {
            ("ledger", 4), ("inbox", 4)
        }  # fmt: skip
        assert (await ops.post(f"{path}/swap", json={"reason": "as expected"})).json()["state"] == "running"
        done = await ended(ops, started.json()["id"])
    assert (done["state"], done["swap"], len(await ledger.ids())) == ("done", True, 10)
    again = await ops.post(f"{path}/swap", json={"reason": "as expected"})
    assert problem(again) == (409, "conflict")


async def test_a_replay_is_paused_resumed_at_another_rate_and_aborted(lost, ops):
    plan = (await ops.post("/replays", json={"consumer": NAME, "from": FROM_THE_BEGINNING})).json()

    async def change(action, **body):
        answer = await ops.post(f"/replays/{plan['id']}/{action}", json={"reason": "a test"} | body)
        return answer.json()["state"] if answer.is_success else problem(answer)

    assert await change("pause") == (409, "conflict")
    assert await change("run") == "running"
    assert await change("pause") == "paused"
    assert await change("resume", rate=7) == "running"
    assert (await ops.get(f"/replays/{plan['id']}")).json()["rate"] == 7
    other = (await ops.post("/replays", json={"consumer": NAME, "from": FROM_THE_BEGINNING})).json()
    refused = await ops.post(f"/replays/{other['id']}/run", json={"reason": "a test"})
    assert problem(refused) == (409, "conflict")
    assert "another replay of ledger-svc is under way" in refused.json()["detail"]
    assert await change("abort") == "aborted"


@pytest.mark.parametrize(
    ("over", "status", "field"),
    [
        ({"from": ["yesterday"]}, 422, "from"),
        ({"from": []}, 422, "from"),
        ({"from": ["2026-11-22", "2026-11-23"]}, 422, "from"),
        ({"to": ["0001-01-01"]}, 422, "to"),
        ({"from": ["999999d"]}, 422, "from"),
        ({"partition": [-1]}, 422, "partition.0"),
        ({"partition": [True]}, 422, "partition.0"),
        ({"customer": "\0"}, 422, "customer"),
        ({"colour": "red"}, 422, "colour"),
        ({"consumer": None}, 422, "consumer"),
        ({"from": ["touchpoints.v1/0/11"]}, 422, None),
        ({"from": ["touchpoints.v1/0/99999999999999999999999"]}, 422, None),
        ({"from": ["1900-01-01"], "to": ["1901-01-01T00:00:00+23:59"]}, 201, None),
        ({"type": ["no.such"]}, 422, None),
    ],
    ids=str,
)
async def test_an_impossible_plan_is_refused_with_the_field_or_the_reason(lost, ops, over, status, field):
    answer = await ops.post("/replays", json={"consumer": NAME, "from": FROM_THE_BEGINNING} | over)
    assert answer.status_code == status, answer.text
    assert [item["field"] for item in answer.json().get("errors", [])] == ([field] if field else [])
    assert status == 201 or answer.json()["detail"]


async def test_a_window_with_too_many_records_is_refused(lost, ops, monkeypatch):
    monkeypatch.setattr(replays, "PLAN_RECORDS", 9)
    answer = await ops.post("/replays", json={"consumer": NAME, "from": FROM_THE_BEGINNING})
    assert problem(answer) == (422, "not-possible")
    assert "the window has 10 records, more than 9" in answer.json()["detail"]
    assert items(await ops.get("/replays")) == []


async def test_unknown_replays_consumers_and_routes_are_not_found(ledger, ops):
    nobody = "0190a5f2-0000-7000-8000-000000000000"
    assert problem(await ops.get(f"/replays/{nobody}")) == (404, "not-found")
    for action in ("run", "pause", "resume", "abort"):
        assert problem(await ops.post(f"/replays/{nobody}/{action}", json={"reason": "x"})) == (404, "not-found")
    assert problem(await ops.post("/consumers/nobody/pause", json={"reason": "x"})) == (404, "not-found")
    assert problem(await ops.get("/nothing")) == (404, "not-found")


async def test_an_invalid_cursor_is_refused(ledger, ops):
    for cursor in ("x", "WyIyMDI2LTExLTIyVDA5OjMwOjAwKzAwOjAwIiwgIlx1MDAwMCJd", "W10", "e30"):
        for path in ("/dead-letters", "/replays", "/audit"):
            answer = await ops.get(path, params={"cursor": cursor})
            assert problem(answer) == (422, "validation-failed")
            assert answer.json()["errors"][0]["field"] == "cursor"


async def test_the_read_scope_cannot_change_anything_and_tenants_scopes_cannot_read(ledger, ops):
    tenants = frozenset(Scope) - OPERATORS
    for scopes, reads in ((frozenset({Scope.OPS_READ}), 200), (tenants, 403)):
        ops.headers["Authorization"] = f"Bearer {sign(Caller('acme', scopes, 'k'), NAME, SECRET)}"
        assert (await ops.get("/consumers")).status_code == reads
        assert problem(await ops.post(f"/consumers/{NAME}/pause", json={"reason": "x"})) == (403, "missing-scope")
