"""Each event's spans are in its own trace, and disabled tracing adds no overhead."""

from collections.abc import Iterator

import asyncpg
import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from touchpoint.base import tracing
from touchpoint.contracts.record import encode
from touchpoint.db.engine import raw_connection, transaction
from touchpoint.db.spans import Statement, tell
from touchpoint.http.spans import traced
from touchpoint.http.timing import Timed
from touchpoint.kafka.producer import Producer
from touchpoint.process.tracing import provider
from touchpoint.testing import eventually
from touchpoint.testing.factories import feedback, usage_reported


@pytest.fixture
def spans() -> Iterator[InMemorySpanExporter]:
    """The exporter that collects spans. Request it before any fixture that connects to a database."""
    exporter = InMemorySpanExporter()
    tracing.start(provider("tests", "all", SimpleSpanProcessor(exporter)))
    yield exporter
    tracing.stop()


def traceparent(number: int, *, kept: bool = True) -> str:
    return f"00-{number:032x}-{1:016x}-0{int(kept)}"


def of_trace(spans: InMemorySpanExporter, number: int) -> dict[str, ReadableSpan]:
    """The spans of a trace, by name."""
    return {span.name: span for span in spans.get_finished_spans() if span.context.trace_id == number}


async def test_each_event_of_a_batch_has_its_spans_in_its_own_trace(spans, log, ledger, consuming):
    await log.append(*(feedback(id=f"e{n}", traceparent=traceparent(n)) for n in (1, 2)))
    async with consuming():
        await eventually(lambda: of_trace(spans, 2))
    for number in (1, 2):
        by_name = of_trace(spans, number)
        process, handler = by_name["process touchpoints.v1"], by_name["write_down"]
        assert process.parent.span_id == 1
        assert process.attributes["cloudevents.event_id"] == f"e{number}"
        assert process.attributes["touchpoint.outcome"] == "applied"
        assert handler.parent.span_id == process.context.span_id
        assert by_name["INSERT ledger"].parent.span_id == handler.context.span_id
        for statement in ("INSERT inbox", "COMMIT"):
            assert by_name[statement].parent.span_id == process.context.span_id


async def test_a_trace_that_is_not_sampled_gets_no_spans(spans, log, ledger, consuming):
    await log.append(
        feedback(id="e1", traceparent=traceparent(1, kept=False)),
        feedback(id="e2"),
        feedback(id="e3", traceparent=traceparent(3)),
    )
    async with consuming():
        await eventually(lambda: of_trace(spans, 3))
    assert {span.context.trace_id for span in spans.get_finished_spans()} == {3}


async def test_a_duplicates_trace_has_no_handler_span(spans, log, ledger, consuming):
    again = feedback(id="e1", traceparent=traceparent(1))
    await log.append(feedback(id="e1"), again, usage_reported(id="e2", traceparent=traceparent(2)))
    async with consuming():
        await eventually(lambda: of_trace(spans, 1))
    by_name = of_trace(spans, 1)
    assert by_name["process touchpoints.v1"].attributes["touchpoint.outcome"] == "duplicate"
    assert "write_down" not in by_name
    assert of_trace(spans, 2) == {}


async def test_a_dead_letters_trace_contains_the_reason(spans, log, ledger, poison, consuming):
    poison.add("e1")
    await log.append(feedback(id="e1", traceparent=traceparent(1)))
    async with consuming():
        await eventually(lambda: of_trace(spans, 1))
    process = of_trace(spans, 1)["process touchpoints.v1"]
    assert not process.status.is_ok
    assert "this customer breaks us" in process.status.description


async def test_a_record_is_sent_with_the_traceparent_of_its_span(spans, kafka, log):
    producer = Producer(kafka, "tests")
    await producer.start()
    outcomes = await producer.send_all([encode(feedback(traceparent=traceparent(7))), encode(feedback())])
    await producer.stop()
    assert outcomes == [None, None]
    first, second = spans.get_finished_spans()
    assert (first.context.trace_id, first.parent.span_id) == (7, 1)
    assert second.parent is None
    assert second.context.trace_id != 7


async def test_a_requests_span_does_not_contain_an_exceptions_message(spans):
    async def broken(*_):
        raise RuntimeError("jo@example.com is unknown")

    with pytest.raises(RuntimeError):
        await traced(Timed(broken, "/v1/any"))({"type": "http", "method": "GET", "headers": []}, None, None)
    [span] = spans.get_finished_spans()
    assert (span.name, span.status.is_ok) == ("GET /v1/any", False)
    assert "jo@example.com" not in span.to_json()


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("INSERT INTO inbox (a) SELECT a FROM unnest($1) AS c ON CONFLICT DO UPDATE SET a = 1", "INSERT inbox"),
        ("WITH l AS (SELECT 1 FROM offsets FOR UPDATE OF offsets) UPDATE offsets SET next = 2", "UPDATE offsets"),
        ("\nSELECT 1\n  FROM clocks JOIN unnest($1) USING (id)\n   FOR UPDATE OF clocks", "SELECT clocks"),
        ("SELECT f.* FROM set_config('a', $1, true), LATERAL (SELECT 1 FROM feedback) AS f", "SELECT feedback"),
        ("DELETE FROM outbox WHERE id = ANY($1)", "DELETE outbox"),
        ("COPY feedback", "COPY feedback"),
        ("COMMIT;", "COMMIT"),
    ],
)
def test_a_statements_span_is_named_after_operation_and_table(spans, text, name):
    tell(tracing.tracer(), Statement(text, 1, 2))
    [span] = spans.get_finished_spans()
    assert (span.name, span.start_time, span.end_time) == (name, 1, 2)


async def test_tracing_is_off_by_default(ledger):
    assert tracing.tracer() is None
    async with transaction(ledger.sessions) as session:
        assert type(await raw_connection(session)) is asyncpg.Connection


@pytest.mark.parametrize("broken", ["00-zz", "", "00-" + "0" * 32 + "-" + "0" * 16 + "-01", None])
def test_a_malformed_traceparent_begins_a_new_trace(spans, broken):
    span = tracing.tracer().start_span("any", tracing.within(broken))
    assert span.parent is None
