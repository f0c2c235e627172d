"""A rebuild of feedback-svc: API clients read correct rows, and no event is published twice."""

from feedback_svc.verify import subject
from touchpoint.contracts.topics import FEEDBACK
from touchpoint.kafka import log
from touchpoint.testing import factories as make
from touchpoint.testing.consuming import append, drained, rebuilt, working
from touchpoint.verify.run import verify

NAME = "feedback-svc"
EVENTS = [
    *(make.feedback(id=f"f{number}", customer_id=f"c{number % 4}") for number in range(12)),
    make.feedback(id="other", tenant="globex"),
    make.ticket_opened(id="t1", customer_id="c1"),
    make.escalation_opened(id="e1", customer_id="c1"),
]


async def _published(kafka):
    async with log.connected(kafka, [FEEDBACK]) as reader:
        return sum((await reader.ends([FEEDBACK])).values())


async def _ids(client):
    answer = await client.get("/v1/feedback")
    assert answer.status_code == 200, answer.text
    return {item["event_id"] for item in answer.json()["items"]}


async def test_a_rebuild_repairs_rows_under_readers_and_publishes_nothing_again(kafka, dsn, sessions, client):
    handlers = subject().handlers
    acme, globex = client(), client("globex")
    async with working(NAME, handlers, kafka, dsn, projections=subject()) as factory:
        await append(kafka, *EVENTS)
        await drained(NAME, handlers, kafka, factory)
        async with sessions.begin() as session:
            raw = (await (await session.connection()).get_raw_connection()).driver_connection
            await raw.execute("DELETE FROM feedback WHERE event_id = 'f3'; UPDATE timeline SET title = 'wrong'")
        before = await _ids(acme), await _ids(globex)  # the API's prepared statements now refer to the old tables
        done = await rebuilt(NAME, kafka, factory)
        assert (done.state, done.applied, done.failed) == ("done", 15, 0)
        assert await _published(kafka) == 13
        assert (await _ids(acme), await _ids(globex)) == (before[0] | {"f3"}, before[1])
        await append(kafka, make.feedback(id="later"))
        await drained(NAME, handlers, kafka, factory)
    assert "later" in await _ids(acme)
    assert await _published(kafka) == 14
    assert (await verify(subject(), dsn, kafka)).findings == []
