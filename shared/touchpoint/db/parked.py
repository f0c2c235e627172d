"""Parked outbox rows, which Kafka will never accept: an operator lists, retries or discards them."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.db import audit
from touchpoint.db.outbox import load_headers

_FIND = text("""
SELECT id, topic, key, octet_length(value) + octet_length(headers) + coalesce(octet_length(key), 0) AS bytes, headers,
       created_at, parked AS reason
  FROM outbox WHERE parked IS NOT NULL ORDER BY id LIMIT :limit
""")
_RETRY = text("UPDATE outbox SET parked = NULL WHERE parked IS NOT NULL AND id = ANY(:ids) RETURNING id, topic")
_DISCARD = text("DELETE FROM outbox WHERE parked IS NOT NULL AND id = ANY(:ids) RETURNING id, topic")


async def find(session: AsyncSession, limit: int) -> list[dict[str, Any]]:
    """The oldest parked rows: id, topic, key, size in bytes, time of writing, reason and main headers."""
    rows = []
    for row in (await session.execute(_FIND, {"limit": limit})).mappings():
        about = {name: value.decode(errors="replace")[:200] for name, value in load_headers(row["headers"])}
        kept = {name: value for name, value in about.items() if name.startswith(("ce_", "dlq_"))}
        rows.append({**row, "key": (row["key"] or b"").decode(errors="replace")[:200], "headers": kept})
    return rows


async def retry(session: AsyncSession, ids: Sequence[int], who: str, reason: str) -> list[int]:
    """Let the relay send these rows again; returns the ids of those that were parked."""
    changed = (await session.execute(_RETRY, {"ids": list(ids)})).all()
    return await _noted(session, "outbox.retried", changed, who, reason)


async def discard(session: AsyncSession, ids: Sequence[int], who: str, reason: str) -> list[int]:
    """Delete these rows, so that their events are never sent; returns the ids of those that were parked."""
    changed = (await session.execute(_DISCARD, {"ids": list(ids)})).all()
    return await _noted(session, "outbox.discarded", changed, who, reason)


async def _noted(session: AsyncSession, action: str, changed: Sequence[Any], who: str, reason: str) -> list[int]:
    if changed:
        details = {"rows": [[row.id, row.topic] for row in changed]}
        await audit.add(session, who, action, "outbox", details, reason=reason)
    return [row.id for row in changed]
