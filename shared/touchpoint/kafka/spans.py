"""Spans of events on their way: sent to Kafka, and applied by a consumer."""

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

import msgspec
from opentelemetry.context import Context
from opentelemetry.trace import Link, Span, SpanKind, Status, StatusCode, Tracer, get_current_span, set_span_in_context
from opentelemetry.util.types import AttributeValue

from touchpoint.base import tracing
from touchpoint.base.time_slice import TimeSlice
from touchpoint.contracts.record import Record, attributes
from touchpoint.db.spans import Tape, tell, tell_step

if TYPE_CHECKING:
    from touchpoint.kafka.batch import Entry

_TOLD = {
    "ce_id": "cloudevents.event_id",
    "ce_source": "cloudevents.event_source",
    "ce_type": "cloudevents.event_type",
    "ce_tenant": "touchpoint.tenant",
}
"""Which headers a span tells of, and how OpenTelemetry calls them. Not whose event it is: the subject, the key."""


class Sending:
    """The spans of records that are being sent.

    An event goes on in the trace it came with; one without is the beginning of its own, linked with the request.
    """

    def __init__(self, tracer: Tracer) -> None:
        request = get_current_span().get_span_context()
        self._tracer = tracer
        self._links = [Link(request)] if request.is_valid else []
        self._spans: list[Span] = []

    async def begin(self, records: Sequence[Record]) -> list[Record]:
        """What to send instead: each record with its span's traceparent."""
        begun, time_slice = list[Record](), TimeSlice()
        for record in records:
            begun.append(self._with_span(record))
            if time_slice.expired():
                await time_slice.pause()
        return begun

    async def end(self, errors: Iterable[Exception | None]) -> None:
        """Kafka has them, or not: for each record None or its error, as `Producer.send_all` answers."""
        time_slice = TimeSlice()
        for span, error in zip(self._spans, errors, strict=True):
            if error is not None:
                span.set_status(Status(StatusCode.ERROR, str(error)))
            span.end()
            if time_slice.expired():
                await time_slice.pause()

    def _with_span(self, record: Record) -> Record:
        given = _traceparent(record)
        span = self._tracer.start_span(
            f"send {record.topic}",
            tracing.within(given),
            SpanKind.PRODUCER,
            links=None if given else self._links,
        )
        if span.is_recording():
            span.set_attributes(_attributes(record, "send"))
        self._spans.append(span)
        others = [header for header in record.headers if header[0] != tracing.TRACEPARENT]
        own = (tracing.TRACEPARENT, tracing.traceparent(span).encode())
        return msgspec.structs.replace(record, headers=[*others, own])


async def tell_applied(tape: Tape, operation: str, consumer: str, found: Iterable[tuple["Entry", str]]) -> None:
    """Make the spans of a batch that was committed just now: its entries with what became of each.

    Each event's trace gets what was done for all of them, and of the handlers those that had to do with it.
    """
    tracer = tracing.tracer()
    if tracer is None:
        return
    ended, time_slice = time.time_ns(), TimeSlice()
    for entry, outcome in found:
        given = _traceparent(entry.record)
        if outcome == "ignored" or not tracing.is_sampled(given):
            continue
        span = tracer.start_span(
            f"{operation} {entry.record.topic}",
            tracing.within(given),
            SpanKind.CONSUMER,
            {
                **_attributes(entry.record, operation),
                "messaging.consumer.group.name": consumer,
                "messaging.destination.partition.id": str(entry.record.partition),
                "messaging.kafka.offset": entry.record.offset,
                "touchpoint.outcome": outcome,
            },
            start_time=tape.started,
        )
        _tell_work(tracer, tape, set_span_in_context(span), entry, outcome)
        if entry.dead is not None:
            span.set_status(Status(StatusCode.ERROR, str(entry.dead)))
        span.end(ended)
        if time_slice.expired():
            await time_slice.pause()


def _tell_work(tracer: Tracer, tape: Tape, context: Context, entry: "Entry", outcome: str) -> None:
    for statement in tape.statements:
        tell(tracer, statement, context)
    if outcome != "applied":
        return
    for step in tape.steps:
        if entry.prepared is None or entry.prepared[step.number] is not None:
            tell_step(tracer, step, context)


def _traceparent(record: Record) -> str | None:
    found = attributes(record.headers).get(tracing.TRACEPARENT)
    return None if found is None else found.decode("ascii", "replace")


def _attributes(record: Record, operation: str) -> dict[str, AttributeValue]:
    found = attributes(record.headers)
    told = {_TOLD[name]: (value or b"").decode("utf-8", "replace") for name, value in found.items() if name in _TOLD}
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": record.topic,
        "messaging.operation.name": operation,
        "messaging.operation.type": "send" if operation == "send" else "process",
        **told,
    }
