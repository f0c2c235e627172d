"""OpenTelemetry traces of an event from the gateway to each database write; off by default.

The SDK's own environment variables set the exporter and the share of traces that is kept. Callers check `tracer()`
first: it is None while tracing is off, so that tracing then costs nothing.
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
"""Seconds that a stopping process waits for its last spans to be exported, so that an absent collector cannot block
it."""

_SAMPLED = tuple("13579bdf")
"""The last hexadecimal digit of a traceparent whose flag `sampled` (the lowest bit) is set."""
_PROPAGATOR = TraceContextTextMapPropagator()


class _Process:
    """The tracer provider and tracer of this process; None while tracing is off."""

    provider: "TracerProvider | None" = None
    tracer: Tracer | None = None


def start(provider: "TracerProvider") -> None:
    """Turn tracing on."""
    _Process.provider = provider
    _Process.tracer = provider.get_tracer("touchpoint")


def stop() -> None:
    """Export the remaining spans, for STOP_SECONDS at most, and turn tracing off."""
    if _Process.provider is not None:
        last = Thread(target=_Process.provider.shutdown, daemon=True)
        last.start()
        last.join(STOP_SECONDS)
        _Process.provider = _Process.tracer = None


def tracer() -> Tracer | None:
    """The tracer of this process; None while tracing is off."""
    return _Process.tracer


def current() -> str | None:
    """The traceparent of the current task's span; None if there is none."""
    span = get_current_span()
    return traceparent(span) if span.get_span_context().is_valid else None


def traceparent(span: Span) -> str:
    """The header value that passes a span on to another process (W3C Trace Context)."""
    context = span.get_span_context()
    return f"00-{format_trace_id(context.trace_id)}-{format_span_id(context.span_id)}-{context.trace_flags:02x}"


def within(traceparent: str | None) -> Context:
    """The context of another process's span, as parent of a span here; if missing or malformed, that of a new trace."""
    return _PROPAGATOR.extract({TRACEPARENT: traceparent}, Context()) if traceparent else Context()


def is_sampled(traceparent: str | None) -> bool:
    """Whether this trace is recorded. The first process of a trace decides that for all others."""
    return traceparent is not None and traceparent.endswith(_SAMPLED)


def is_recording() -> bool:
    """Whether the current task's span is recorded."""
    return get_current_span().is_recording()
