"""The audit trail of operators' actions: append-only, in the service's own database."""

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

_ADD = text("""
INSERT INTO audit (who, action, subject, reason, plan_id, plan_hash, matched, applied, already_applied, failed, erased,
                   details)
VALUES (:who, :action, :subject, :reason, :plan_id, :plan_hash, :matched, :applied, :already_applied, :failed, :erased,
        CAST(:details AS jsonb))
""")
_NEWEST = text("""
SELECT * FROM (SELECT *, subject || '/' || lpad(id::text, 19, '0') COLLATE "C" AS place FROM audit) AS audit
 WHERE (CAST(:consumer AS text) IS NULL OR subject = :consumer)
   AND (CAST(:since AS timestamptz) IS NULL OR at >= :since)
   AND (CAST(:before AS timestamptz) IS NULL OR (at, place) < (:before, :before_place))
 ORDER BY at DESC, place DESC LIMIT :limit
""")
_DEFAULTS = dict.fromkeys(
    ("reason", "plan_id", "plan_hash", "matched", "applied", "already_applied", "failed", "erased"), None
)


async def add(
    session: AsyncSession, who: str, action: str, subject: str, details: dict[str, Any] | None = None, **columns: Any
) -> None:
    """Add an entry to the audit trail, in the transaction of the action itself.

    `action` is the operation (`dead_letters.discarded`), `subject` the consumer that it affects. `columns`: `reason`,
    `plan_id`, `plan_hash` and counts (a constraint requires matched = applied + already_applied + failed + erased).
    """
    values = {"who": who, "action": action, "subject": subject, "details": json.dumps(details or {}, default=str)}
    await session.execute(_ADD, _DEFAULTS | columns | values)


async def lines(
    session: AsyncSession,
    since: datetime | None,
    limit: int,
    *,
    consumer: str | None = None,
    before: tuple[datetime, str] | None = None,
) -> Sequence[dict[str, Any]]:
    """Entries of the audit trail, newest first, starting after `before`: the time and `place` of an entry."""
    moment, place = before or (None, None)
    values = {"since": since, "limit": limit, "consumer": consumer, "before": moment, "before_place": place}
    return [dict(row) for row in (await session.execute(_NEWEST, values)).mappings()]
