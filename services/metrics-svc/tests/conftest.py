from collections.abc import Awaitable, Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import strategies as st
from sqlalchemy import text

from touchpoint.contracts.base import Event
from touchpoint.db.engine import Sessions
from touchpoint.testing import eventually
from touchpoint.testing import factories as make


@pytest.fixture(scope="session")
def package() -> str:
    """Package of the service whose database, sessions and API clients the shared fixtures provide."""
    return "metrics_svc"


WAITING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"


@pytest.fixture(scope="session")
def waiting() -> Callable[[Sessions], Awaitable[None]]:
    """A function that returns once a transaction on this database waits for a lock that another one holds."""

    async def until(sessions: Sessions) -> None:
        async def somebody() -> bool:
            async with sessions() as observer:
                return bool((await observer.execute(text(WAITING))).scalar_one())

        await eventually(somebody)

    return until


Fact = tuple[Any, ...]
"""The key of a count: tenant, metric, quarter of an hour, scale, channel, segment, tier."""

TIMES = {
    "first-response": lambda event: event.type == "ticket.replied" and event.author == "agent" and event.public,
    "resolution": lambda event: event.type == "ticket.status_changed" and event.status in ("resolved", "closed"),
}


def _group_at(log: Sequence[Any], place: int) -> tuple[str, str]:
    """Segment and tier of an event's customer at its time: each as last given by then, or else as first given."""
    event = log[place]
    if event.customer_id is None:
        return "unknown", "unknown"
    changes = sorted(
        (
            other
            for other in log
            if other.type == "customer.updated"
            and (other.meta.tenant, other.customer_id) == (event.meta.tenant, event.customer_id)
        ),
        key=lambda other: (other.meta.time, other.meta.recorded, other.meta.identity),
    )
    segment, tier = (
        [getattr(other, name) or "unknown" for other in changes if name in other.model_fields_set][:1]
        + [
            getattr(other, name) or "unknown"
            for other in changes
            if name in other.model_fields_set and other.meta.time <= event.meta.time
        ]
        for name in ("segment", "tier")
    )
    return (segment or ["unknown"])[-1], (tier or ["unknown"])[-1]


def _quarter(moment: datetime) -> datetime:
    return datetime.fromtimestamp(moment.timestamp() // 900 * 900, UTC)


def _scores(log: Sequence[Any]) -> Iterator[tuple[Fact, int]]:
    for place, event in enumerate(log):
        if event.type == "feedback.submitted" and event.kind in ("nps", "csat", "ces"):
            scale = f"{event.score.min:.0f}-{event.score.max:.0f}"
            about = (
                event.meta.tenant,
                event.kind,
                _quarter(event.meta.time),
                scale,
                event.channel,
                *_group_at(log, place),
            )
            yield about, int(event.score.value)


def _times(log: Sequence[Any]) -> Iterator[tuple[Fact, int]]:
    for tenant, ticket in {(e.meta.tenant, e.ticket_id) for e in log if e.type.startswith("ticket.")}:
        places = [n for n, e in enumerate(log) if (e.meta.tenant, getattr(e, "ticket_id", None)) == (tenant, ticket)]
        openings = [
            (log[n].meta.time, log[n].meta.recorded, log[n].meta.identity, log[n].channel, *_group_at(log, n))
            for n in places
            if log[n].type == "ticket.opened"
        ]
        for metric, ends in TIMES.items():
            reached = [log[n].meta.time for n in places if ends(log[n])]
            if openings and reached:
                opened, _, _, *about = min(openings)
                end = min((end for end in reached if end >= opened - timedelta(minutes=5)), default=None)
                if end is not None:
                    took = round((end - opened).total_seconds() * 1_000_000)
                    yield (tenant, metric, _quarter(end), "", *about), max(0, took)


@pytest.fixture(scope="session")
def recount() -> Callable[[Sequence[Event]], dict[Fact, list[int]]]:
    """A function that computes every score and duration (in µs) of a log by key, without the service's code."""

    def facts(log: Sequence[Event]) -> dict[Fact, list[int]]:
        facts_by_key: dict[Fact, list[int]] = {}
        for about, value in [*_scores(log), *_times(log)]:
            facts_by_key.setdefault(about, []).append(value)
        return facts_by_key

    return facts


Log = list[Event]


@pytest.fixture(scope="session")
def logs() -> Callable[[str], st.SearchStrategy[Log]]:
    """Strategies for logs of a tenant with few customers, tickets and hours; each customer has its own partition."""
    spread = {"customer_id": st.sampled_from(["c0", "c1", "c2"]), "minutes": st.integers(-150, 150)}
    values = st.sampled_from([None, "smb", "enterprise"])
    tickets = spread | {"ticket_id": st.sampled_from(["t0", "t1", "t2"])}
    channels = st.sampled_from(["email", "chat"])
    specs = st.one_of(
        st.fixed_dictionaries(
            {"of": st.just("customer_updated"), **spread}, optional={"segment": values, "tier": values}
        ),
        st.fixed_dictionaries({"of": st.just("feedback"), **spread, "score": st.integers(0, 10), "channel": channels}),
        st.fixed_dictionaries(
            {"of": st.just("feedback"), **spread, "kind": st.sampled_from(["csat", "ces"]), "score": st.integers(1, 5)}
        ),
        st.fixed_dictionaries({"of": st.just("ticket_opened"), **tickets, "channel": channels}),
        st.fixed_dictionaries(
            {
                "of": st.just("ticket_replied"),
                **tickets,
                "author": st.sampled_from(["agent", "agent", "bot", "customer"]),
            },
            optional={"public": st.booleans()},
        ),
        st.fixed_dictionaries(
            {
                "of": st.just("ticket_status_changed"),
                **tickets,
                "status": st.sampled_from(["resolved", "closed", "open"]),
            }
        ),
    )

    def event(tenant: str, of: str, minutes: int, **over: Any) -> Event:
        place = {
            "tenant": tenant,
            "time": make.NOON + timedelta(minutes=minutes),
            "partition": int(over["customer_id"][1]),
        }
        made: Event = getattr(make, of)(**over, **place)
        return made

    return lambda tenant: st.lists(specs.map(lambda spec: event(tenant, **spec)), max_size=40)
