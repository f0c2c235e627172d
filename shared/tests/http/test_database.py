"""A service's API and its database: queries have timeouts, and end when their client disconnects."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Annotated

import asyncpg
import httpx
import pytest
import uvicorn
from fastapi import APIRouter, Depends, FastAPI, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import text
from starlette.responses import JSONResponse, Response

from touchpoint.db.engine import create_engine, raw_connection
from touchpoint.http import app as apps
from touchpoint.http.deps import ReadOnly, Rows, Transaction, Verified
from touchpoint.http.identity import Caller, allowed, sign
from touchpoint.testing import eventually
from touchpoint.testing.api import SECRET

router = APIRouter()


@router.get("/sleep/{seconds}")
async def sleep(seconds: float, session: ReadOnly) -> str:
    await session.execute(text("SELECT pg_sleep(:seconds)"), {"seconds": seconds})
    return "slept"


@router.get("/sleep-raw/{seconds}")
async def sleep_raw(seconds: float, session: ReadOnly) -> str:
    await (await raw_connection(session)).fetch("SELECT pg_sleep($1)", seconds)
    return "slept"


@router.get("/sleeping/{seconds}")
async def sleep_in_one_statement(caller: Verified, seconds: float, rows: Rows) -> str:
    await rows.fetch(caller.tenant, "SELECT pg_sleep($2) LIMIT 1", seconds)
    return "slept"


class Nap(BaseModel):
    model_config = ConfigDict(extra="forbid")

    seconds: float = Field(gt=0)


@router.get("/naps")
@router.get("/naps-by-fastapi")
async def nap(
    caller: Annotated[Caller, Depends(allowed("naps:read"))], rows: Rows, query: Annotated[Nap, Query()]
) -> Response:
    await rows.fetch(caller.tenant, "SELECT pg_sleep($2) LIMIT 1", query.seconds)
    return JSONResponse("slept")


@router.post("/sleep/{seconds}")
async def change(seconds: float, session: Transaction) -> str:
    await session.execute(text("CREATE TABLE changed AS SELECT 1 AS n FROM pg_sleep(:seconds)"), {"seconds": seconds})
    return "changed"


@router.get("/bugs")
async def bugs(
    caller: Annotated[Caller, Depends(allowed("naps:read"))], rows: Rows, query: Annotated[BaseModel, Query()]
) -> Response:
    raise AssertionError


@router.get("/bug")
async def bug(session: ReadOnly) -> str:
    await session.execute(text("SELECT no_such_column"))
    return "unreachable"


@pytest.fixture
async def dsn(database) -> str:
    return await database("touchpoint.db")


@asynccontextmanager
async def api(dsn: str, **options) -> AsyncIterator[FastAPI]:
    engine = create_engine(dsn, "slow-svc", **({"pool_size": 1} | options))
    settings = SimpleNamespace(internal_token_secrets=[SECRET])
    app = apps.create("slow-svc", settings, engine, router)
    app.answer_list("/naps", nap)
    app.answer_list("/bugs", bugs)
    yield app
    await engine.dispose()


def client(app: FastAPI) -> httpx.AsyncClient:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    return httpx.AsyncClient(transport=transport, base_url="http://service", headers=as_gateway("naps:read"))


def as_gateway(*scopes: str) -> dict[str, str]:
    token = sign(Caller("acme", frozenset(scopes), "key-1"), "slow-svc", SECRET)
    return {"Authorization": f"Bearer {token}"}


def problem(answer: httpx.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    return answer.status_code, answer.json()["type"].removeprefix("urn:touchpoint:problem:")


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application over a socket, because only such a client can disconnect."""
    server = uvicorn.Server(uvicorn.Config(app, port=0, log_config=None, lifespan="off"))
    server.capture_signals = contextlib.nullcontext  # pytest handles signals itself
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    port = server.servers[0].sockets[0].getsockname()[1]
    async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=as_gateway("naps:read")) as asking:
        yield asking
    server.should_exit = True
    await serving


SLOW = ["/sleep/60", "/sleep-raw/60", "/sleeping/60", "/naps?seconds=60"]


@pytest.mark.parametrize("path", SLOW)
async def test_a_query_over_the_timeout_is_a_504_that_says_how_to_narrow_it(dsn, path):
    async with api(dsn, statement_timeout="50ms") as app, client(app) as asking:
        answer = await asking.get(path)
        assert problem(answer) == (504, "query-too-slow")
        assert "from and to" in answer.json()["detail"]
        assert (await asking.get("/sleep/0")).status_code == 200


async def test_a_request_without_a_free_connection_is_a_503(dsn):
    async with api(dsn, pool_timeout=0.05) as app, client(app) as asking:
        first = asyncio.create_task(asking.get("/sleep/60"))
        await eventually(lambda: running(dsn))
        answer = await asking.get("/sleep/0")
        assert problem(answer) == (503, "database-busy")
        assert answer.headers["retry-after"]
        first.cancel()


async def test_an_unreachable_database_is_a_503_with_retry_after():
    async with api("postgresql://127.0.0.1:1/nowhere") as app, client(app) as asking:
        answer = await asking.get("/sleep/0")
        assert problem(answer) == (503, "database-unavailable")
        assert answer.headers["retry-after"]


async def test_commands_wait_until_the_database_has_all_decisions_and_queries_do_not(dsn):
    async with api(dsn) as app, client(app) as asking:
        app.state.folded.clear()
        answer = await asking.post("/sleep/0")
        assert problem(answer) == (503, "decisions-unread")
        assert answer.headers["retry-after"] == "1"
        assert (await asking.get("/sleep/0")).status_code == 200
        app.state.folded.set()
        assert (await asking.post("/sleep/0")).status_code == 200


@pytest.mark.parametrize("path", ["/bug", "/bugs"])
async def test_a_bug_in_a_query_is_a_500(dsn, path):
    async with api(dsn) as app, client(app) as asking:
        assert problem(await asking.get(path)) == (500, "internal-error")


async def test_answer_list_refuses_the_same_requests_as_fastapi(dsn):
    async with api(dsn) as app, client(app) as asking:
        assert (await asking.get("/naps?seconds=0.01")).json() == "slept"
        for wrong in ("", "?seconds=0", "?seconds=x&seconds=-1", "?seconds=1&x=2", "?seconds="):
            straight = await asking.get(f"/naps{wrong}")
            assert problem(straight) == (422, "validation-failed")
            assert straight.json() == (await asking.get(f"/naps-by-fastapi{wrong}")).json()
        assert problem(await asking.get("/naps", headers={"Authorization": ""})) == (401, "not-the-gateway")
        assert problem(await asking.get("/naps", headers=as_gateway())) == (403, "missing-scope")
        assert problem(await asking.post("/naps")) == (405, "method-not-allowed")


@pytest.mark.parametrize("path", SLOW)
async def test_a_disconnected_client_ends_its_query_and_the_connection_stays_usable(dsn, path):
    async with api(dsn) as app, served(app) as asking:
        for _ in range(3):
            asked = asyncio.create_task(asking.get(path, timeout=60))
            await eventually(lambda: running(dsn))
            asked.cancel()
            await eventually(lambda: none_running(dsn))
            assert (await asking.get("/sleep/0")).json() == "slept"


async def test_a_command_is_completed_after_its_client_has_disconnected(dsn):
    async with api(dsn) as app, served(app) as asking:
        asked = asyncio.create_task(asking.post("/sleep/0.3"))
        await eventually(lambda: running(dsn))
        asked.cancel()
        await eventually(lambda: ask(dsn, "SELECT to_regclass('changed') IS NOT NULL"))


async def ask(dsn: str, sql: str):
    connection = await asyncpg.connect(dsn)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def running(dsn: str) -> bool:
    """Whether the database is executing a slow query."""
    return await ask(
        dsn,
        "SELECT count(*) > 0 FROM pg_stat_activity WHERE datname = current_database() AND state = 'active' "
        "AND query LIKE '%pg_sleep%' AND pid <> pg_backend_pid()",
    )


async def none_running(dsn: str) -> bool:
    return not await running(dsn)
