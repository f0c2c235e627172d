"""Traces by OpenTelemetry, off unless asked for: what became of an event, from the gateway to each database write.

Where spans go, and of which share of the traces, the SDK is told by its own environment variables. All others ask for
the `tracer` first: it is None while tracing is off, and nothing here costs anything then.
"""

from threading import Thread
from typing import TYPE_CHECKING

from opentelemetry.context import Context
from opentelemetry.trace import Span, Tracer, format_span_id, format_trace_id, get_current_span
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

TRACEPARENT = "traceparent"
STOP_SECONDS = 3
"""The end of a process waits so long for its last spans to be taken: a collector that is away must not hold it."""

_SAMPLED = tuple("13579bdf")
"""What a traceparent may end with where its flag `sampled` is set."""
_PROPAGATOR = TraceContextTextMapPropagator()


class _Process:
    """What this process has of the SDK while tracing is on."""

    provider: "TracerProvider | None" = None
    tracer: Tracer | None = None


def start(provider: "TracerProvider") -> None:
    """Make spans from now on."""
    _Process.provider = provider
    _Process.tracer = provider.get_tracer("touchpoint")


def stop() -> None:
    """Send what is left, within a bound, and make no more spans."""
    if _Process.provider is not None:
        last = Thread(target=_Process.provider.shutdown, daemon=True)
        last.start()
        last.join(STOP_SECONDS)
        _Process.provider = _Process.tracer = None


def tracer() -> Tracer | None:
    """What makes spans; None while tracing is off."""
    return _Process.tracer


def current() -> str | None:
    """The traceparent of the span this task is within, if there is one."""
    span = get_current_span()
    return traceparent(span) if span.get_span_context().is_valid else None


def traceparent(span: Span) -> str:
    """What tells others of a span (W3C Trace Context)."""
    found = span.get_span_context()
    return f"00-{format_trace_id(found.trace_id)}-{format_span_id(found.span_id)}-{found.trace_flags:02x}"


def within(traceparent: str | None) -> Context:
    """The context of a span elsewhere, to be the parent of one here; without one, or a broken one, of a new trace."""
    return _PROPAGATOR.extract({TRACEPARENT: traceparent}, Context()) if traceparent else Context()


def is_sampled(traceparent: str | None) -> bool:
    """Whether the trace is one of those that are kept: its first process has decided that for all others."""
    return traceparent is not None and traceparent.endswith(_SAMPLED)


def is_recording() -> bool:
    """Whether this task is within a span that is kept."""
    return get_current_span().is_recording()
