"""Lets a consumer pass a place in the log that stops it, on an operator's word: a dead letter and the trail keep it."""

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

MOST = 1_000_000
"""Offsets to pass at once."""


async def resume(
    session: AsyncSession,
    consumer: str,
    new: ConsumerState,
    who: str,
    *,
    past: Span | None = None,
    accept_loss: Sequence[str] = (),
) -> str:
    """Let a consumer go on, behind the offsets `past` if given; returns the state it was in.

    Raises NotFoundError, and ConflictError when it does not stand at the first of these offsets or counts on records
    that Kafka has lost and `accept_loss` does not name.
    """
    before = await consumers.change(session, consumer, new, who, accept_loss=accept_loss)
    if past is not None:
        await _pass_over(session, consumer, past, who, new.reason or "")
    return before


async def _pass_over(session: AsyncSession, consumer: str, span: Span, who: str, reason: str) -> None:
    """Have a consumer go on behind these offsets, which it has not applied. They become one dead letter.

    Raises ConflictError when the consumer does not stand at the first of them.
    """
    topic, partition, first, end = span.topic, span.partition, span.offsets.start, span.offsets.stop
    if not 0 < len(span.offsets) <= MOST:
        raise ConflictError(f"pass over 1 to {MOST:,} offsets, not {len(span.offsets):,}")
    try:
        await offsets.advance(await raw_connection(session), consumer, [Move(topic, partition, first, end)])
    except FenceLostError:
        raise ConflictError(
            f"{consumer} does not stand at {topic}/{partition}/{first}: `touchpoint consumer list` says where it halted"
        ) from None
    said = f"an operator passed over offsets {first} to {end - 1}: {reason}"
    record = Record(topic, b"", b"", [], partition, end - 1)
    await dead_letter.write(session, consumer, [DeadLetter(record, "read", "PassedOver", said)])
    details = {"topic": topic, "partition": partition, "first": first, "last": end - 1}
    await audit.add(session, who, "consumer.pass", consumer, details, reason=reason)
