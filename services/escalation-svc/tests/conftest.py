import json
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text

from escalation_svc.cases import service
from escalation_svc.cases.handlers import with_policies
from escalation_svc.config import NAME, SHIPPED
from escalation_svc.policies.service import Policies, load
from touchpoint.db.engine import Sessions, transaction
from touchpoint.db.outbox import load_headers
from touchpoint.kafka.handlers import Handlers


@pytest.fixture(scope="session")
def policies() -> Policies:
    """The default policies: a clock of normal priority has a target of 14,400 s and warns after 11,520 s."""
    return load(SHIPPED)


@pytest.fixture(scope="session")
def handlers(policies: Policies) -> Handlers:
    """The handlers with these policies."""
    return with_policies(policies)


@pytest.fixture(scope="session")
def package() -> str:
    """Package of the service whose database, sessions and API clients the shared fixtures provide."""
    return "escalation_svc"


@pytest.fixture
def rows(sessions: Sessions) -> Callable[..., Any]:
    """Read a table into dicts; the name may be followed by WHERE and ORDER BY."""

    async def read(table: str) -> list[dict[str, Any]]:
        async with sessions() as session:
            return [dict(row._mapping) for row in await session.execute(text(f"SELECT * FROM {table}"))]

    return read


@pytest.fixture
def published(sessions: Sessions) -> Callable[..., Any]:
    """The events in the outbox, in order: their data with type, key, time and the backfill mark."""

    async def read() -> list[dict[str, Any]]:
        async with sessions() as session:
            rows = await session.execute(text("SELECT value, headers, key FROM outbox ORDER BY id"))
            return [_event(row.value, row.headers) | {"key": row.key.decode()} for row in rows]

    return read


def _event(value: bytes, headers: bytes) -> dict[str, Any]:
    attributes = {name: content.decode() for name, content in load_headers(headers)}
    return json.loads(value) | {
        "type": attributes["ce_type"],
        "time": attributes["ce_time"],
        "event_id": attributes["ce_id"],
        "backfill": "ce_backfill" in attributes,
    }


READ = """
INSERT INTO offsets (consumer, topic, partition, next, cluster_id, read_through)
SELECT :consumer, 'touchpoints.v1', partition, 0, '', now() FROM generate_series(0, 2) AS partition
ON CONFLICT (consumer, topic, partition) DO UPDATE SET read_through = excluded.read_through
"""


@pytest.fixture
def time_passes(sessions: Sessions, policies: Policies) -> Callable[[], Awaitable[None]]:
    """Record that the consumer has read three partitions up to now, and run the timer."""

    async def passes() -> None:
        async with transaction(sessions) as session:
            await session.execute(text(READ), {"consumer": NAME})
            await service.pass_time(session, policies, NAME, 100)

    return passes


@pytest.fixture
def statements(sessions: Sessions, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collects the statements sent over raw connections from now on."""
    sent: list[str] = []

    def noting(method: Any) -> Any:
        async def note(self: asyncpg.Connection, query: str, *arguments: Any, **options: Any) -> Any:
            sent.append(query)
            return await method(self, query, *arguments, **options)

        return note

    for name in ("execute", "fetch", "fetchrow", "fetchval", "executemany"):
        monkeypatch.setattr(asyncpg.Connection, name, noting(getattr(asyncpg.Connection, name)))
    return sent
