import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from gateway.app import create_app
from gateway.config import Settings
from gateway.keys import service as keys
from gateway.queries.routes import ROUTES, ServiceRoute
from touchpoint.base.settings import KafkaSettings
from touchpoint.contracts.record import Record
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.db.engine import Sessions, create_engine, transaction
from touchpoint.db.roles import api_role
from touchpoint.http.health import admin_app
from touchpoint.http.scopes import Scope
from touchpoint.http.server import listen, serve
from touchpoint.testing import eventually

Issue = Callable[..., Awaitable[str]]
Open = Callable[..., Awaitable[httpx.AsyncClient]]
Log = Callable[[], Awaitable[list[Record]]]


@pytest.fixture
def secret() -> SecretStr:
    """The secret with which the gateway signs its internal tokens."""
    return SecretStr(secrets.token_hex(32))


@pytest.fixture(scope="session")
def package() -> str:
    """The package of the service whose database, sessions and API clients the shared fixtures provide."""
    return "gateway"


@pytest.fixture
async def api_engine(dsn: str) -> AsyncIterator[AsyncEngine]:
    """An engine on the test's database, with the role of the gateway's API."""
    engine = create_engine(dsn, "tests", role=api_role("gateway"))
    yield engine
    await engine.dispose()


@pytest.fixture
def issue(sessions: Sessions) -> Issue:
    """A function that creates an API key and returns its token; by default of the tenant acme, with all scopes."""

    async def make(tenant: str = "acme", scopes: set[Scope] | None = None) -> str:
        async with transaction(sessions) as session:
            issued = await keys.create(session, tenant, "test", sorted(Scope if scopes is None else scopes))
        return issued.token

    return make


@pytest.fixture
async def open_door(
    kafka: KafkaSettings, api_engine: AsyncEngine, issue: Issue, secret: SecretStr
) -> AsyncIterator[Open]:
    """A function that starts a gateway in this process and returns its client, with a key of this tenant and scopes.

    `over` holds settings. `http://admin` is the gateway's admin address.
    """
    async with contextlib.AsyncExitStack() as stack:

        async def start(
            tenant: str = "acme",
            scopes: set[Scope] | None = None,
            routes: Sequence[ServiceRoute] = ROUTES,
            **over: Any,
        ) -> httpx.AsyncClient:
            settings = Settings(
                **({"kafka": kafka, "database_url": "postgresql:///unused", "internal_token_secrets": [secret]} | over)
            )
            app = create_app(settings, api_engine, routes)
            await stack.enter_async_context(app.router.lifespan_context(app))
            headers = {"Authorization": f"Bearer {await issue(tenant, scopes)}"}
            admin = httpx.ASGITransport(admin_app(app.state.checks, app.state.beside))
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(app),
                mounts={"http://admin": admin},
                base_url="http://gateway",
                headers=headers,
            )
            return await stack.enter_async_context(client)

        yield start


@pytest.fixture
async def open_gateway(
    kafka: KafkaSettings, api_engine: AsyncEngine, issue: Issue, secret: SecretStr
) -> AsyncIterator[Open]:
    """A function that starts a gateway with these routes and settings on a TCP socket, and returns a client."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(routes: Sequence[ServiceRoute], tenant: str = "acme", **over: Any) -> httpx.AsyncClient:
            settings = Settings(
                **({"kafka": kafka, "database_url": "postgresql:///unused", "internal_token_secrets": [secret]} | over)
            )
            listening, stop = listen("127.0.0.1", 0), asyncio.Event()
            port = listening.getsockname()[1]
            serving = asyncio.create_task(serve(create_app(settings, api_engine, routes), listening, 100, stop))

            async def end() -> None:
                stop.set()
                await serving

            stack.push_async_callback(end)
            client = httpx.AsyncClient(
                base_url=f"http://127.0.0.1:{port}", headers={"Authorization": f"Bearer {await issue(tenant)}"}
            )
            return await stack.enter_async_context(client)

        yield start


@dataclass
class Behind:
    """A fake service behind the gateway: `answer` makes its answers; `asked` records its requests.

    A record is method, path with query, headers, body.
    """

    url: str = ""
    answer: Callable[[Request], Response] = lambda _: JSONResponse({})
    asked: list[tuple[str, bytes, dict[str, str], bytes]] = field(default_factory=list)

    def hold(self, path: str) -> asyncio.Event:
        """Answer requests for this path once the returned event is set, other requests at once."""
        released = asyncio.Event()

        async def held(scope: Any, receive: Any, send: Any) -> None:
            if scope["path"] == path:
                await released.wait()
            await Response(b"{}")(scope, receive, send)

        self.answer = lambda _: held
        return released

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        request = Request(scope, receive)
        if "authorization" not in request.headers:
            return  # not from the gateway: another process still sends to this port, which it used before
        query = b"?" + scope["query_string"] if scope["query_string"] else b""
        self.asked.append((request.method, scope["raw_path"] + query, dict(request.headers), await request.body()))
        await self.answer(request)(scope, receive, send)


@pytest.fixture
async def behind() -> AsyncIterator[Behind]:
    """A fake service on a free port."""
    service = Behind()
    config = uvicorn.Config(service, port=0, log_config=None, lifespan="off", timeout_graceful_shutdown=0)
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext  # pytest handles the signals
    serving = asyncio.create_task(server.serve())
    await eventually(lambda: server.started)
    service.url = f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    yield service
    server.should_exit = True
    await serving


@pytest.fixture
async def door(open_door: Open) -> httpx.AsyncClient:
    """A client of a gateway, with a key of the tenant acme that has all scopes."""
    return await open_door()


@pytest.fixture
def log(kafka: KafkaSettings) -> Log:
    """A function that reads all records of the topic of touchpoints; those of a partition are in log order."""

    async def read() -> list[Record]:
        consumer = AIOKafkaConsumer(**kafka.client_options(), auto_offset_reset="earliest", enable_auto_commit=False)
        await consumer.start()
        try:
            places = [TopicPartition(kafka.topic_prefix + TOUCHPOINTS, p) for p in range(kafka.partitions)]
            consumer.assign(places)
            left, records = sum((await consumer.end_offsets(places)).values()), list[Record]()
            while len(records) < left:
                for batch in (await consumer.getmany(timeout_ms=1000)).values():
                    records += [
                        Record(TOUCHPOINTS, m.key, m.value, list(m.headers), m.partition, m.offset) for m in batch
                    ]
            return records
        finally:
            await consumer.stop()

    return read
