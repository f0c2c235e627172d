"""One set of events, read in any order: what tests of "the state is a function of the set of events" share."""

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
"""How often such a test looks for an exception: 30 sets of events, or as many as ORDER_EXAMPLES says."""

LATELY = datetime.now(UTC).replace(hour=12, minute=0, second=0, microsecond=0) - timedelta(days=4)
"""A noon so long ago that by now every clock of these tests has run out."""

moments = st.sampled_from([-7200, -301, -300, -299, -1, -0.5, 0, 0, 0.5, 1, 60, 600, 900, 901, 3600, 86_400]).map(
    lambda seconds: LATELY + timedelta(seconds=seconds)
)
"""Times around an opening at noon: long before, at either side of what clocks may differ by, equal, in time, late."""


def numbered(specs: Sequence[tuple[str, dict[str, Any]]], tenant: str = make.TENANT) -> list[Event]:
    """An event of each: the factory's name and what it is given. Ids, places in the log and times of recording differ.

    A customer's events lie in one partition, as in Kafka.
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
    """All of these events in some order, some of them again, cut into batches."""

    @st.composite
    def reading(draw: st.DrawFn) -> list[list[Event]]:
        again = draw(st.lists(st.sampled_from(events), max_size=3)) if events else []
        order = draw(st.permutations([*events, *again]))
        cuts = sorted(draw(st.sets(st.integers(1, max(1, len(order))), max_size=4)))
        return [order[start:end] for start, end in zip([0, *cuts], [*cuts, len(order)], strict=True)]

    return reading()


async def deliver(handlers: Handlers, sessions: Sessions, batch: Sequence[Event]) -> None:
    """Give a batch to the handlers behind the inbox, as a consumer does: what came before is left out."""
    async with transaction(sessions) as session:
        claims = [Claim.of(event, encode(event)) for event in batch]
        claimed = await inbox.claim(await raw_connection(session), "tests", claims)
        fresh = [handlers.prepare(event) for index, event in enumerate(batch) if index in claimed.new]
        await handlers.handle(fresh, Context(session))


async def state_after(subject: Subject, sessions: Sessions, reading: Sequence[Sequence[Event]]) -> dict[str, list[str]]:
    """The rows of a service's projections, as `touchpoint verify` compares them, after it read these batches alone."""
    async with transaction(sessions) as session:
        for table in (*subject.tables, "inbox", "outbox"):
            await session.execute(text(f"DELETE FROM {table}"))  # noqa: S608 (our own)
    for batch in reading:
        await deliver(subject.handlers, sessions, batch)
    async with transaction(sessions) as session:
        return {
            effect.name: sorted(
                str(tuple(row)) for row in await session.execute(text(effect.query.format(tables="public")))
            )
            for effect in subject.effects
        }
