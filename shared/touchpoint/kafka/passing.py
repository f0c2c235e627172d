"""Lets a consumer skip offsets that halt it, by order of an operator; a dead letter and the audit trail record it."""

from collections.abc import Sequence

from sqlalchemy.ext.asyncio import AsyncSession

from touchpoint.base.errors import ConflictError
from touchpoint.base.parsing import Span
from touchpoint.contracts.record import Record
from touchpoint.db import audit, consumers, offsets
from touchpoint.db.consumers import ConsumerState
from touchpoint.db.engine import raw_connection
from touchpoint.db.offsets import FenceLostError, Move
from touchpoint.kafka import dead_letter
from touchpoint.kafka.dead_letter import DeadLetter

MAX_OFFSETS = 1_000_000
"""The most offsets to skip at once."""


async def resume(
    session: AsyncSession,
    consumer: str,
    new: ConsumerState,
    who: str,
    *,
    past: Span | None = None,
    accept_loss: Sequence[str] = (),
) -> str:
    """Resume a consumer, after the offsets `past` if given; returns its previous state.

    Raises NotFoundError for an unknown consumer. Raises ConflictError if its next offset is not the first of `past`, or
    if Kafka has lost records of it that `accept_loss` does not name.
    """
    before = await consumers.change(session, consumer, new, who, accept_loss=accept_loss)
    if past is not None:
        await _pass_over(session, consumer, past, who, new.reason or "")
    return before


async def _pass_over(session: AsyncSession, consumer: str, span: Span, who: str, reason: str) -> None:
    """Advance a consumer past these offsets, which it has not applied, and record them as one dead letter.

    Raises ConflictError if its next offset is not the first of them.
    """
    topic, partition, first, end = span.topic, span.partition, span.offsets.start, span.offsets.stop
    if not 0 < len(span.offsets) <= MAX_OFFSETS:
        raise ConflictError(f"pass over 1 to {MAX_OFFSETS:,} offsets, not {len(span.offsets):,}")
    try:
        await offsets.advance(await raw_connection(session), consumer, [Move(topic, partition, first, end)])
    except FenceLostError:
        raise ConflictError(
            f"{topic}/{partition}/{first} is not the next offset of {consumer}: "
            "`touchpoint consumer list` shows where it halted"
        ) from None
    passed = f"an operator passed over offsets {first} to {end - 1}: {reason}"
    record = Record(topic, b"", b"", [], partition, end - 1)
    await dead_letter.write(session, consumer, [DeadLetter(record, "read", "PassedOver", passed)])
    details = {"topic": topic, "partition": partition, "first": first, "last": end - 1}
    await audit.add(session, who, "consumer.pass", consumer, details, reason=reason)
