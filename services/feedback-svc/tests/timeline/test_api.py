from collections.abc import Callable
from datetime import timedelta

import httpx

from feedback_svc.handlers import handlers
from touchpoint.db.engine import Sessions
from touchpoint.testing import apply
from touchpoint.testing import factories as make
from touchpoint.testing.api import get, refused

Client = Callable[..., httpx.AsyncClient]


async def test_the_timeline_shows_a_customers_touchpoints_newest_first(sessions: Sessions, client: Client) -> None:
    events = [
        make.ticket_opened(),
        make.feedback(score=2, time=make.NOON + timedelta(hours=1)),
        make.ticket_replied(time=make.NOON + timedelta(hours=2)),
        make.feedback(customer_id="customer-2"),
    ]
    await apply(handlers, sessions, events)
    body = await get(client(), "/v1/customers/customer-1/timeline")
    titles = [entry["title"] for entry in body["items"]]
    assert titles == [
        "Agent replied on ticket ticket-1", "NPS 2 on 0–10 by email", "Ticket ticket-1 opened: It does not start",
    ]  # fmt: skip
    entry = body["items"][1]
    assert (entry["type"], entry["occurred_at"]) == ("feedback.submitted", "2026-11-20T13:00:00Z")
    assert entry["details"]["score"] == {"value": 2, "min": 0, "max": 10}
    assert (await get(client(), f"/v1/feedback/{entry['id']}"))["text"] == entry["details"]["text"]


async def test_a_timeline_can_be_filtered_by_type_and_time(sessions: Sessions, client: Client) -> None:
    kinds = (make.ticket_opened, make.ticket_replied, make.feedback, make.ticket_replied)
    await apply(handlers, sessions, [kind(time=make.NOON + timedelta(hours=n)) for n, kind in enumerate(kinds)])
    body = await get(
        client(),
        "/v1/customers/customer-1/timeline",
        type=["ticket.opened", "ticket.replied"],
        to="2026-11-20T15:00:00Z",
    )
    assert [entry["type"] for entry in body["items"]] == ["ticket.replied", "ticket.opened"]


async def test_an_unknown_customer_has_an_empty_timeline(client: Client) -> None:
    assert await get(client(), "/v1/customers/nobody/timeline") == {"items": [], "next_cursor": None}


async def test_a_customers_id_may_have_slashes_and_other_signs(sessions: Sessions, client: Client) -> None:
    await apply(handlers, sessions, [make.ticket_opened(customer_id="crm/42/timeline?#ü")])
    body = await get(client(), "/v1/customers/crm%2F42%2Ftimeline%3F%23%C3%BC/timeline")
    assert len(body["items"]) == 1


async def test_an_invalid_type_or_customer_id_is_422_and_the_problem_names_it(client: Client) -> None:
    assert await refused(client(), "/v1/customers/c/timeline", type="ticket.burnt") == ["type.0"]
    assert await refused(client(), "/v1/customers/a%00b/timeline") == ["customer_id"]
