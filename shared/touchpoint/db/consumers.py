"""Whether a consumer may work: running, paused by an operator, or halted by itself; kept in its database."""

from dataclasses import dataclass
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession

State = Literal["running", "paused", "halted"]


@dataclass(frozen=True, slots=True)
class ConsumerState:
    """A consumer's state and why."""

    state: State
    reason: str | None


async def state(session: AsyncSession, consumer: str) -> ConsumerState:
    """Running unless something says otherwise."""
    found = text("SELECT state, reason FROM consumers WHERE consumer = :consumer")
    row = (await session.execute(found, {"consumer": consumer})).one_or_none()
    return ConsumerState(row.state, row.reason) if row else ConsumerState("running", None)


async def set_state(session: AsyncSession, consumer: str, new: ConsumerState) -> None:
    """Change a consumer's state; every process of the consumer follows within a second."""
    change = text("""
        INSERT INTO consumers (consumer, state, reason) VALUES (:consumer, :state, :reason)
        ON CONFLICT (consumer) DO UPDATE SET state = excluded.state, reason = excluded.reason, since = now()
    """)
    await session.execute(change, {"consumer": consumer, "state": new.state, "reason": new.reason})
