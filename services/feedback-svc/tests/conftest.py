import secrets
from collections.abc import AsyncIterator, Callable

import httpx
import pytest
from pydantic import SecretStr

from feedback_svc.app import NAME, create_app
from feedback_svc.config import Settings
from touchpoint.db.engine import Sessions, create_engine
from touchpoint.db.engine import sessions as sessions_of
from touchpoint.http.identity import Caller, sign
from touchpoint.http.scopes import Scope
from touchpoint.testing.fixtures import Database

SECRET = SecretStr(secrets.token_hex(32))


@pytest.fixture
async def sessions(database: Database) -> AsyncIterator[Sessions]:
    """Sessions on a fresh database of this service."""
    engine = create_engine(await database("feedback_svc"), "tests")
    yield sessions_of(engine)
    await engine.dispose()


@pytest.fixture
async def client(sessions: Sessions) -> AsyncIterator[Callable[..., httpx.AsyncClient]]:
    """Make clients of the API: `client(tenant=…, scopes=…)` calls as the gateway does for a key of that tenant."""
    settings = Settings(database_url=SecretStr("postgresql:///unused"), internal_token_secrets=[SECRET])
    transport = httpx.ASGITransport(create_app(settings, sessions))

    def make(tenant: str = "acme", scopes: set[str] | None = None) -> httpx.AsyncClient:
        granted = frozenset(Scope) if scopes is None else frozenset(scopes)
        token = sign(Caller(tenant, granted, "key-1"), NAME, [SECRET])
        return httpx.AsyncClient(
            transport=transport, base_url="http://feedback-svc", headers={"Authorization": f"Bearer {token}"}
        )

    yield make
    await transport.aclose()
