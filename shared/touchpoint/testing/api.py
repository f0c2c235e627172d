"""Clients that call a service's API in this process, with tokens as the gateway signs them."""

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
"""The secret that signs the tokens of tests."""

Client = Callable[..., httpx.AsyncClient]
"""`client(tenant=…, scopes=…)` is a client with that tenant and scopes; by default tenant acme and all scopes."""


@asynccontextmanager
async def clients(
    create_app: Callable[[Any, AsyncEngine], FastAPI], settings: type[ServiceSettings], dsn: str
) -> AsyncIterator[Client]:
    """Run a service's API on this database, as the API's role; yields the function that creates its clients."""
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
    """The JSON of an answer, whose status must be 200."""
    answer = await client.get(path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The problem details of an answer, which must have this status."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    content: dict[str, Any] = answer.json()
    return content


async def refused(client: httpx.AsyncClient, path: str, **params: Any) -> list[str]:
    """The fields that the answer names, whose status must be 422."""
    return [error["field"] for error in problem(await client.get(path, params=params), 422)["errors"]]
