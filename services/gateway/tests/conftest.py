import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from gateway import keys
from gateway.app import create_app
from gateway.config import Settings
from pydantic import SecretStr
from touchpoint.contracts.topics import TOUCHPOINTS
from touchpoint.db.engine import Sessions, create_engine, transaction
from touchpoint.db.engine import sessions as sessions_of
from touchpoint.http.scopes import Scope
from touchpoint.kafka.codec import Record
from touchpoint.settings import KafkaSettings
from touchpoint.testing.fixtures import Database

SECRET = SecretStr(secrets.token_hex(32))

Issue = Callable[..., Awaitable[str]]
Open = Callable[..., Awaitable[httpx.AsyncClient]]
Log = Callable[[], Awaitable[list[Record]]]


@pytest.fixture
async def sessions(database: Database) -> AsyncIterator[Sessions]:
    """Sessions on a fresh database of the gateway."""
    engine = create_engine(await database("gateway"), "tests")
    yield sessions_of(engine)
    await engine.dispose()


@pytest.fixture
def issue(sessions: Sessions) -> Issue:
    """Makes API keys, such as `token = await issue(tenant=…, scopes=…)`."""

    async def make(tenant: str = "acme", scopes: set[Scope] | None = None) -> str:
        async with transaction(sessions) as session:
            issued = await keys.create(session, tenant, "test", sorted(Scope if scopes is None else scopes))
        return issued.token

    return make


@pytest.fixture
async def open_door(kafka: KafkaSettings, sessions: Sessions, issue: Issue) -> AsyncIterator[Open]:
    """Starts gateways: `client = await open_door(tenant=…, feedback_url=…)`; the client has a key of that tenant."""
    async with contextlib.AsyncExitStack() as stack:

        async def start(tenant: str = "acme", scopes: set[Scope] | None = None, **over: Any) -> httpx.AsyncClient:
            settings = Settings(
                **({"kafka": kafka, "database_url": "postgresql:///unused", "internal_token_secrets": [SECRET]} | over)
            )
            app = create_app(settings, sessions)
            await stack.enter_async_context(app.router.lifespan_context(app))
            headers = {"Authorization": f"Bearer {await issue(tenant, scopes)}"}
            client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://gateway", headers=headers)
            return await stack.enter_async_context(client)

        yield start


@pytest.fixture
async def door(open_door: Open) -> httpx.AsyncClient:
    """A gateway, called with a key of the tenant acme that may do everything."""
    return await open_door()


@pytest.fixture
def log(kafka: KafkaSettings) -> Log:
    """Read all of the topic of touchpoints: per partition in log order."""

    async def read() -> list[Record]:
        consumer = AIOKafkaConsumer(**kafka.client_options(), auto_offset_reset="earliest", enable_auto_commit=False)
        await consumer.start()
        try:
            places = [TopicPartition(kafka.topic_prefix + TOUCHPOINTS, p) for p in range(kafka.partitions)]
            consumer.assign(places)
            left, found = sum((await consumer.end_offsets(places)).values()), list[Record]()
            while len(found) < left:
                for batch in (await consumer.getmany(timeout_ms=1000)).values():
                    found += [
                        Record(TOUCHPOINTS, m.key, m.value, list(m.headers), m.partition, m.offset) for m in batch
                    ]
            return found
        finally:
            await consumer.stop()

    return read
