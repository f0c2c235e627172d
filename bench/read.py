"""`read`: pages of `GET /v1/feedback` through the gateway, of a million rows; the floor is the same SQL by asyncpg."""

import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

import asyncpg
import httpx

from bench import door, floors, load
from bench.apart import apart, settle
from bench.cpu import Cpu
from bench.payloads import CUSTOMERS, TENANTS
from bench.scenario import Bench, Pair, Sample, Scenario
from touchpoint.testing.system import System

ROWS = 1_000_000
DAYS = 90
PAGES = 3000
CONNECTIONS = 8
LIMIT = 50
CURSORS = 60

FILL = f"""
INSERT INTO feedback (tenant_id, id, source, event_id, occurred_at, recorded_at, backfill, kind, channel, customer_id,
    score_value, score_min, score_max, text, language, survey_id, submission_id)
SELECT tenant, gen_random_uuid(), '/' || tenant || '/surveys', gen_random_uuid(), at, at, false, 'nps', 'email',
    'C-' || lpad((random() * {CUSTOMERS - 1})::int::text, 5, '0'), (random() * 10)::int, 0, 10,
    repeat('Would recommend it to every colleague of mine. ', 2 + n % 4), 'en', 'relationship-2026-q4',
    'S-' || to_hex(n)
FROM (SELECT n, (ARRAY['acme', 'acme', 'acme', 'acme', 'acme', 'acme', 'globex', 'globex', 'globex', 'initech'])
          [1 + n % 10] AS tenant, now() - interval '{DAYS} days' * n / {ROWS} AS at
      FROM generate_series(1, {ROWS}) AS n) AS numbered
"""


@asynccontextmanager
async def prepare(bench: Bench) -> AsyncIterator[Pair]:
    """The gateway and feedback-svc's API; compares the gateway's pages with the floor's before anything is measured."""
    async with bench.system() as system:
        await _fill(system)
        keys = await door.opened(system)
        system.start_part(("feedback-svc", "api"))
        await system.ready([("feedback-svc", "api")])
        pages = await _pages(system, keys)
        await _compare(system, keys, pages)
        yield Pair(partial(_floor, system, pages), partial(_ours, system, keys, pages))


async def _fill(system: System) -> None:
    connection = await asyncpg.connect(system.dsn("feedback-svc"))
    try:
        await connection.execute(FILL)
        await connection.execute("VACUUM (ANALYZE) feedback")
        await connection.execute("CHECKPOINT")
    finally:
        await connection.close()


Page = dict[str, Any]
"""A page to request: `tenant`, `query` for the gateway, and `customer` or `after` (time, id) for the floor."""


async def _pages(system: System, keys: Mapping[str, str]) -> list[Page]:
    """Of ten pages four are the newest, three follow a random cursor, three are of one customer."""
    chance = random.Random(4)
    cursors = [await _somewhere(system, keys, chance.choice(TENANTS), chance.random()) for _ in range(CURSORS)]
    pages = []
    for number in range(PAGES):
        page: Page = {"tenant": chance.choice(TENANTS), "query": {"limit": LIMIT}}
        if number % 10 in (1, 4, 7):
            page = chance.choice(cursors)
        elif number % 10 in (2, 5, 8):
            page["customer"] = page["query"]["customer_id"] = f"C-{chance.randrange(CUSTOMERS):05d}"
        pages.append(page)
    return pages


async def _somewhere(system: System, keys: Mapping[str, str], tenant: str, how_far: float) -> Page:
    """The page after the cursor at `how_far` (0 to 1) of the way from the newest rows to the oldest."""
    until = datetime.now(UTC) - timedelta(days=DAYS * 0.9 * how_far)
    answer = await _ask(system, keys, {"tenant": tenant, "query": {"limit": LIMIT, "to": until.isoformat()}})
    last = answer["items"][-1]
    query = {"limit": LIMIT, "cursor": answer["next_cursor"]}
    return {"tenant": tenant, "query": query, "after": [last["occurred_at"], last["id"]]}


async def _ask(system: System, keys: Mapping[str, str], page: Page) -> Any:
    async with httpx.AsyncClient(base_url=system.url) as client:
        headers = {"Authorization": f"Bearer {keys[page['tenant']]}"}
        answer = await client.get("/v1/feedback", params=page["query"], headers=headers)
        return answer.raise_for_status().json()


async def _compare(system: System, keys: Mapping[str, str], pages: list[Page]) -> None:
    connection = await asyncpg.connect(system.dsn("feedback-svc"))
    try:
        for page in pages[:20]:
            ours = [item["id"] for item in (await _ask(system, keys, page))["items"]]
            rows = await floors.page(connection, page, LIMIT)
            if ours != [str(row["id"]) for row in rows[:LIMIT]]:
                raise RuntimeError(f"the floor's page is not the gateway's: {page}")
    finally:
        await connection.close()


async def _ours(system: System, keys: Mapping[str, str], pages: list[Page]) -> Sample:
    requests = [[f"/v1/feedback?{urlencode(page['query'])}", keys[page["tenant"]]] for page in pages]
    cpu = Cpu()
    seen = await apart(ask, url=system.url, requests=requests)
    return Sample(len(pages) / seen["seconds"], {**seen, "cpu_us": cpu.each(len(pages))})


async def ask(url: str, requests: list[tuple[str, str]]) -> dict[str, float]:
    """Request pages; `requests` are paths and API keys."""
    prepared = [load.request("GET", path, key) for path, key in requests]
    connections = await load.connect(url, CONNECTIONS)
    settle()
    return await load.closed_loop(connections, prepared, 200)


async def _floor(system: System, pages: list[Page]) -> Sample:
    arguments = {"dsn": system.dsn("feedback-svc"), "pages": pages, "limit": LIMIT, "connections": CONNECTIONS}
    seen = await apart(floors.select, **arguments)
    return Sample(len(pages) / seen["seconds"], seen)


SCENARIO = Scenario("read", "pages/s", least=0.2, aim=0.4, prepare=prepare)
