"""The live display of the services' metrics."""

import io

import httpx
from rich.console import Console

from touchpoint.local import flow
from touchpoint.local.services import FEEDBACK

METRICS = """\
# TYPE touchpoint_feedback_stored_total counter
touchpoint_feedback_stored_total{kind="nps",channel="web"} 1200
touchpoint_feedback_stored_total{kind="csat",channel="web"} 34
# TYPE touchpoint_consumer_lag_records gauge
touchpoint_consumer_lag_records{consumer="feedback-svc",topic="touchpoints.v1",partition="0"} 5
touchpoint_consumer_lag_records{consumer="feedback-svc",topic="touchpoints.v1",partition="1"} 2
"""


def answer(request: httpx.Request) -> httpx.Response:
    """Only feedback-svc answers."""
    if request.url.port != 9081:
        raise httpx.ConnectError("refused")
    return httpx.Response(200, text=METRICS)


async def read() -> flow.Readings:
    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as client:
        return await flow.read(client, 8080)


async def test_counters_and_lag_are_summed_over_their_labels() -> None:
    assert "feedback stored 1,234" in flow.line(await read())
    assert flow.line(await read()).endswith("lag 7")


def rows(now: flow.Readings, before: flow.Readings) -> dict[str, list[str]]:
    """The cells of the table by service."""
    console = Console(width=120, file=io.StringIO())
    console.print(flow.table(now, before))
    lines = [line for line in console.file.getvalue().splitlines() if line.startswith("│")]
    cells = [[cell.strip() for cell in line.strip("│").split("│")] for line in lines]
    return {row[0]: row[1:] for row in cells}


async def test_the_table_shows_rates_and_services_that_do_not_answer() -> None:
    now = await read()
    earlier = {FEEDBACK: flow.Reading(now[FEEDBACK].moment - 2, {"touchpoint_feedback_stored_total": 1134})}
    shown = rows(now, earlier)
    assert shown["feedback-svc"] == ["1,234", "feedback stored", "50.0", "7", ""]
    assert shown["metrics-svc"] == ["", "not answering", "", "", ""]


async def test_a_counter_that_was_reset_has_no_rate() -> None:
    now = await read()
    earlier = {FEEDBACK: flow.Reading(now[FEEDBACK].moment - 2, {"touchpoint_feedback_stored_total": 99_999})}
    assert rows(now, earlier)["feedback-svc"][2] == ""
