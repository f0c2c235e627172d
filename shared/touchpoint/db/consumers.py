"""The state of a consumer, stored in its database: running, paused by an operator, or halted by itself."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base.errors import NotFoundError
from touchpoint.db import audit, losses
from touchpoint.db.processes import SILENT_SECONDS

State = Literal["running", "paused", "halted"]


_STANDING = text("""
SELECT o.consumer, coalesce(c.state, 'running') AS state, c.reason, c.since,
       count(*) AS partitions, max(o.updated_at) AS last_applied_at,
       (SELECT count(*) FROM dead_letters d WHERE d.consumer = o.consumer AND d.state = 'open') AS dead_letters,
       (SELECT max(reported_at) FROM processes WHERE role IN ('consumer', 'all')) AS last_reported_at,
       EXISTS (SELECT FROM processes WHERE role IN ('consumer', 'all')
                AND reported_at > clock_timestamp() - make_interval(secs => :silent_seconds)) AS alive
  FROM offsets o LEFT JOIN consumers c USING (consumer)
 GROUP BY o.consumer, c.state, c.reason, c.since ORDER BY o.consumer
""")


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """A consumer's state and the reason for it.

    `may_skip`: number of dead letters that each of its processes may make when it resumes, regardless of its limit.
    """

    state: State
    reason: str | None
    may_skip: int = 0


async def state(session: AsyncSession, consumer: str) -> ConsumerState:
    """The stored state of a consumer; running if none is stored."""
    query = text("SELECT state, reason, may_skip FROM consumers WHERE consumer = :consumer")
    row = (await session.execute(query, {"consumer": consumer})).one_or_none()
    return ConsumerState(row.state, row.reason, row.may_skip) if row else ConsumerState("running", None)


async def set_state(session: AsyncSession, consumer: str, new: ConsumerState) -> None:
    """Store a consumer's state; all its processes adopt it within a second."""
    change = text("""
        INSERT INTO consumers (consumer, state, reason, may_skip) VALUES (:consumer, :state, :reason, :may_skip)
        ON CONFLICT (consumer) DO UPDATE
           SET state = excluded.state, reason = excluded.reason, may_skip = excluded.may_skip, since = now()
    """)
    await session.execute(change, {"consumer": consumer, **asdict(new)})


async def change(
    session: AsyncSession, consumer: str, new: ConsumerState, who: str, *, accept_loss: Sequence[str] = ()
) -> State:
    """Change a consumer's state for an operator and add it to the audit trail; returns the previous state.

    If Kafka has lost records, the consumer can only run again if `accept_loss` names exactly these (`Loss.name`); it
    then resumes at `Loss.resume_at`. Raises NotFoundError if the consumer has never run on this database, and
    ConflictError if `accept_loss` names other records than those lost.
    """
    known = [row["state"] for row in await standing(session) if row["consumer"] == consumer]
    if not known:
        raise NotFoundError(f"no consumer {consumer} here: see `touchpoint consumer list`")
    lost = await losses.accept(session, consumer, accept_loss, who) if new.state == "running" else ()
    await set_state(session, consumer, new)
    details: dict[str, Any] = {"before": known[0], "may_skip": new.may_skip}
    if lost:
        details["lost"] = [asdict(loss) for loss in lost]
    action = "pause" if new.state == "paused" else "resume"
    await audit.add(session, who, f"consumer.{action}", consumer, details, reason=new.reason)
    before: State = known[0]
    return before


async def standing(session: AsyncSession) -> list[dict[str, Any]]:
    """All consumers that have run on this database: state, reason, open dead letters, whether a process is alive."""
    rows = await session.execute(_STANDING, {"silent_seconds": SILENT_SECONDS})
    return [dict(row) for row in rows.mappings()]
