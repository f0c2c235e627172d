"""Trace spans of events: sent to Kafka, and applied by a consumer."""

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

_SPAN_ATTRIBUTES = {
    "ce_id": "cloudevents.event_id",
    "ce_source": "cloudevents.event_source",
    "ce_type": "cloudevents.event_type",
    "ce_tenant": "touchpoint.tenant",
}
"""The headers copied to a span, with their attribute names. Not subject and key, which identify the customer."""


class Sending:
    """The producer spans of the records of one send.

    A record with a traceparent continues that trace; one without starts a new trace, linked with the current request.
    """

    def __init__(self, tracer: Tracer) -> None:
        request = get_current_span().get_span_context()
        self._tracer = tracer
        self._links = [Link(request)] if request.is_valid else []
        self._spans: list[Span] = []

    async def begin(self, records: Sequence[Record]) -> list[Record]:
        """Start the spans; returns the records to send, each with the traceparent of its span."""
        begun, time_slice = list[Record](), TimeSlice()
        for record in records:
            begun.append(self._with_span(record))
            if time_slice.expired():
                await time_slice.pause()
        return begun

    async def end(self, errors: Iterable[Exception | None]) -> None:
        """End the spans. `errors`: for each record None or its error, as `Producer.send_all` returns them."""
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


async def emit_applied(tape: Tape, operation: str, consumer: str, applied: Iterable[tuple["Entry", str]]) -> None:
    """Emit the consumer spans of a batch that was just committed. `applied`: its entries with their outcomes.

    Each event's trace gets the statements of the whole batch, and of the handlers those that handled the event.
    """
    tracer = tracing.tracer()
    if tracer is None:
        return
    ended, time_slice = time.time_ns(), TimeSlice()
    for entry, outcome in applied:
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
        _emit_work(tracer, tape, set_span_in_context(span), entry, outcome)
        if entry.dead is not None:
            span.set_status(Status(StatusCode.ERROR, str(entry.dead)))
        span.end(ended)
        if time_slice.expired():
            await time_slice.pause()


def _emit_work(tracer: Tracer, tape: Tape, context: Context, entry: "Entry", outcome: str) -> None:
    for statement in tape.statements:
        tell(tracer, statement, context)
    if outcome != "applied":
        return
    for step in tape.steps:
        if entry.prepared is None or entry.prepared[step.number] is not None:
            tell_step(tracer, step, context)


def _traceparent(record: Record) -> str | None:
    value = attributes(record.headers).get(tracing.TRACEPARENT)
    return None if value is None else value.decode("ascii", "replace")


def _attributes(record: Record, operation: str) -> dict[str, AttributeValue]:
    copied = {
        _SPAN_ATTRIBUTES[name]: (value or b"").decode("utf-8", "replace")
        for name, value in attributes(record.headers).items()
        if name in _SPAN_ATTRIBUTES
    }
    return {
        "messaging.system": "kafka",
        "messaging.destination.name": record.topic,
        "messaging.operation.name": operation,
        "messaging.operation.type": "send" if operation == "send" else "process",
        **copied,
    }
