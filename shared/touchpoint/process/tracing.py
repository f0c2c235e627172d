"""Where spans go: by OTLP over HTTP to the collector that the SDK's environment names."""

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import SpanProcessor, TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def provider(service: str, role: str, processor: SpanProcessor | None = None) -> TracerProvider:
    """What makes a process's spans; `processor` takes them instead."""
    resource = Resource.create({"service.namespace": "touchpoint", "service.name": service, "touchpoint.role": role})
    made = TracerProvider(resource=resource, shutdown_on_exit=False)
    made.add_span_processor(processor or BatchSpanProcessor(OTLPSpanExporter()))
    return made
