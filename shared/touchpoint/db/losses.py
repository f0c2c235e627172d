"""Records that Kafka has lost: stored when a consumer detects the loss, and accepted by an operator."""

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from uuid import UUID

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base.errors import ConflictError

Span = tuple[str, int, int, int]
"""Topic, partition, first offset, and the offset after the last."""


@dataclass(frozen=True, slots=True)
class Loss:
    """The lost offsets of one partition: `first` to `until` (exclusive). Reading resumes at `resume_at`.

    `topic_id` and `cluster_id` identify the log that exists now.
    """

    topic: str
    partition: int
    first: int
    until: int
    resume_at: int
    cluster_id: str
    topic_id: UUID
    why: str

    @property
    def name(self) -> str:
        """The name by which an operator accepts the loss: `topic/partition/first-last`.

        If the log was replaced but no offset is lost, it ends in `none`.
        """
        offsets = f"{self.first}-{self.until - 1}" if self.first < self.until else "none"
        return f"{self.topic}/{self.partition}/{offsets}"


_NOTE = text("""
INSERT INTO log_losses AS known
       (consumer, topic, partition, first, until, resume_at, cluster_id, topic_id, why)
VALUES (:consumer, :topic, :partition, :first, :until, :resume_at, :cluster_id, :topic_id, :why)
ON CONFLICT (consumer, topic, partition) WHERE accepted_at IS NULL DO UPDATE
   SET first = excluded.first, until = excluded.until, resume_at = excluded.resume_at,
       cluster_id = excluded.cluster_id, topic_id = excluded.topic_id, why = excluded.why
""")

_OPEN = text("""
SELECT topic, partition, first, until, resume_at, cluster_id, topic_id, why FROM log_losses
 WHERE consumer = :consumer AND accepted_at IS NULL ORDER BY topic, partition
""")

# Events applied from lost offsets that are missing in the schema `{made}`, which was rebuilt from the log.
_ONLY_HERE = """
SELECT count(DISTINCT i.event_id)
  FROM log_losses l JOIN public.inbox i USING (consumer, topic, partition)
 WHERE consumer = $1 AND i."offset" >= l.first AND i."offset" < l.until
   AND NOT EXISTS (SELECT FROM {made}.inbox m WHERE m.event_id = i.event_id AND m.consumer = i.consumer)
"""

_ACCEPT = text("""
UPDATE log_losses SET accepted_at = now(), accepted_by = :who WHERE consumer = :consumer AND accepted_at IS NULL
""")

# `read_through` is reset: records appended at reused offsets have not been applied.
_GO_ON = text("""
UPDATE offsets
   SET next = :resume_at, cluster_id = :cluster_id, topic_id = :topic_id, last_offset = NULL,
       last_record = NULL, read_through = NULL, updated_at = now()
 WHERE consumer = :consumer AND topic = :topic AND partition = :partition
""")

# The position of a lost dead letter now holds another record, which a redrive must not read instead.
_CLOSE_LETTERS = text("""
UPDATE dead_letters
   SET state = 'discarded', closed_at = now(),
       closed_reason = 'Kafka has lost the record; its copy is in the dead-letter topic'
 WHERE consumer = :consumer AND topic = :topic AND partition = :partition AND state = 'open'
   AND "offset" >= :first AND "offset" < :until
""")

# A replay planned for lost offsets would read other records.
_ABORT_REPLAYS = text("""
UPDATE replays SET state = 'aborted', ended_at = now(), error = 'Kafka has lost records it was planned for'
 WHERE consumer = :consumer AND (state IN ('planned', 'running', 'paused', 'built')
                                 OR (kind = 'rebuild' AND state = 'failed'))
   AND EXISTS (
       SELECT FROM replay_checkpoints c
        WHERE c.replay_id = replays.id AND c.topic = :topic AND c.partition = :partition AND c."end" > :first)
RETURNING id
""")


async def note(session: AsyncSession, consumer: str, losses: Iterable[Loss]) -> None:
    """Record losses that a consumer has detected; the consumer halts until an operator accepts them."""
    for loss in losses:
        await session.execute(_NOTE, {"consumer": consumer, **asdict(loss)})


async def unaccepted(session: AsyncSession, consumer: str) -> Sequence[Loss]:
    """The consumer's losses that no operator has accepted yet."""
    return [Loss(**row) for row in (await session.execute(_OPEN, {"consumer": consumer})).mappings()]


async def spans(raw: asyncpg.Connection, consumer: str) -> list[Span]:
    """All losses of the consumer, accepted or not."""
    query = "SELECT topic, partition, first, until FROM log_losses WHERE consumer = $1"
    return [tuple(row) for row in await raw.fetch(query, consumer)]


async def only_here(raw: asyncpg.Connection, consumer: str, made: str) -> int:
    """The number of events lost by Kafka that are in the live tables but not in the rebuilt schema `made`."""
    if not await spans(raw, consumer):
        return 0
    number: int = await raw.fetchval(_ONLY_HERE.format(made=made), consumer)
    return number


async def accept(session: AsyncSession, consumer: str, names: Sequence[str], who: str) -> Sequence[Loss]:
    """Accept all losses of the consumer and move its offsets to `resume_at`; returns the accepted losses.

    Raises ConflictError, which lists the losses, if `names` are not exactly theirs.
    """
    lost = await unaccepted(session, consumer)
    if sorted(names) != sorted(loss.name for loss in lost):
        raise ConflictError(_refusal(consumer, lost))
    for loss in lost:
        values = {"consumer": consumer, **asdict(loss)}
        await session.execute(_GO_ON, values)
        await session.execute(_CLOSE_LETTERS, values)
        await session.execute(_ABORT_REPLAYS, values)
    await session.execute(_ACCEPT, {"consumer": consumer, "who": who})
    return lost


def _refusal(consumer: str, lost: Sequence[Loss]) -> str:
    if not lost:
        return f"{consumer} misses no records of Kafka: leave --accept-loss out"
    flags = " ".join(f"--accept-loss {loss.name}" for loss in lost)
    return (
        f"Kafka has lost records that {consumer} counts on ({lost[0].why}). Read docs/runbooks/log-lost.md. To go on "
        f"without them: {flags}"
    )
