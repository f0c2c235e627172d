"""Replays as rows: the plan with its frozen ranges, where the work stands, and every step in the audit."""

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
"""So many events may fail in a replay before it stops, unless it is told otherwise."""

OUTCOMES = ("matched", "applied", "already_applied", "failed", "erased")
"""What a replay counts: the first is the sum of the others, and the tables refuse anything else."""

Kind = Literal["repair", "redrive", "rebuild"]
Action = Literal["run", "pause", "resume", "swap", "abort"]

_ACTIONS: dict[Action, tuple[tuple[str, ...], str]] = {
    "run": (("planned",), "running"),
    "pause": (("running",), "paused"),
    "resume": (("paused", "failed"), "running"),
    "swap": (("built",), "running"),
    "abort": (("planned", "running", "paused", "built", "failed"), "aborted"),
}
"""What may be done in which states, and the state it leads to."""

_FOUND = text("""
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
    """A partition's part of a plan: all from `start` up to `end`, which is outside; or only `places` among them."""

    topic: str
    partition: int
    start: int
    end: int
    places: Sequence[int] | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be replayed. `filter` is a Selection and what was asked for; `summary` what was counted."""

    consumer: str
    kind: Kind
    cluster_id: str
    filter: Mapping[str, Any]
    ranges: Sequence[Range]
    summary: Mapping[str, Any]

    @property
    def hash(self) -> str:
        """Equal for plans that mean the same records."""
        ranges = sorted(map(asdict, self.ranges), key=lambda one: (one["topic"], one["partition"]))
        meant = [self.consumer, self.kind, self.cluster_id, self.filter, ranges]
        return hashlib.blake2b(json.dumps(meant, sort_keys=True, default=str).encode(), digest_size=8).hexdigest()


@dataclass(frozen=True, slots=True)
class Replay:
    """A replay as it stands. `passed` of `length` offsets are behind it; the other counts are of events.

    `records_per_second` are those passed since its start, the time it was paused, failed or built left out.
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
    """Of a rebuild: whether it is to be put in the place of what is live, once it was compared."""
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
        """What became of the events so far."""
        return {name: getattr(self, name) for name in OUTCOMES}


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where a replay stands in a partition: `next` is the first offset it has not yet passed."""

    range: Range
    next: int
    failed: int

    @property
    def place(self) -> Place:
        """The topic and partition."""
        return self.range.topic, self.range.partition


async def create(session: AsyncSession, plan: Plan, who: str) -> Replay:
    """Keep a plan; nothing happens yet."""
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
        await session.execute(insert, [asdict(one) | {"id": replay_id} for one in plan.ranges])
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
    """Replays whose id begins so, the newest first; the list goes on behind `before`, the time and id of one."""
    moment, replay_id = before or (None, None)
    values = {"prefix": prefix, "consumer": consumer, "state": state, "limit": limit}
    rows = await session.execute(_FOUND, values | {"before": moment, "before_id": replay_id})
    return [Replay(**row) for row in rows.mappings()]


async def get(session: AsyncSession, prefix: str) -> Replay:
    """The one replay whose id begins so; raises NotFoundError when there is none, or more than one."""
    found = await find(session, prefix, limit=2)
    if len(found) != 1:
        what = "several replays begin" if found else "no replay begins"
        raise NotFoundError(f"{what} with {prefix}: see `touchpoint replay list`")
    return found[0]


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
    """Start a planned replay, pause, resume, swap or abort it; the audit has it. None: rate and errors as they were.

    Waits for a batch that is being committed: afterwards nothing is applied behind a pause. Raises
    NotFoundError, and ConflictError where it is in another state, or another one is under way.
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
    """Why a rebuild is not to be put in place: events are in the live tables only, and nobody said to drop them."""
    count = replay.summary.get("compared", {}).get("only_here", 0)
    if not count or replay.summary.get("drop_lost"):
        return None
    return (
        f"the live tables hold the last copy of {count:,} events that Kafka has lost, and a swap deletes them: have "
        "them sent again first (docs/runbooks/log-lost.md); --drop-lost swaps all the same."
    )


async def running(session: AsyncSession, consumer: str) -> Replay | None:
    """The consumer's replay that is to be worked on."""
    found = await find(session, consumer=consumer, state="running", limit=1)
    return found[0] if found else None


async def checkpoints(session: AsyncSession, replay_id: UUID) -> list[Checkpoint]:
    """Where it stands in every partition."""
    rows = await session.execute(
        text("""
            SELECT topic, partition, start, "end", places, next, failed FROM replay_checkpoints
             WHERE replay_id = :id ORDER BY topic, partition
        """),
        {"id": replay_id},
    )
    return [Checkpoint(Range(*row[:5]), row.next, row.failed) for row in rows]


async def follow(session: AsyncSession, replay_id: UUID) -> None:
    """Let a rebuild go as far as its live consumer stands now, in every partition that one has come to know."""
    further = text("""
        INSERT INTO replay_checkpoints AS c (replay_id, topic, partition, start, "end", next)
        SELECT r.id, o.topic, o.partition, 0, o.next, 0
          FROM replays r JOIN offsets o USING (consumer) WHERE r.id = :id
        ON CONFLICT (replay_id, topic, partition) DO UPDATE SET "end" = excluded."end" WHERE c."end" < excluded."end"
    """)
    await session.execute(further, {"id": replay_id})


async def behind(session: AsyncSession, replay: Replay) -> int:
    """How many records the live consumer is ahead of a rebuild."""
    ahead = text("""
        SELECT coalesce(sum(o.next - coalesce(c.next, 0)), 0)::bigint
          FROM offsets o
          LEFT JOIN replay_checkpoints c ON (c.replay_id, c.topic, c.partition) = (:id, o.topic, o.partition)
         WHERE o.consumer = :consumer
    """)
    found: int = (await session.execute(ahead, {"id": replay.id, "consumer": replay.consumer})).scalar_one()
    return found


async def tell(session: AsyncSession, replay_id: UUID, found: Mapping[str, Any]) -> None:
    """Add to what a replay says of itself."""
    add = text("UPDATE replays SET summary = summary || CAST(:found AS jsonb) WHERE id = :id")
    await session.execute(add, {"id": replay_id, "found": json.dumps(found, default=str)})


async def end(
    session: AsyncSession,
    replay_id: UUID,
    who: str,
    error: str | None = None,
    *,
    state: Literal["done", "built"] = "done",
) -> bool:
    """A running replay is done or built, or has failed with this error; the audit has its counts.

    False, and nothing happens, when it does not run.
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
    said = {"reason": reason, "plan_id": replay.id, "plan_hash": replay.plan_hash, **replay.counts}
    await audit.add(session, who, f"replay.{action}", replay.consumer, details, **said)
