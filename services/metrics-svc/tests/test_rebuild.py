"""A rebuild of metrics-svc corrects a wrong counter while events are counted and queries are answered."""

import asyncio

from sqlalchemy import text

from metrics_svc.verify import subject
from touchpoint.testing import eventually
from touchpoint.testing import factories as make
from touchpoint.testing.consuming import append, drained, rebuilt, working
from touchpoint.verify.run import verify

NAME = "metrics-svc"
DAY = {"from": "2026-11-20T00:00:00Z", "to": "2026-11-21T00:00:00Z"}
ANSWERS = [make.feedback(customer_id=f"c{number % 5}", score=number % 11) for number in range(110)]


async def _count(client, metric):
    answer = await client.get(f"/v1/metrics/{metric}", params=DAY)
    assert answer.status_code == 200, answer.text
    return answer.json()["items"][0]["n"]


async def test_a_wrong_counter_is_repaired_while_events_flow(kafka, dsn, sessions, client):
    handlers, stop = subject().handlers, asyncio.Event()
    acme, seen, counted = client(), [], [0]

    async def read():
        while not stop.is_set():
            seen.append(await _count(acme, "nps"))

    async def write(factory):
        while not stop.is_set():
            await append(kafka, make.feedback(kind="csat", score=5, customer_id=f"c{counted[0] % 5}"))
            await drained(NAME, handlers, kafka, factory)
            counted[0] += 1

    async with working(NAME, handlers, kafka, dsn, projections=subject()) as factory:
        await append(kafka, make.feedback(tenant="globex"), *ANSWERS)
        await drained(NAME, handlers, kafka, factory)
        async with sessions.begin() as session:
            await session.execute(text("UPDATE rollups SET n = n + 1 WHERE tenant_id = 'acme' AND bucket = 9"))
        at_work = [asyncio.create_task(read()), asyncio.create_task(write(factory))]
        await eventually(lambda: seen and counted[0])
        done = await rebuilt(NAME, kafka, factory)
        swapped = len(seen), counted[0]
        await eventually(lambda: len(seen) > swapped[0] + 3 and counted[0] > swapped[1] + 3)
        stop.set()
        await asyncio.gather(*at_work)
    assert done.state == "done"
    assert [
        (finding["fault"], finding["where"], finding["count"]) for finding in done.summary["compared"]["findings"]
    ] == [("changed", "rollups", 1)]
    assert seen[0] > 110
    assert set(seen) == {seen[0], 110}
    assert seen == sorted(seen, reverse=True)
    assert await _count(acme, "csat") == counted[0]
    assert await _count(client("globex"), "nps") == 1
    assert (await verify(subject(), dsn, kafka)).findings == []
