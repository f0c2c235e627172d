"""Helpers for property tests that the state depends on the set of events, not on the order they are read in."""

import os
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from sqlalchemy import text

from touchpoint.contracts.base import Event
from touchpoint.contracts.record import encode
from touchpoint.db import inbox
from touchpoint.db.engine import Sessions, raw_connection, transaction
from touchpoint.db.inbox import Claim
from touchpoint.kafka.handlers import Context, Handlers
from touchpoint.testing import factories as make
from touchpoint.verify.subject import Subject

any_order = settings(
    max_examples=int(os.environ.get("ORDER_EXAMPLES", "30")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
"""Hypothesis settings of such tests: 30 examples, or ORDER_EXAMPLES."""

LATELY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=4)
"""Noon four days ago, so that every SLA clock of these tests has expired."""

moments = st.sampled_from([-7200, -301, -300, -299, -1, -0.5, 0, 0, 0.5, 1, 60, 600, 900, 901, 3600, 86_400]).map(
    lambda seconds: LATELY + timedelta(seconds=seconds)
)
"""Times around a ticket's opening at noon: long before, just within and beyond CLOCKS_DIFFER, equal, in time, late."""


def numbered(specs: Sequence[tuple[str, dict[str, Any]]], tenant: str = make.TENANT) -> list[Event]:
    """An event per spec, which is a factory's name and its arguments. Ids, offsets and times of recording differ.

    All events of a customer are in one partition, as in Kafka.
    """
    partitions: dict[Any, int] = {}
    return [
        getattr(make, of)(
            tenant=tenant,
            id=f"e-{number}",
            topic="touchpoints.v1",
            partition=partitions.setdefault(over.get("customer_id"), len(partitions)),
            offset=number,
            **{"recorded": LATELY + timedelta(days=3, seconds=number // 3)} | over,
        )
        for number, (of, over) in enumerate(specs)
    ]


def readings(events: Sequence[Event]) -> st.SearchStrategy[list[list[Event]]]:
    """A strategy for readings of these events: in any order, some of them repeated, split into batches."""

    @st.composite
    def reading(draw: st.DrawFn) -> list[list[Event]]:
        again = draw(st.lists(st.sampled_from(events), max_size=3)) if events else []
        order = draw(st.permutations([*events, *again]))
        cuts = sorted(draw(st.sets(st.integers(1, max(1, len(order))), max_size=4)))
        return [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]

    return reading()


async def deliver(handlers: Handlers, sessions: Sessions, batch: Sequence[Event]) -> None:
    """Pass a batch to the handlers as a consumer does: duplicates are left out by the inbox."""
    async with transaction(sessions) as session:
        claims = [Claim.of(event, encode(event)) for event in batch]
        claimed = await inbox.claim(await raw_connection(session), "tests", claims)
        fresh = [handlers.prepare(event) for index, event in enumerate(batch) if index in claimed.new]
        await handlers.handle(fresh, Context(session))


async def state_after(subject: Subject, sessions: Sessions, reading: Sequence[Sequence[Event]]) -> dict[str, list[str]]:
    """The rows of a service's projections, as `touchpoint verify` compares them, after reading only these batches."""
    async with transaction(sessions) as session:
        for table in (*subject.tables, "inbox", "outbox"):
            await session.execute(text(f"DELETE FROM {table}"))  # noqa: S608 (no user input)
    for batch in reading:
        await deliver(subject.handlers, sessions, batch)
    async with transaction(sessions) as session:
        return {
            effect.name: sorted(
                str(tuple(row)) for row in await session.execute(text(effect.query.format(tables="public")))
            )
            for effect in subject.effects
        }
