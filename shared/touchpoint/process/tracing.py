"""Export spans by OTLP over HTTP to the collector named by the SDK's environment variables."""

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def provider(service: str, role: str, processor: SpanProcessor | None = None) -> TracerProvider:
    """The tracer provider of a process. `processor` replaces the export by OTLP, for tests."""
    resource = Resource.create({"service.namespace": "touchpoint", "service.name": service, "touchpoint.role": role})
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    made.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
    return made
