"""Clients of a service's API, in this process, that call as the gateway does."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx
from fastapi import FastAPI
from pydantic import SecretStr
from sqlalchemy.ext.asyncio import AsyncEngine

from touchpoint.base.settings import ServiceSettings
from touchpoint.db.engine import create_engine, sessions
from touchpoint.db.roles import api_role
from touchpoint.http.identity import Caller, sign
from touchpoint.http.scopes import Scope

SECRET = SecretStr(secrets.token_hex(32))
"""What the tests' gateway signs its tokens with."""

Client = Callable[..., httpx.AsyncClient]
"""`client(tenant=…, scopes=…)` calls for a key of that tenant; without arguments: acme's, with every scope."""


@asynccontextmanager
async def clients(
    create_app: Callable[[Any, AsyncEngine], FastAPI], settings: type[ServiceSettings], dsn: str
) -> AsyncIterator[Client]:
    """Make clients of the service's API on this database, which it uses as it does in production: as its role."""
    engine = create_engine(dsn, "tests", role=api_role(create_app.__module__.partition(".")[0]))
    owner = create_engine(dsn, "tests")
    app = create_app(settings(database_url=SecretStr(dsn), internal_token_secrets=[SECRET]), engine)
    app.state.above_tenants = sessions(owner)
    transport = httpx.ASGITransport(app)

    def make(tenant: str = "acme", scopes: set[str] | None = None) -> httpx.AsyncClient:
        granted = frozenset(Scope) if scopes is None else frozenset(scopes)
        token = sign(Caller(tenant, granted, "key-1", "tests"), app.state.name, SECRET)
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.AsyncClient(transport=transport, base_url="http://service", headers=headers)

    yield make
    await transport.aclose()
    await asyncio.gather(engine.dispose(), owner.dispose())


async def get(client: httpx.AsyncClient, path: str, **params: Any) -> Any:
    """The JSON of a 200."""
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem of an answer with this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = answer.json()
    return content


async def refused(client: httpx.AsyncClient, path: str, **params: Any) -> list[str]:
    """The fields that a 422 names."""
    return [error["field"] for error in problem(await client.get(path, params=params), 422)["errors"]]
