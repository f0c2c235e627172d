"""Replays in the database: the plan with its fixed ranges of offsets, its checkpoints, and an audit entry per step."""

import hashlib
import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base.errors import ConflictError, NotFoundError
from touchpoint.db import audit
from touchpoint.db.offsets import Place

MAX_ERRORS = 100
"""Failed events after which a replay stops, by default."""

OUTCOMES = ("matched", "applied", "already_applied", "failed", "erased")
"""The counts of a replay. The first is the sum of the others, which a constraint of the tables enforces."""

Kind = Literal["repair", "redrive", "rebuild"]
Action = Literal["run", "pause", "resume", "swap", "abort"]

_ACTIONS: dict[Action, tuple[tuple[str, ...], str]] = {
    "run": (("planned",), "running"),
    "pause": (("running",), "paused"),
    "resume": (("paused", "failed"), "running"),
    "swap": (("built",), "running"),
    "abort": (("planned", "running", "paused", "built", "failed"), "aborted"),
}
"""By action: the states in which it is allowed, and the resulting state."""

_FIND = text("""
SELECT r.*, c.*,
       coalesce(round(c.passed / nullif(extract(epoch FROM coalesce(r.ended_at, now()) - r.started_at - rest.time), 0),
                      1), 0)::float8 AS records_per_second
  FROM replays r
 CROSS JOIN LATERAL (
    SELECT coalesce(sum(until - at), '0') AS time
      FROM (
        SELECT action, at, lead(at, 1, coalesce(r.ended_at, now())) OVER (ORDER BY id) AS until
          FROM audit WHERE plan_id = r.id
      ) AS steps
     WHERE action IN ('replay.pause', 'replay.failed', 'replay.built')
 ) rest
 CROSS JOIN LATERAL (
    SELECT coalesce(sum(matched), 0)::bigint AS matched, coalesce(sum(applied), 0)::bigint AS applied,
           coalesce(sum(already_applied), 0)::bigint AS already_applied, coalesce(sum(failed), 0)::bigint AS failed,
           coalesce(sum(erased), 0)::bigint AS erased, coalesce(sum(next - start), 0)::bigint AS passed,
           coalesce(sum("end" - start), 0)::bigint AS length
      FROM replay_checkpoints WHERE replay_id = r.id
 ) c
 WHERE r.id::text LIKE :prefix || '%' AND (r.consumer = :consumer OR :consumer = '')
   AND (r.state = :state OR :state = '')
   AND (CAST(:before AS timestamptz) IS NULL OR (r.planned_at, r.id) < (:before, CAST(:before_id AS uuid)))
 ORDER BY r.planned_at DESC, r.id DESC LIMIT :limit
""").columns(filter=JSONB, summary=JSONB)


@dataclass(frozen=True, slots=True)
class Range:
    """Offsets of one partition in a plan: `start` to `end` (exclusive), or only the offsets `places` in that range."""

    topic: str
    partition: int
    start: int
    end: int
    places: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """The records to replay. `filter`: the Selection and the request; `summary`: the counts made while planning."""

    consumer: str
    kind: Kind
    cluster_id: str
    filter: Mapping[str, Any]
    ranges: Sequence[Range]
    summary: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """A hash that is equal for plans of the same records."""
        ranges = sorted(map(asdict, self.ranges), key=lambda each: (each["topic"], each["partition"]))
        content = [self.consumer, self.kind, self.cluster_id, self.filter, ranges]
        return hashlib.blake2b(json.dumps(content, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay and its progress: `passed` of `length` offsets are read; the other counts are of events.

    `records_per_second` is the mean rate since its start, without the time in which it was paused, failed or built.
    """

    id: UUID
    consumer: str
    kind: Kind
    state: str
    filter: Mapping[str, Any]
    summary: Mapping[str, Any]
    plan_hash: str
    cluster_id: str
    rate: int | None
    max_errors: int
    swap: bool
    """For a rebuild: whether its tables replace the live ones once they were compared."""
    reason: str | None
    planned_by: str
    requested_by: str | None
    planned_at: datetime
    started_at: datetime | None
    ended_at: datetime | None
    error: str | None
    matched: int
    applied: int
    already_applied: int
    failed: int
    erased: int
    passed: int
    length: int
    records_per_second: float

    @property
    def counts(self) -> dict[str, int]:
        """The events handled so far, by outcome."""
        return {name: getattr(self, name) for name in OUTCOMES}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A replay's position in a partition: `next` is the first offset it has not read yet."""

    range: Range
    next: int
    failed: int

    @property
    def place(self) -> Place:
        """The topic and partition."""
        return self.range.topic, self.range.partition


async def create(session: AsyncSession, plan: Plan, who: str) -> Replay:
    """Store a plan; it does not start."""
    replay_id = uuid.uuid4()
    await session.execute(
        text("""
            INSERT INTO replays (id, consumer, kind, filter, summary, plan_hash, cluster_id, planned_by)
            VALUES (:id, :consumer, :kind, CAST(:filter AS jsonb), CAST(:summary AS jsonb), :hash, :cluster, :who)
        """),
        {
            "id": replay_id,
            "consumer": plan.consumer,
            "kind": plan.kind,
            "filter": json.dumps(plan.filter, default=str),
            "summary": json.dumps(plan.summary, default=str),
            "hash": plan.hash,
            "cluster": plan.cluster_id,
            "who": who,
        },
    )
    insert = text("""
        INSERT INTO replay_checkpoints (replay_id, topic, partition, start, "end", places, next)
        VALUES (:id, :topic, :partition, :start, :end, :places, :start)
    """)
    if plan.ranges:
        await session.execute(insert, [asdict(each) | {"id": replay_id} for each in plan.ranges])
    replay = await get(session, str(replay_id))
    await _note(session, replay, "plan", who, None)
    return replay


async def find(
    session: AsyncSession,
    prefix: str = "",
    *,
    consumer: str = "",
    state: str = "",
    limit: int = 50,
    before: tuple[datetime, UUID] | None = None,
) -> list[Replay]:
    """Replays whose id starts with `prefix`, newest first, starting after `before`: the time and id of a replay."""
    moment, replay_id = before or (None, None)
    values = {"prefix": prefix, "consumer": consumer, "state": state, "limit": limit}
    rows = await session.execute(_FIND, values | {"before": moment, "before_id": replay_id})
    return [Replay(**row) for row in rows.mappings()]


async def get(session: AsyncSession, prefix: str) -> Replay:
    """The replay whose id starts with `prefix`; raises NotFoundError if there is none or more than one."""
    matching = await find(session, prefix, limit=2)
    if len(matching) != 1:
        what = "several replays begin" if matching else "no replay begins"
        raise NotFoundError(f"{what} with {prefix}: see `touchpoint replay list`")
    return matching[0]


async def change(
    session: AsyncSession,
    prefix: str,
    action: Action,
    who: str,
    reason: str,
    *,
    rate: int | None = None,
    max_errors: int | None = None,
    swap: bool = False,
    drop_lost: bool = False,
) -> Replay:
    """Start, pause, resume, swap or abort a replay, with an audit entry. None keeps `rate` or `max_errors`.

    Waits for a batch that is being committed, so nothing is applied after a pause. Raises NotFoundError, and
    ConflictError if the replay is in the wrong state or another replay of the consumer is active.
    """
    before = await get(session, prefix)
    if drop_lost:
        await tell(session, before.id, {"drop_lost": True})
    elif action == "swap" and (why := last_copies(before)) is not None:
        raise ConflictError(why)
    allowed, state = _ACTIONS[action]
    update = text("""
        UPDATE replays SET state = :state, reason = :reason, requested_by = :who, error = NULL,
               rate = coalesce(:rate, rate), max_errors = coalesce(:max_errors, max_errors), swap = swap OR :swap,
               started_at = coalesce(started_at, CASE WHEN :state = 'running' THEN now() END),
               ended_at = CASE WHEN :state = 'aborted' THEN now() END
         WHERE id = :id AND state = ANY(:allowed)
        RETURNING id
    """)
    values = {"id": before.id, "state": state, "allowed": list(allowed), "reason": reason, "who": who}
    values |= {"rate": rate, "max_errors": max_errors, "swap": swap or action == "swap"}
    try:
        changed = (await session.execute(update, values)).all()
    except IntegrityError:
        raise ConflictError(
            f"another replay of {before.consumer} is under way: wait for it, or abort it (`touchpoint replay list`)"
        ) from None
    after = await get(session, str(before.id))
    if not changed:
        raise ConflictError(f"replay {after.id} is {after.state}: {action} is for one that is {' or '.join(allowed)}")
    await _note(session, after, action, who, reason)
    return after


def last_copies(replay: Replay) -> str | None:
    """The reason to refuse a swap: it would drop events that exist in the live tables only. None if it may proceed."""
    count = replay.summary.get("compared", {}).get("only_here", 0)
    if not count or replay.summary.get("drop_lost"):
        return None
    return (
        f"the live tables hold the last copy of {count:,} events that Kafka has lost, and a swap deletes them: have "
        "them sent again first (docs/runbooks/log-lost.md); --drop-lost swaps all the same."
    )


async def running(session: AsyncSession, consumer: str) -> Replay | None:
    """The consumer's replay in the state `running`; None if there is none."""
    replays = await find(session, consumer=consumer, state="running", limit=1)
    return replays[0] if replays else None


async def checkpoints(session: AsyncSession, replay_id: UUID) -> list[Checkpoint]:
    """The checkpoints of a replay in all its partitions."""
    rows = await session.execute(
        text("""
            SELECT topic, partition, start, "end", places, next, failed FROM replay_checkpoints
             WHERE replay_id = :id ORDER BY topic, partition
        """),
        {"id": replay_id},
    )
    return [Checkpoint(Range(*row[:5]), row.next, row.failed) for row in rows]


async def follow(session: AsyncSession, replay_id: UUID) -> None:
    """Extend a rebuild to the live consumer's current position in every partition, including new partitions."""
    further = text("""
        INSERT INTO replay_checkpoints AS c (replay_id, topic, partition, start, "end", next)
        SELECT r.id, o.topic, o.partition, 0, o.next, 0
          FROM replays r JOIN offsets o USING (consumer) WHERE r.id = :id
        ON CONFLICT (replay_id, topic, partition) DO UPDATE SET "end" = excluded."end" WHERE c."end" < excluded."end"
    """)
    await session.execute(further, {"id": replay_id})


async def behind(session: AsyncSession, replay: Replay) -> int:
    """The number of offsets by which a rebuild is behind the live consumer."""
    ahead = text("""
        SELECT coalesce(sum(o.next - coalesce(c.next, 0)), 0)::bigint
          FROM offsets o
          LEFT JOIN replay_checkpoints c ON (c.replay_id, c.topic, c.partition) = (:id, o.topic, o.partition)
         WHERE o.consumer = :consumer
    """)
    number: int = (await session.execute(ahead, {"id": replay.id, "consumer": replay.consumer})).scalar_one()
    return number


async def tell(session: AsyncSession, replay_id: UUID, facts: Mapping[str, Any]) -> None:
    """Add facts to the summary of a replay."""
    add = text("UPDATE replays SET summary = summary || CAST(:found AS jsonb) WHERE id = :id")
    await session.execute(add, {"id": replay_id, "found": json.dumps(facts, default=str)})


async def end(
    session: AsyncSession,
    replay_id: UUID,
    who: str,
    error: str | None = None,
    *,
    state: Literal["done", "built"] = "done",
) -> bool:
    """End a running replay as done, built, or failed with `error`, with its counts in the audit trail.

    Returns False, without a change, if it is not running or, unless it failed, has records left to read.
    """
    ended = text("""
        UPDATE replays SET state = :state, error = :error, ended_at = now()
         WHERE id = :id AND state = 'running'
           AND (:state = 'failed' OR NOT EXISTS (
                SELECT 1 FROM replay_checkpoints WHERE replay_id = :id AND next < "end"))
        RETURNING id
    """)
    now = state if error is None else "failed"
    if not (await session.execute(ended, {"id": replay_id, "state": now, "error": error})).all():
        return False
    await _note(session, await get(session, str(replay_id)), now, who, error)
    return True


async def _note(session: AsyncSession, replay: Replay, action: str, who: str, reason: str | None) -> None:
    details = {"kind": replay.kind, "filter": replay.filter}
    columns = {"reason": reason, "plan_id": replay.id, "plan_hash": replay.plan_hash, **replay.counts}
    await audit.add(session, who, f"replay.{action}", replay.consumer, details, **columns)
