import json
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from feedback_svc.feedback import models as feedback
from feedback_svc.feedback.schemas import feedback_read
from feedback_svc.handlers import handlers
from feedback_svc.timeline import models as timeline
from feedback_svc.timeline.schemas import entry_read
from touchpoint.contracts.touchpoints import FeedbackSubmitted
from touchpoint.db.engine import Sessions, create_engine
from touchpoint.db.listing import Listing
from touchpoint.db.roles import api_role
from touchpoint.db.tenants import Tenants
from touchpoint.http.pagination import PageQuery, page
from touchpoint.testing import apply
from touchpoint.testing import factories as make

# All examples share one database; each uses a tenant of its own, so their rows do not mix.
one_database = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
hours = st.lists(st.integers(0, 5), max_size=25)
"""Few different times, so that rows often have equal times and are ordered by id."""


LISTS: dict[str, tuple[Listing[Any], Any, dict[str, str]]] = {
    "feedback": (feedback.NEWEST_FIRST, feedback_read, {}),
    "timeline": (timeline.NEWEST_FIRST, entry_read, {"customer_id": "customer-1"}),
}


def given_at(tenant: str, offsets: Sequence[int]) -> list[FeedbackSubmitted]:
    return [make.feedback(tenant=tenant, time=make.NOON + timedelta(hours=offset)) for offset in offsets]


def newest_first(events: Sequence[FeedbackSubmitted]) -> list[Any]:
    ordered = sorted(events, key=lambda event: (event.meta.time, event.meta.identity), reverse=True)
    return [event.meta.identity for event in ordered]


@pytest.fixture
async def tenants(dsn: str) -> AsyncIterator[Tenants]:
    """The API's access to rows, without index scans: only ORDER BY can give the order, not an index by accident."""
    engine = create_engine(dsn, "tests", role=api_role("feedback_svc"), enable_indexscan="off")
    yield Tenants(engine)
    await engine.dispose()


async def read(tenants: Tenants, what: str, tenant: str, limit: int, cursor: str | None) -> tuple[list[UUID], Any]:
    query = PageQuery(limit=limit, cursor=cursor)
    listing, answer, of = LISTS[what]
    rows = await listing.read(tenants, tenant, query.selection().where(**of))
    body = json.loads(page(rows, limit, listing.order, answer).body)
    return [UUID(item["id"]) for item in body["items"]], body["next_cursor"]


@one_database
@given(offsets=hours, limit=st.integers(1, 7), what=st.sampled_from(["feedback", "timeline"]))
async def test_pages_of_any_size_add_up_to_the_whole_list(
    sessions: Sessions, tenants: Tenants, offsets: list[int], limit: int, what: str
) -> None:
    tenant = uuid4().hex
    events = given_at(tenant, offsets)
    await apply(handlers, sessions, events)
    seen, cursor = await read(tenants, what, tenant, limit, None)
    while cursor is not None:
        more, cursor = await read(tenants, what, tenant, limit, cursor)
        assert more, "next_cursor led to an empty page"
        seen += more
    assert seen == newest_first(events)


@one_database
@given(offsets=hours, arriving=st.lists(st.integers(-1, 6), max_size=10), limit=st.integers(1, 4))
async def test_rows_inserted_between_pages_cause_no_repeated_and_no_missing_row(
    sessions: Sessions, tenants: Tenants, offsets: list[int], arriving: list[int], limit: int
) -> None:
    tenant = uuid4().hex
    events, late = given_at(tenant, offsets), given_at(tenant, arriving)
    await apply(handlers, sessions, events)
    seen, cursor = await read(tenants, "feedback", tenant, limit, None)
    for event in late:
        await apply(handlers, sessions, [event])
        if cursor is not None:
            more, cursor = await read(tenants, "feedback", tenant, limit, cursor)
            seen += more
    while cursor is not None:
        more, cursor = await read(tenants, "feedback", tenant, limit, cursor)
        seen += more
    assert seen == [row for row in newest_first([*events, *late]) if row in set(seen)]
    assert [row for row in seen if row in newest_first(events)] == newest_first(events)
